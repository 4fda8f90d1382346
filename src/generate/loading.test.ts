/** Loading: a device that was opened for a model is given back where the model cannot be had, and no option is passed over. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { WasmDevice } from '../engine/wasm/device.js';
import { CheckpointError, ConfigError } from '../errors.js';
import { hybridModel, modelConfig, type SoundsConfig, writeModel } from '../models/index.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import { loadModel } from './load-model.js';
import { loadSignalModel } from './signal-model.js';

const { vocabSize: _, eosTokenId: __, ...config } = tinyConfig({ pattern: 'M-*-' });
const sizes = { rate: 1000, frame: 16, hop: 8, mels: 4 };
const input = {
  kind: 'sounds',
  ...sizes,
  features: 'log-mel',
  classes: ['no', 'yes'],
} satisfies SoundsConfig;
const model = hybridModel(modelConfig({ ...config, input }));
const folder = mkdtempSync(join(tmpdir(), 'heddle-loading-'));
await writeModel(folder, model, tinyWeights(model));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => vi.restoreAllMocks());

const options = { device: 'wasm', threads: 1 } as const;

test('a device is disposed of where what was asked for cannot be made of the model, and not opened for one that is not there', async () => {
  const disposed = vi.spyOn(WasmDevice.prototype, 'dispose');
  await expect(loadModel('no such model', options)).rejects.toThrow(CheckpointError);
  expect(disposed).toHaveBeenCalledTimes(0);
  await expect(loadModel(folder, options)).rejects.toThrow();
  expect(disposed).toHaveBeenCalledTimes(1);
  await expect(loadModel(folder, { ...options, kind: ['series', 'text'] })).rejects.toThrow(
    /a model of sounds, not of series or text: run it with '.*heddle.* classify', or in the library with loadModel\(folder, { kind: 'sounds' }\)/,
  );
  expect(disposed).toHaveBeenCalledTimes(2);
  await expect(loadModel('sotu', { ...options, kind: 'images' })).rejects.toThrow(
    'a model of text, not of images',
  );
  await expect(loadSignalModel('sotu', options)).rejects.toThrow(ConfigError);
  expect(disposed).toHaveBeenCalledTimes(4);
});

test('the cache of a stream is kept in the form that is asked for, and an adapter is looked for', async () => {
  const bytes: number[] = [];
  for (const cache of [undefined, 'int8'] as const) {
    const signal = await loadSignalModel(folder, { ...options, ...(cache && { cache }) });
    const session = signal.session();
    const samples = { dtype: 'float32', dims: [1, 64, 8], data: new Float32Array(512).fill(0.1) } as const;
    await session.read({ samples }, 64);
    bytes.push(session.bytes);
    await signal.dispose();
  }
  expect(bytes[1]!).toBeLessThan(bytes[0]!);
  for (const load of [loadSignalModel, loadModel]) {
    await expect(load(folder, { ...options, adapter: folder })).rejects.toThrow('is a model, not an adapter');
  }
});

test('a model of each kind of data is loaded as what it is, by one function', async () => {
  const classifier = await loadModel(folder, { ...options, kind: 'sounds' });
  const sound = { rate: 1000, samples: Float32Array.from({ length: 64 }, (_, i) => Math.sin(i)) };
  const said = await classifier.classify(sound);
  expect(said.classes.map((each) => each.class).sort()).toEqual(['no', 'yes']);
  await classifier.dispose();

  const any = await loadModel(folder, { ...options, kind: 'any' });
  expect(any.kind).toBe('sounds');
  // The type follows the kind: each of these is a function of one of them alone.
  if (any.kind === 'text') any.tokenizer.encode('');
  else if (any.kind === 'series') any.session();
  else expect((await any.classify(sound)).class).toBe(said.class);
  await any.dispose();
});
