/** `heddle generate`, and the settings in a model's folder that affect it. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hybridModel, writeModel } from '../src/models/index.js';
import { tinyConfig, tinyWeights } from '../src/models/testing/tiny.js';
import { tinyTokenizer } from '../src/text/testing/tiny.js';
import { build, heddle, type Outcome } from './testing/heddle.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-generate-'));

async function write(name: string, pattern: string): Promise<void> {
  mkdirSync(join(root, name));
  const model = hybridModel(tinyConfig({ pattern, maxPositionEmbeddings: 8 }));
  await writeModel(join(root, name), model, tinyWeights(model, 1));
  await tinyTokenizer.save(join(root, name));
}

function generate(name: string, ...options: string[]): Promise<Outcome> {
  return heddle(['generate', join(root, name), '-p', 'the cat', '--max-tokens', '12', ...options]);
}

beforeAll(async () => {
  build();
  await write('growing', 'M-*-');
  await write('fixed', 'M-M-');
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

test('what was not written is told by its reason', async () => {
  const { stderr } = await generate('growing', '--max-tokens', '0');
  expect(stderr).toContain('wrote nothing, since --max-tokens is 0');
});

describe('generation_config.json', () => {
  const file = join(root, 'growing', 'generation_config.json');
  afterAll(() => rmSync(file));

  test('gives the sampling parameters that have no option', async () => {
    const likeliest = await generate('growing', '--temperature', '0', '--seed', '1');
    const warm = await generate('growing', '--temperature', '1.5', '--seed', '1');
    writeFileSync(file, '{"do_sample": false}');
    expect((await generate('growing', '--seed', '2')).stdout).toBe(likeliest.stdout);
    expect((await generate('growing', '--temperature', '1.5', '--seed', '1')).stdout).toBe(warm.stdout);
    expect(warm.stdout).not.toBe(likeliest.stdout);
  });

  test('gives the tokens that end a text', async () => {
    const ids = Array.from({ length: tinyTokenizer.vocabSize }, (_, i) => i);
    writeFileSync(file, JSON.stringify({ eos_token_id: ids }));
    const { stdout, code, stderr } = await generate('growing', '--seed', '1');
    expect(code, stderr).toBe(0);
    expect(stdout).toBe('the cat\n');
  });
});

test("a text beyond the model's context is reported if its memory grows", async () => {
  const beyond = 'longer than the 8 tokens that the model was made for';
  expect((await generate('growing', '--seed', '1')).stderr).toContain(beyond);
  expect((await generate('growing', '--seed', '1', '--max-tokens', '1')).stderr).not.toContain(beyond);
  expect((await generate('fixed', '--seed', '1')).stderr).not.toContain(beyond);
});

test.each(['0', '-1', '1.5', 'many'])('%s threads are refused', async (threads) => {
  const { code, stderr } = await generate('fixed', `--threads=${threads}`);
  expect(code).not.toBe(0);
  expect(stderr).toContain('expected a whole number, 1 or more');
});

test('--device selects what computes', async ({ skip }) => {
  const cpu = await generate('growing', '--temperature', '0');
  const webgpu = await generate('growing', '--temperature', '0', '--device', 'webgpu');
  if (webgpu.stderr.includes('this machine has no WebGPU adapter')) {
    expect(webgpu.code).not.toBe(0);
    return skip('this machine has no WebGPU adapter');
  }
  expect(webgpu.stdout).toBe(cpu.stdout);
});
