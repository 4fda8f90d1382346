/** GGUF files that llama.cpp's own converter made of the fixtures, and formats as its Python package widens them. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { openSafetensors } from '../../checkpoint/index.js';
import { isQuantized, openDevice } from '../../engine/index.js';
import { CheckpointError, ConfigError } from '../../errors.js';
import { type Gguf, readGguf } from '../../gguf.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { locateWeights, readModel, readWeights } from '../folder.js';
import { reader } from '../testing/reader.js';
import { readReference } from '../testing/reference.js';
import { ggufConfig } from './config.js';
import { readGgufTensor } from './read.js';
import { ggufWeights } from './weights.js';

const fixtures = fileURLToPath(new URL('../../../test/fixtures/', import.meta.url));
const models = readdirSync(join(fixtures, 'gguf')).map((file) => file.replace(/\.gguf$/, ''));
const pathOf = (name: string): string => join(fixtures, 'gguf', `${name}.gguf`);

describe.each(['cpu', 'wasm'] as const)('on %s', (name) => {
  test.each(models.filter((model) => !model.includes('q8_0')))(
    '%s computes what its checkpoint does',
    async (found) => {
      const device = await openDevice(name, { threads: 1 });
      const { ids, logits } = await readReference('hf', found);
      const model = await readModel(pathOf(found));
      const read = await reader(device, model, await locateWeights(pathOf(found), model));
      for (const sizes of [[ids[0]!.length], [1]]) {
        expect(relativeError(await read.inPieces(ids, sizes), logits), `${sizes}`).toBeLessThan(2e-5);
      }
      await read.dispose();
      await device.dispose();
    },
  );

  test('matrices of 8 bits stay so, also those whose rows move', async () => {
    const device = await openDevice(name, { threads: 1 });
    const model = await readModel(pathOf('llama-q8_0'));
    const weights = await locateWeights(pathOf('llama-q8_0'), model);
    const packed = [...weights].filter(([, weight]) => isQuantized(weight)).map(([parameter]) => parameter);
    expect(packed).toContain('model.layers.0.self_attn.q_proj.weight');
    expect(packed).toContain('model.layers.2.mlp.down_proj.weight');
    const { ids, logits } = await readReference('hf', 'llama');
    const run = async (those: Awaited<ReturnType<typeof locateWeights>>): Promise<Float32Array> => {
      const read = await reader(device, model, those);
      const found = await read.inPieces(ids, [1]);
      await read.dispose();
      return found;
    };
    const found = await run(weights);
    // What 8 bits of the weights cost, and on some devices 8 bits of what they are multiplied with.
    expect(relativeError(found, logits)).toBeLessThan(0.04);
    expect(relativeError(found, await run(await readWeights(pathOf('llama-q8_0'), model)))).toBeLessThan(
      0.03,
    );
    await device.dispose();
  });
});

test('every format is what llama.cpp widens it to', async () => {
  const gguf = await readGguf(join(fixtures, 'gguf-formats', 'formats.gguf'));
  const file = await openSafetensors(join(fixtures, 'gguf-formats', 'values.safetensors'));
  expect(gguf.tensors.size).toBe(file.tensors.size);
  for (const name of file.tensors.keys()) {
    expect(relativeError(await readGgufTensor(gguf, name), await file.readFloat32(name)), name).toBeLessThan(
      1e-7,
    );
  }
  await file.close();
});

describe('refused in the words of the file', () => {
  const changed = async (change: Record<string, unknown>): Promise<Gguf> => {
    const gguf = await readGguf(pathOf('llama'));
    return { ...gguf, metadata: { ...gguf.metadata, ...change } };
  };

  test.each([
    [{ 'general.architecture': 'gemma3' }, /general\.architecture "gemma3"; those that are read: llama, /],
    [{ 'general.architecture': undefined }, /general\.architecture "missing"/],
    [{ 'llama.embedding_length': undefined }, /no number under llama\.embedding_length/],
    [{ 'llama.block_count': 5000 }, /block_count 5000/],
    [{ 'llama.expert_count': 8 }, /a llama with experts/],
    [{ 'llama.rope.scaling.type': 'longrope' }, /rope\.scaling\.type "longrope"/],
  ])('%j', async (change, words) => {
    const error = await ggufConfig(await changed(change)).catch((refusal: Error) => refusal);
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as Error).message).toMatch(words);
  });

  test('weights of another model', async () => {
    const [model, path] = [await readModel(pathOf('qwen3')), pathOf('llama')];
    const all = async (): Promise<void> => {
      for await (const _ of ggufWeights(path, model, true));
    };
    await expect(all()).rejects.toThrow(CheckpointError);
    await expect(all()).rejects.toThrow(/llama\.gguf/);
  });
});
