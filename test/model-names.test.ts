/** How models are named: the shipped one by its name, and trained ones by their runs. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { build, heddle } from './testing/heddle.js';
import { serve, writeTinyModel } from './testing/server.js';

let here: string;
const at = (...path: string[]): string => join(here, ...path);

beforeAll(async () => {
  build();
  here = mkdtempSync(join(tmpdir(), 'heddle-names-'));
  for (const [run, seed] of [
    ['a', 1],
    ['b', 2],
  ] as const) {
    await writeTinyModel(at('runs', run, 'checkpoint'), { seed });
    writeFileSync(at('runs', run, 'metrics.jsonl'), '');
  }
});
afterAll(() => rmSync(here, { recursive: true, force: true }));

test('the shipped model is found from any folder', async () => {
  const { code, stdout, stderr } = await heddle(['info', 'sotu-hybrid'], undefined, here);
  expect(code, stderr).toBe(0);
  expect(stdout).toMatch(/^sotu-hybrid: heddle, 7\.61M parameters/);
});

test("runs are models, with the run's name or a given one", async () => {
  const served = await serve([at('runs', 'a'), `mine=${at('runs', 'b')}`, '--data', at('data')]);
  try {
    const { data } = (await (await fetch(`${served.url}/v1/models`)).json()) as { data: { id: string }[] };
    expect(data.map(({ id }) => id)).toEqual(['a', 'mine']);
  } finally {
    await served.stop();
  }
});

test('two models of one name are refused, with a hint', async () => {
  await expect(serve([at('runs', 'a'), at('runs', 'a', 'checkpoint'), '--data', at('data')])).rejects.toThrow(
    /two models are named a: .* Name one as in other=/,
  );
});

test('a quantized run is written beside the run', async () => {
  mkdirSync(at('elsewhere'));
  const { code, stderr } = await heddle(['quantize', at('runs', 'a')], undefined, at('elsewhere'));
  expect(code, stderr).toBe(0);
  expect(stderr).toContain(`${at('runs', 'a-int4')}: `);
});
