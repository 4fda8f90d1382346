/** What cannot have its memory is refused with what it would take, before anything is written. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { ConfigError } from '../errors.js';
import { hybridModel } from '../models/index.js';
import { tinyConfig } from '../models/testing/tiny.js';
import { memoryNeed } from './memory-need.js';
import { ADAMW_DEFAULTS, MUON_DEFAULTS } from './optimizer.js';
import { tinyInput } from './testing/runs.js';
import { nextTokens } from './text.js';
import { train } from './trainer.js';

const folder = mkdtempSync(join(tmpdir(), 'heddle-need-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => void vi.restoreAllMocks());

test.each([
  [
    'weights',
    { model: hybridModel(tinyConfig({ vocabSize: 2 ** 24, hiddenSize: 2 ** 19, pattern: '-' })) },
    /takes 14\d TB at least \(weights 35\.\d TB, gradients 35\.\d TB, moments 70\.\d TB\), and .* is all there is here: take a smaller model/,
  ],
  [
    'a batch',
    { settings: { batch: 2 ** 30 } },
    /activations .* TB\).*: take a smaller batch .* or a shorter sequence/,
  ],
] as const)('%s beyond all memory', async (name, options, message) => {
  const at = join(folder, name);
  const run = train(tinyInput(at, options));
  await expect(run).rejects.toThrow(ConfigError);
  await expect(run).rejects.toThrow(message);
  expect(existsSync(at)).toBe(false);
});

test('what fits the machine is trained however little of it is free, and what a container does not allow is refused', async () => {
  vi.spyOn(process, 'availableMemory').mockReturnValue(1e3);
  const run = (name: string) => train(tinyInput(join(folder, name), { settings: { steps: 1 } }));
  expect((await run('caches')).completed).toBe(true);
  vi.spyOn(process, 'constrainedMemory').mockReturnValue(1e5);
  await expect(run('container')).rejects.toThrow(/takes .* at least .* 100 kB is all there is here/);
  expect(existsSync(join(folder, 'container'))).toBe(false);
});

test('Muon has one moment of a matrix, and frozen parameters have none and no gradients', () => {
  const model = hybridModel(tinyConfig({ pattern: 'M-S-' }));
  const of = (optimizer: typeof ADAMW_DEFAULTS, rates?: Record<string, number>) =>
    memoryNeed(model, nextTokens(8), 2, optimizer, rates);
  const [adamw, muon, frozen] = [
    of(ADAMW_DEFAULTS),
    of(MUON_DEFAULTS),
    of(ADAMW_DEFAULTS, { 'backbone.layers.*': 0 }),
  ];
  expect(adamw.optimizer).toBe(2 * adamw.parameters);
  expect(muon.optimizer).toBeLessThan(adamw.optimizer);
  expect(muon.optimizer).toBeGreaterThan(adamw.parameters);
  expect(frozen.parameters).toBe(adamw.parameters);
  expect(frozen.gradients).toBeLessThan(adamw.gradients);
  expect(frozen.activations).toBeLessThanOrEqual(adamw.activations);
});
