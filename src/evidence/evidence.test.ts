/** What is found is kept, not found twice, and not mixed; what a page says of it follows from the numbers. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { Device } from '../engine/index.js';
import { ConfigError, StorageError } from '../errors.js';
import { taskOf } from '../tasks/index.js';
import { benchOf, type Finding, Findings, gather, SECTIONS, type Work, writePage } from './index.js';
import { parametersIn, siblingModel } from './siblings.js';
import { costModel } from './subject.js';
import { exponentOf } from './time.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-evidence-test-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));

const work: Work = { name: 'ability/parity/ssm', run: async () => undefined };
const settings = { size: 'nano', stages: 'parity: 3 x 2', rate: 0.01 };

/** Runs the bench once, and gives what it found anew. */
async function foundBy(
  findings: Findings,
  wanted: { of: string; settings: Finding['settings'] },
  value: number,
) {
  const fresh: Finding[] = [];
  const bench = benchOf({
    ...{ work, device: { name: 'cpu' } as Device, command: 'heddle evidence' },
    found: (each) => findings.found(each),
    onFinding: (finding) => fresh.push(finding),
  });
  const numbers = await bench.finding({ ...wanted, seed: 1 }, async () => ({
    'score: 40 tokens': value,
    parameters: 5,
  }));
  await findings.add(...fresh);
  return { numbers, fresh };
}

test('a finding is found once, kept in a file, and found anew with other settings', async () => {
  const folder = join(here, 'kept');
  const findings = await Findings.open(folder);
  const first = await foundBy(findings, { of: 'seed 1', settings }, 0.5);
  expect(first.fresh).toMatchObject([{ key: 'ability/parity/ssm/seed 1', seed: 1, device: 'cpu' }]);
  await findings.close();
  const again = await Findings.open(folder);
  const second = await foundBy(again, { of: 'seed 1', settings }, 0.7);
  expect(second).toEqual({ numbers: { 'score: 40 tokens': 0.5, parameters: 5 }, fresh: [] });
  const other = await foundBy(again, { of: 'seed 1', settings: { ...settings, size: 'small' } }, 0.9);
  expect(other.fresh.length).toBe(1);
  expect(again.all.map(({ numbers }) => numbers['score: 40 tokens'])).toEqual([0.9]);
  await again.close();
});

test('two that gather into one folder do not mix; what a dead one left is no hindrance', async () => {
  const folder = join(here, 'locked');
  const findings = await Findings.open(folder);
  await expect(Findings.open(folder)).rejects.toThrow(StorageError);
  await findings.close();
  writeFileSync(join(folder, 'running.lock'), '999999999');
  await (await Findings.open(folder)).close();
  writeFileSync(join(folder, 'findings.json'), '{"findings":[{"key":1}]}');
  await expect(Findings.open(folder)).rejects.toThrow(ConfigError);
  writeFileSync(join(folder, 'findings.json'), '{"findings":[]}');
  await (await Findings.open(folder)).close();
});

test('a failing process is told, and what it printed before is kept', async () => {
  const findings = await Findings.open(join(here, 'failing'));
  const elsewhere = await Findings.open(join(here, 'elsewhere'));
  const { fresh } = await foundBy(elsewhere, { of: 'seed 1', settings }, 0.25);
  await elsewhere.close();
  const script = `process.stdout.write(process.argv[1] + '\\n'); process.stderr.write('no such thing\\n'); process.exitCode = 1`;
  const failures: string[] = [];
  await gather({
    ...{ works: [work], findings, jobs: 2, signal: new AbortController().signal },
    call: () => [process.execPath, '-e', script, JSON.stringify(fresh[0])],
    onFinding: () => undefined,
    onFailure: ({ name }, message) => failures.push(`${name}: ${message}`),
  });
  expect(failures).toEqual(['ability/parity/ssm: no such thing']);
  expect(findings.all.map(({ key }) => key)).toEqual(['ability/parity/ssm/seed 1']);
  await writePage(join(here, 'failing'), findings, SECTIONS, { quick: true });
  const page = readFileSync(join(here, 'failing', 'README.md'), 'utf8');
  expect(page).toMatch(/\| ssm \| 0\.00M \| 0\.01 \| 25\.0 % \| 1 \|/);
  expect(page).toContain('guessing reaches 50.0 %');
  expect(readFileSync(join(here, 'failing', 'ability.svg'), 'utf8')).toMatch(/^<svg/);
  await findings.close();
});

test('siblings are of one size, and names of work are unique', async () => {
  const sizes = ['transformer', 'ssm', 'hybrid-full', 'hybrid-selective'].map((name) =>
    parametersIn(costModel(name, 'small')),
  );
  expect(Math.max(...sizes) / Math.min(...sizes)).toBeLessThan(1.01);
  const parity = await taskOf('parity').prepare();
  const trained = ['transformer', 'ssm', 'hybrid-full', 'hybrid-selective'].map((name) =>
    parametersIn(siblingModel(parity, name, 'nano', { attention_score: 'surprise' })),
  );
  expect(Math.max(...trained) / Math.min(...trained)).toBeLessThan(1.01);
  for (const quick of [true, false]) {
    const names = SECTIONS.flatMap((section) => section.works({ quick }).map(({ name }) => name));
    expect(names.length).toBeGreaterThan(20);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  }
});

test('the exponent of a power law is found', () => {
  const of = (power: number) =>
    [2048, 4096, 8192].map((n) => ({ numbers: { context: n, seconds: 3e-6 * n ** power } }));
  expect(exponentOf(of(2))).toBe('2.00');
  expect(exponentOf(of(1.1))).toBe('1.10');
});
