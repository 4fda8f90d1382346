/** Training runs: found wherever they lie, and read bit by bit while they grow. */
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findRuns, readRunLog } from './training-runs.js';

let here: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-runs-'));
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

const step = (step: number): string =>
  `${JSON.stringify({ time: 'now', event: 'step', step, loss: 1 / step, gradientNorm: 1, learningRate: 0.1, tokensPerSecond: 10 })}\n`;
const evaluation = (step: number): string =>
  `${JSON.stringify({ event: 'evaluation', step, loss: 2, perplexity: 7.4, tokens: 9 })}\n`;
const sample = (step: number): string =>
  `${JSON.stringify({ event: 'sample', step, prompt: 'It was', text: ' so.' })}\n`;

/** Makes a run with this log, and returns its log's path. */
function run(name: string, log: string): string {
  mkdirSync(join(here, name), { recursive: true });
  const path = join(here, name, 'metrics.jsonl');
  writeFileSync(path, log);
  return path;
}

const only = async (): Promise<string> => (await findRuns([here]))[0]!.id;

describe('runs are found', () => {
  test('in folders of folders, the latest first, and not in hidden ones', async () => {
    const old = run('deep/er/old', step(1));
    run('new', step(1));
    run('.hidden', step(1));
    run('node_modules/x', step(1));
    const hour = Date.now() / 1000 - 3600;
    utimesSync(old, hour, hour);
    const found = await findRuns([here, join(here, 'nowhere')]);
    expect(found.map(({ name, live }) => [name, live])).toEqual([
      ['new', true],
      [join('deep', 'er', 'old'), false],
    ]);
  });

  test('with the model that they train', async () => {
    const shipped = fileURLToPath(new URL('../../assets/sotu-runs', import.meta.url));
    const found = await findRuns([shipped]);
    expect(found.map(({ name }) => name).sort()).toEqual(['hybrid', 'ssm', 'transformer']);
    const hybrid = found.find(({ name }) => name === 'hybrid')!;
    expect(hybrid.pattern).toBe('(M-M-M-M-S-)x2');
    expect(hybrid.parameters).toBe(7_613_378);
    const log = await readRunLog([shipped], hybrid.id);
    expect(log!.steps.step.length).toBe(1000);
    expect(log!.evaluations.at(-1)!.perplexity).toBeCloseTo(33.01, 2);
  });
});

describe('a log is followed', () => {
  test('from where it was read to', async () => {
    const path = run('run', evaluation(0) + sample(0) + step(1));
    const id = await only();
    const first = await readRunLog([here], id);
    expect(first).toMatchObject({ more: false, anew: false, steps: { step: [1], loss: [1] } });
    expect(first!.evaluations).toEqual([{ step: 0, loss: 2, perplexity: 7.4 }]);
    expect(first!.samples).toEqual([{ step: 0, prompt: 'It was', text: ' so.' }]);
    appendFileSync(path, step(2));
    const second = await readRunLog([here], id, first!.next);
    expect(second!.steps.step).toEqual([2]);
    expect((await readRunLog([here], id, second!.next))!.steps.step).toEqual([]);
  });

  test('without the line that is being written, until it is whole', async () => {
    const line = step(2);
    const path = run('run', step(1) + line.slice(0, 20));
    const id = await only();
    const first = await readRunLog([here], id);
    expect(first!.steps.step).toEqual([1]);
    appendFileSync(path, line.slice(20));
    expect((await readRunLog([here], id, first!.next))!.steps.step).toEqual([2]);
  });

  test('over lines that are not of a log', async () => {
    run('run', `${step(1)}{"event":"step","st\n[]\n{"event":"other"}\n${step(2)}`);
    expect((await readRunLog([here], await only()))!.steps.step).toEqual([1, 2]);
  });

  test('in parts, where it is long', async () => {
    run('run', Array.from({ length: 20_000 }, (_, i) => step(i + 1)).join(''));
    const id = await only();
    const steps: number[] = [];
    let part = await readRunLog([here], id);
    let parts = 1;
    for (; part!.more; parts++) {
      steps.push(...part!.steps.step);
      part = await readRunLog([here], id, part!.next);
    }
    steps.push(...part!.steps.step);
    expect(parts).toBeGreaterThan(1);
    expect(steps).toEqual(Array.from({ length: 20_000 }, (_, i) => i + 1));
  });

  test('from its beginning, when a resumed run has replaced it', async () => {
    const path = run('run', step(1) + step(2) + step(3));
    const id = await only();
    const { next } = (await readRunLog([here], id))!;
    writeFileSync(`${path}.new`, step(1));
    renameSync(`${path}.new`, path);
    expect(await readRunLog([here], id, next)).toMatchObject({ anew: true, steps: { step: [1] } });
  });

  test('from its beginning, when what is said of where to go on is nonsense', async () => {
    run('run', step(1));
    const id = await only();
    for (const from of ['', 'x', '-', '1-1e99', '1--5', '1-0.5', '9'.repeat(400)]) {
      expect(await readRunLog([here], id, from), from).toMatchObject({ steps: { step: [1] } });
    }
  });

  test('of no run but those that were found', async () => {
    run('run', step(1));
    expect(await readRunLog([here], '../run')).toBeUndefined();
  });
});
