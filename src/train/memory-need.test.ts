/** What cannot have its memory is refused with what it would take, before anything is written. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { type Device, float32, openDevice, type Weight } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { hybridModel, parametersOf, withLora } from '../models/index.js';
import { tinyConfig } from '../models/testing/tiny.js';
import type { TrainingInput } from './input.js';
import { memoryNeed, weightsNeed } from './memory-need.js';
import { ADAMW_DEFAULTS, MUON_DEFAULTS } from './optimizer.js';
import { stepByStep, tinyInput } from './testing/runs.js';
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

test('the kernels of our own reach 4 GiB, however much the machine has', async () => {
  const model = hybridModel(tinyConfig({ vocabSize: 2 ** 17, hiddenSize: 2944, pattern: '-' }));
  const device = await openDevice('wasm', { threads: 1 });
  const at = join(folder, 'wasm');
  const run = train(tinyInput(at, { model, device }));
  await expect(run).rejects.toThrow(
    /takes 6\.\d+ GB at least .* 4\.29 GB is all that the wasm device reaches: /,
  );
  expect(existsSync(at)).toBe(false);
  await device.dispose();
});

test('a GPU has its own limit, and the weights of a teacher count', async () => {
  const model = hybridModel(tinyConfig({ pattern: 'M-' }));
  const limited = (limit: number, devices = 1): Device => ({
    ...stepByStep,
    name: 'cuda',
    gpuMemory: () => Array.from({ length: devices }, () => ({ kind: 'H1', inUse: 0, peak: 0, limit })),
  });
  const run = (name: string, device: Device, teacher?: TrainingInput['teacher']) =>
    train({
      ...tinyInput(join(folder, name), { model, device, settings: { steps: 1 } }),
      ...(teacher && { teacher }),
    });
  const { parameters, total } = weightsNeed(model, ADAMW_DEFAULTS);
  const small = run('gpu', limited(total / 2));
  await expect(small).rejects.toThrow(ConfigError);
  await expect(small).rejects.toThrow(
    /takes .* at least .* is all that the GPU has for us: take a smaller model/,
  );
  expect(existsSync(join(folder, 'gpu'))).toBe(false);
  // Two of them have twice as much, and one that does not say is asked.
  for (const [name, device] of Object.entries({ two: limited(total / 2, 2), silent: limited(0) }))
    expect((await run(name, device)).completed).toBe(true);
  const teacher = { folder: join(folder, 'two', 'checkpoint'), weight: 1, match: 0 };
  await expect(run('taught', limited(total - parameters / 4), teacher)).rejects.toThrow(/takes .* at least/);
  expect(existsSync(join(folder, 'taught'))).toBe(false);
  expect((await run('taught', limited(total + parameters), teacher)).completed).toBe(true);
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

test('weights beside which adapters are trained count as they are stored', () => {
  const model = withLora(hybridModel(tinyConfig({ pattern: 'S-' })), { rank: 2, alpha: 4 });
  const own = parametersOf(model).filter(({ adapts }) => adapts === undefined);
  const size = ({ shape }: { shape: readonly number[] }) => shape.reduce((a, b) => a * b, 1);
  const total = own.reduce((sum, spec) => sum + size(spec), 0);
  const of = (weightOf: (dims: readonly number[], count: number) => Weight) =>
    weightsNeed(
      model,
      ADAMW_DEFAULTS,
      {},
      {
        base: new Map(own.map((s) => [s.name, weightOf(s.shape, size(s))])),
      },
    );
  const part = (dtype: 'bfloat16' | 'uint8' | 'float32', byteLength: number) => ({
    path: 'model.safetensors',
    byteOffset: 0,
    byteLength,
    dtype,
  });
  const full = weightsNeed(model, ADAMW_DEFAULTS);
  const adapters = full.parameters - 4 * total;
  expect(of((dims, count) => float32(new Float32Array(count), dims))).toEqual(full);
  const halves = of((dims, count) => ({ dims, parts: [part('bfloat16', 2 * count)] }));
  expect(halves.parameters).toBe(adapters + 2 * total);
  const packed = of((dims, count) => ({
    dims,
    bits: 8,
    block: 8,
    codes: new Uint8Array(count),
    scales: part('float32', count / 2),
  }));
  expect(packed.parameters).toBe(adapters + total + total / 2);
  expect([packed.gradients, packed.optimizer]).toEqual([full.gradients, full.optimizer]);
});
