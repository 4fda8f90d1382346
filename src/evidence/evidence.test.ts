/** Findings are stored, not computed twice and not mixed; the page follows from the numbers. */
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { type Device, openDevice } from '../engine/index.js';
import { ConfigError, DataError, StorageError } from '../errors.js';
import { OWN_MAP, taskOf } from '../tasks/index.js';
import { AIMS, aimsTable } from './aims.js';
import {
  type Bench,
  benchOf,
  type Finding,
  Findings,
  gather,
  readFindings,
  SECTIONS,
  takeFindings,
  type Work,
  writePage,
} from './index.js';
import { PowerMeter } from './power.js';
import { recipeOf } from './recipe.js';
import { parametersIn, siblingModel } from './siblings.js';
import { costModel } from './subject.js';
import { exponentOf } from './time.js';
import { type Stage, trialWorks } from './trial.js';
import type { Wanted } from './work.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-evidence-test-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));

const work: Work = { name: 'ability/parity/ssm', asks: () => [], run: async () => undefined };
const settings = { size: 'nano', stages: 'parity: 3 x 2', rate: 0.01 };

function quickWork(name: string): Work {
  return SECTIONS.flatMap((section) => section.works({ quick: true })).find((each) => each.name === name)!;
}

/** The current settings of a finding of `--quick`. */
function askedToday(of: string): Finding['settings'] {
  return quickWork(work.name)
    .asks()
    .find((wanted) => wanted.of === of)!.settings;
}

/** Runs the bench once; returns the new findings. */
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
    'answers: 40 tokens': 64,
    parameters: 5,
  }));
  await findings.add(...fresh);
  return { numbers, fresh };
}

test('a finding is computed once, stored in a file, and computed again with other settings', async () => {
  const folder = join(here, 'kept');
  const findings = await Findings.open(folder);
  const first = await foundBy(findings, { of: 'seed 1', settings }, 0.5);
  expect(first.fresh).toMatchObject([{ key: 'ability/parity/ssm/seed 1', seed: 1, device: 'cpu' }]);
  await findings.close();
  const again = await Findings.open(folder);
  const second = await foundBy(again, { of: 'seed 1', settings }, 0.7);
  expect(second).toMatchObject({ numbers: { 'score: 40 tokens': 0.5, parameters: 5 }, fresh: [] });
  const other = await foundBy(again, { of: 'seed 1', settings: { ...settings, size: 'small' } }, 0.9);
  expect(other.fresh.length).toBe(1);
  expect(again.all.map(({ numbers }) => numbers['score: 40 tokens'])).toEqual([0.9]);
  await again.close();
});

test('two processes cannot add to one folder; the lock of an ended process is ignored', async () => {
  const folder = join(here, 'locked');
  const both = await Promise.allSettled([Findings.open(folder), Findings.open(folder)]);
  const [first, ...others] = both.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  expect(others).toEqual([]);
  await expect(Findings.open(folder)).rejects.toThrow(StorageError);
  await first!.close();
  writeFileSync(join(folder, 'lock-999999999'), '');
  await (await Findings.open(folder)).close();
  writeFileSync(join(folder, 'findings.json'), '{"findings":[{"key":1}]}');
  await expect(Findings.open(folder)).rejects.toThrow(ConfigError);
  writeFileSync(join(folder, 'findings.json'), '{"findings":[]}');
  await (await Findings.open(folder)).close();
});

test('a failing process is reported, and its earlier findings are kept', async () => {
  const folder = join(here, 'failing');
  const findings = await Findings.open(folder);
  const elsewhere = await Findings.open(join(here, 'elsewhere'));
  const { fresh } = await foundBy(elsewhere, { of: 'seed 1', settings: askedToday('seed 1') }, 0.25);
  await elsewhere.close();
  // It leaves a file in the temporary folder, which is removed with it.
  const script = `import('node:fs').then(({ mkdtempSync }) => {
    process.stdout.write('a library says hello\\n' + process.argv[1] + '\\n');
    process.stderr.write(mkdtempSync(require('node:os').tmpdir() + '/left-') + ' is no such thing\\n');
    process.exitCode = 1;
  })`;
  const failures: string[] = [];
  const gathered = (line: string) =>
    gather({
      ...{ works: [work], findings, jobs: 2, signal: new AbortController().signal },
      call: () => [process.execPath, '-e', script, line],
      onFinding: () => undefined,
      onFailure: ({ name }, message) => failures.push(`${name}: ${message}`),
    });
  await gathered(JSON.stringify(fresh[0]));
  const [, left] = /^ability\/parity\/ssm: (.*) is no such thing$/.exec(failures[0]!)!;
  expect(left).toMatch(/heddle-evidence-/);
  expect(readdirSync(tmpdir())).not.toContain(left!.split('/').at(-2));
  expect(findings.all.map(({ key }) => key)).toEqual(['ability/parity/ssm/seed 1']);
  // A value that JSON cannot represent is not stored, since the file would be unreadable.
  await gathered(
    JSON.stringify({ ...fresh[0], key: 'ability/parity/ssm/seed 2', numbers: { loss: Number.NaN } }),
  );
  expect(failures[1]).toMatch(/no finding: numbers.loss/);
  expect(findings.all.length).toBe(1);
  await writePage(folder, findings, SECTIONS, { quick: true });
  const page = readFileSync(join(folder, 'README.md'), 'utf8');
  expect(page).toMatch(/\| design \| parameters \| rate \| 40 tokens: 64 answers \| seeds \|/);
  expect(page).toMatch(/\| ssm \| 0\.00M \| 0\.003 \| 25\.0 % \| 1 \|/);
  expect(page).toContain('guessing reaches 50.0 %');
  expect(readFileSync(join(folder, 'ability.svg'), 'utf8')).toMatch(/^<svg/);
  await findings.close();
  expect((await Findings.read(folder)).all.length).toBe(1);
});

test('NaN is not a finding', async () => {
  const findings = await Findings.open(join(here, 'infinite'));
  const found = foundBy(findings, { of: 'seed 1', settings }, Number.NEGATIVE_INFINITY);
  await expect(found).rejects.toThrow(DataError);
  await expect(found).rejects.toThrow(/seed 1 was found with a score: 40 tokens of -Infinity/);
  await findings.close();
});

test('the page omits findings with outdated settings, deletes those that no work produces, and tolerates missing scores', async () => {
  const folder = join(here, 'stale');
  const findings = await Findings.open(folder);
  const { fresh } = await foundBy(findings, { of: 'seed 1', settings: askedToday('seed 1') }, 0.625);
  const asked = fresh[0]!;
  await findings.add(
    { ...asked, key: 'ability/parity/transformer/seed 1', settings: { ...asked.settings, recipe: 'of old' } },
    { ...asked, key: 'ability/chess/ssm/seed 1' },
  );
  await writePage(folder, findings, SECTIONS, { quick: true });
  const page = readFileSync(join(folder, 'README.md'), 'utf8');
  expect(page).toContain('There are 1 findings');
  expect(page).toContain('62.5 %');
  expect(page).not.toMatch(/transformer \||chess/);
  // Findings with other settings stay in the file, and those of a removed task do not.
  const kept = [asked.key, 'ability/parity/transformer/seed 1'];
  expect(new Set((await readFindings(join(folder, 'findings.json'))).map(({ key }) => key))).toEqual(
    new Set(kept),
  );
  await findings.add({ ...asked, numbers: { diverged: 1 } });
  await writePage(folder, findings, SECTIONS, { quick: true });
  expect(readFileSync(join(folder, 'README.md'), 'utf8')).toMatch(
    /\| ssm \| - \| 0\.003 \| 1, of which 1 diverged \|/,
  );
  await findings.close();
});

test('findings of another machine are taken over if their settings are those of today, and no later ones are here', async () => {
  const folder = mkdtempSync(join(here, 'taken-'));
  const [one, two] = [1, 2].map((seed): Wanted => ({ of: `seed ${seed}`, settings })) as [Wanted, Wanted];
  const findingOf = (wanted: Wanted, at: string, score: number): Finding => ({
    ...{ key: `${work.name}/${wanted.of}`, settings: wanted.settings, numbers: { score }, device: 'cpu' },
    ...{ command: 'heddle evidence', version: '0', at, seconds: 1 },
    machine: { cpu: 'any', cores: 1, memoryBytes: 1, system: 'any', node: 'v20' },
  });
  const findings = await Findings.open(folder);
  await findings.add(findingOf(one, '2026-02-02T00:00:00.000Z', 2));
  const outdated = { ...one, settings: { ...settings, size: 'other' } };
  const others = [
    findingOf(one, '2026-01-01T00:00:00.000Z', 1),
    findingOf(outdated, '2026-03-03T00:00:00.000Z', 3),
    findingOf({ ...one, of: 'gone' }, '2026-03-03T00:00:00.000Z', 4),
    findingOf(two, '2026-01-02T00:00:00.000Z', 6),
    findingOf(two, '2026-01-01T00:00:00.000Z', 5),
  ];
  const works = [{ ...work, asks: () => [one, two] }];
  expect(await takeFindings(findings, others, works)).toEqual({ taken: 1, outdated: 2, known: 2 });
  expect(findings.all.map(({ numbers }) => numbers.score)).toEqual([2, 6]);
  const later = [findingOf(one, '2026-03-01T00:00:00.000Z', 7)];
  expect(await takeFindings(findings, later, works)).toEqual({ taken: 1, outdated: 0, known: 0 });
  await findings.close();
  expect((await Findings.read(folder)).all.map(({ numbers }) => numbers.score)).toEqual([7, 6]);
});

test("the recipe's digest changes with the design, size or keys", () => {
  const one = recipeOf('ssm', 'nano', { ssm_state_size: 4 });
  expect(recipeOf('ssm', 'nano', { ssm_state_size: 4 })).toBe(one);
  const others = [
    recipeOf('ssm', 'nano', { ssm_state_size: 8 }),
    recipeOf('transformer', 'nano', { ssm_state_size: 4 }),
    recipeOf('ssm', 'small', { ssm_state_size: 4 }),
    recipeOf('mambavision', 'nano'),
    recipeOf('mambavision', 'nano', { ssm_state_size: 4 }),
  ];
  expect(new Set([one, ...others]).size).toBe(6);
});

test('work produces each finding that it declares, once', async () => {
  for (const section of SECTIONS) {
    // One work of each kind, since the designs of a trial differ in nothing else.
    const works = section.works({ quick: section.name !== 'energy' });
    for (const each of [works[0]!, works.at(-1)!]) {
      const device = { name: each.devices?.includes('cpu') === false ? 'cuda' : 'cpu' } as Device;
      const wanted: Wanted[] = [];
      const finding: Bench['finding'] = async (one) => {
        wanted.push(one);
        return { loss: 1 / wanted.length };
      };
      await each.run({ device, finding });
      const told = ({ of, settings }: Wanted): string => `${of} ${JSON.stringify(settings)}`;
      const asked = new Set(each.asks().map(told));
      expect(wanted.length).toBeGreaterThan(0);
      expect(wanted.map(told).filter((one) => !asked.has(one))).toEqual([]);
      expect(new Set(wanted.map(told)).size).toBe(wanted.length);
    }
  }
});

test('a diverging rate is recorded, and the others continue; a stage ends when its task is learned, or with its best weights', async () => {
  const device = await openDevice('cpu', { threads: 1 });
  const tiny = {
    hidden_size: 16,
    mamba_num_heads: 1,
    num_attention_heads: 1,
    num_key_value_heads: 1,
    ssm_state_size: 4,
  };
  const trial = (rates: number[]) =>
    trialWorks({
      ...{ section: 'ability', size: 'nano', designs: ['M'], set: tiny, rates, seeds: [5], tuning: 0.5 },
      stages: [{ task: 'parity', length: 4, steps: 6, batch: 2 }],
      ...{ count: 2, longest: 4 },
    })[0]!;
  const found = new Map<string, Finding['numbers']>();
  const bench: Bench = {
    device,
    async finding({ of }, find) {
      found.set(of, await find());
      return found.get(of)!;
    },
  };
  await trial([1e30, 1e-3]).run(bench);
  expect([...found.keys()]).toEqual(['rate 1e+30', 'rate 0.001', 'seed 5']);
  expect(found.get('rate 1e+30')).toEqual({ diverged: 1 });
  expect(found.get('seed 5')).toMatchObject({ 'answers: 4 tokens': 2 });
  await expect(trial([1e30, 1e31]).run(bench)).rejects.toThrow(
    /M diverges at each of the rates 1e\+30, 1e\+31/,
  );
  const ended = async (seed: number, ways: Partial<Stage>): Promise<Finding['numbers']> => {
    const [work] = trialWorks({
      ...{ section: 'ability', size: 'nano', designs: ['M'], set: tiny, rates: [3], seeds: [seed] },
      stages: [{ task: 'parity', length: 4, steps: 6, batch: 2, ...ways }],
      ...{ count: 2, longest: 4 },
    });
    await work!.run(bench);
    return found.get(`seed ${seed}`)!;
  };
  const untrained = await ended(6, { until: 0 });
  expect(untrained).toMatchObject({ tokens: 0, 'answers: 4 tokens': 2 });
  // At this rate each step is worse than none.
  expect((await ended(6, {})).loss).toBeGreaterThan(untrained.loss!);
  expect(await ended(6, { keep: 'best' })).toMatchObject({ tokens: 48, loss: untrained.loss });
  await device.dispose();
});

test('the instantaneous power is queried, or else the mean', async () => {
  for (const known of ['power.draw.instant', 'power.draw']) {
    const program = join(here, `fake-${known}`);
    const told = `case "$1" in --query-gpu=${known}) echo 250.5;; *) echo "[N/A]";; esac`;
    writeFileSync(program, `#!/bin/sh\n${told}\n[ "$4" = "-lms" ] && exec sleep 9\nexit 0\n`);
    chmodSync(program, 0o755);
    const meter = PowerMeter.start(program);
    while (!meter.isRunning) await new Promise((done) => setTimeout(done, 5));
    meter.expectRunning(1e6);
    expect(meter.stop()).toBe(250.5);
  }
  const silent = PowerMeter.start(join(here, 'no-such-program'));
  silent.expectRunning(100);
  expect(() => silent.expectRunning(6000)).toThrow(/tells no power/);
});

test('siblings have the same size, and names of work are unique', async () => {
  const sizes = ['transformer', 'ssm', 'hybrid-full', 'hybrid-selective'].map((name) =>
    parametersIn(costModel(name, 'small')),
  );
  expect(Math.max(...sizes) / Math.min(...sizes)).toBeLessThan(1.01);
  const parity = await taskOf('parity').prepare();
  const trained = ['transformer', 'ssm', 'hybrid-full', 'hybrid-selective'].map((name) =>
    parametersIn(siblingModel(parity, name, 'nano', { attention_score: 'convolution' })),
  );
  expect(Math.max(...trained) / Math.min(...trained)).toBeLessThan(1.01);
  for (const quick of [true, false]) {
    const names = SECTIONS.flatMap((section) => section.works({ quick }).map(({ name }) => name));
    expect(names.length).toBeGreaterThan(20);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  }
});

test('the table of aims has the findings beside the aims', async () => {
  const findings = await Findings.open(join(here, 'aims'));
  const { fresh } = await foundBy(findings, { of: 'seed 1', settings }, 0.5);
  const finding = (key: string, stages: string, numbers: Finding['numbers']): Finding => ({
    ...fresh[0]!,
    ...{ key, settings: { stages }, numbers },
  });
  const series = (task: string, design: string, error: number, ownMap: number) =>
    finding(`other/${task}/${design}/seed 1`, `${task}: 5 x 2`, {
      ...{ 'score: 24 values': error, 'baseline: linear': 0.004, 'baseline: seasonal naive': 0.05 },
      [`baseline: ${OWN_MAP}`]: ownMap,
    });
  const listops = (design: string, seed: number, accuracy: number) =>
    finding(`ability/listops/${design}/seed ${seed}`, 'listops@64: 5 x 2', { 'score: 256 tokens': accuracy });
  const mqar = (seed: number, accuracy: number) =>
    finding(`ability/mqar-64/MS/seed ${seed}`, 'mqar-64: 5 x 2', { 'score: 512 tokens': accuracy });
  const rows = aimsTable([
    // A design that is much better than the linear map beside it, and no better than the one that it begins with.
    ...[series('co2', 'ssm', 0.003, 0.0029), series('co2', 'transformer', 0.1, 0.0029)],
    ...[series('weather', 'ssm', 0.003, 0.00305), series('prices', 'ssm', 0.003, 0.0031)],
    ...[listops('hybrid-full', 1, 0.5), listops('hybrid-full', 2, 0.7), listops('transformer', 1, 0.7)],
    // One seed of a design does not count beside two of another.
    listops('hybrid-selective', 1, 0.9),
    ...[mqar(1, 0.999), mqar(2, 0.96), mqar(3, 1)],
    finding('other/mnist/ssm/seed 1', 'mnist: 5 x 2', { 'score: 9 images, 5 learned': 0.9846 }),
  ]).split('\n');
  const row = (of: string): string => rows.find((each) => each.startsWith(`| ${of}`))!;
  expect(row('carbon dioxide')).toBe(
    "| carbon dioxide, 24 months | below seasonal naive and linear; stricter: more than 2 % below each simple method and the linear map that it begins with | 0.003 (`ssm`, one seed), 3.4 % more than the model's linear map | linear 0.004; seasonal naive 0.05; the model's linear map 0.0029 | below linear and seasonal naive: yes; stricter: **no** ([what was tried](log.md#series)) |",
  );
  expect(row('weather')).toMatch(/1\.6 % less than the model's linear map .* \*\*no\*\*/);
  expect(row('prices')).toMatch(/3\.2 % less than the model's linear map .* yes \|$/);
  expect(row('ListOps')).toMatch(/60\.0 % \(`hybrid-full`\), transformer 70\.0 % .* \*\*no\*\*/);
  expect(row('64 pairs')).toMatch(/99\.9 %, worst 96\.0 % \(`MS`, 3 seeds\) \| guessing .* \*\*no\*\*/);
  // With one digit, it would be rounded to 98.5 %.
  expect(row('mnist (')).toMatch(/98\.46 %, worst 98\.46 % .* \*\*no\*\*/);
  expect(row('S5')).toMatch(/not measured .* not yet \(\[what was tried\]\(log\.md#s5\)\)/);
  await findings.close();
  // For a missed aim, the page links to a heading of the log.
  const log = readFileSync(new URL('../../docs/evidence/log.md', import.meta.url), 'utf8');
  const anchors = [...log.matchAll(/^## (.*)$/gm)].map(([, title]) =>
    title!
      .toLowerCase()
      .replace(/[^\w -]/g, '')
      .replaceAll(' ', '-'),
  );
  for (const { log: anchor } of AIMS) expect(anchors).toContain(anchor);
});

test('the exponent of a power law is fitted', () => {
  const of = (power: number) =>
    [2048, 4096, 8192].map((n) => ({ numbers: { context: n, seconds: 3e-6 * n ** power } }));
  expect(exponentOf(of(2))).toBe('2.00');
  expect(exponentOf(of(1.1))).toBe('1.10');
});
