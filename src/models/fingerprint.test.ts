/** Fingerprints: equal for the same model wherever it is, and others for every other. */
import { appendFileSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openSafetensors, type TensorToWrite, writeSafetensors } from '../checkpoint/index.js';
import { float32, type HostTensor, type QuantizedTensor, type Weight } from '../engine/index.js';
import { CheckpointError } from '../errors.js';
import { hybridModel } from './hybrid.js';
import { fingerprintOf, openModel, parametersOf, withLora } from './index.js';
import type { Model } from './model.js';
import { fixtureFolder, referenceNames } from './testing/reference.js';
import { tinyConfig, tinyWeights } from './testing/tiny.js';

const folder = mkdtempSync(join(tmpdir(), 'heddle-fingerprint-'));
afterAll(() => rmSync(folder, { recursive: true }));

const model = hybridModel(tinyConfig());
const weights = (seed = 1): Map<string, HostTensor> => tinyWeights(model, seed);
const hashOf = async (of: Model, with_: ReadonlyMap<string, Weight>): Promise<string> =>
  (await fingerprintOf(of, with_)).hash;
const hash = await hashOf(model, weights());

test('is the same for the same weights, in whatever order they come', async () => {
  expect(await fingerprintOf(model, weights())).toEqual({ hash, quantization: 'none' });
  expect(await hashOf(model, new Map([...weights()].reverse()))).toBe(hash);
  expect(hash).toMatch(/^[0-9a-f]{64}$/);
});

describe('is another', () => {
  test('for other weights, a single tensor of them, or one element that is looked at', async () => {
    expect(await hashOf(model, weights(2))).not.toBe(hash);
    for (const name of weights().keys()) {
      const changed = weights();
      const { data, dims } = changed.get(name)!;
      changed.set(
        name,
        float32(
          Float32Array.from(data as Float32Array, (value) => value * 1.001),
          dims,
        ),
      );
      expect(await hashOf(model, changed), name).not.toBe(hash);
      const one = weights();
      for (const at of [0, data.length - 1]) {
        (one.get(name)!.data as Float32Array)[at]! += 0.5;
        expect(await hashOf(model, one), `${name}[${at}]`).not.toBe(hash);
      }
    }
  });

  test('for a slight change of a large tensor, as a step of training makes it', async () => {
    const large = (by: number): Map<string, Weight> =>
      new Map([
        [
          'w',
          float32(
            Float32Array.from({ length: 1e6 }, (_, i) => Math.sin(i) * by),
            [1e6],
          ),
        ],
      ]);
    expect(await hashOf(model, large(1))).toBe(await hashOf(model, large(1)));
    expect(await hashOf(model, large(1))).not.toBe(await hashOf(model, large(1 + 1e-6)));
  });

  test('for another shape or another name', async () => {
    const of = (name: string, dims: number[]): Promise<string> =>
      hashOf(model, new Map([[name, float32([1, 2, 3, 4], dims)]]));
    const hashes = [of('a', [4]), of('a', [2, 2]), of('b', [4]), of('a', [1, 4])];
    expect(new Set(await Promise.all(hashes)).size).toBe(4);
  });

  test('for another config, but not for the order of its keys', async () => {
    const { json } = model;
    const reversed = Object.fromEntries(Object.entries(json).reverse());
    expect(await hashOf({ ...model, json: reversed }, weights())).toBe(hash);
    expect(await hashOf({ ...model, json: { ...json, norm_epsilon: 1e-6 } }, weights())).not.toBe(hash);
  });

  test('with an adapter, and with another scale of it', async () => {
    const scaled = [4, 8].map((alpha) => {
      const adapted = withLora(model, { rank: 2, alpha });
      const halves = parametersOf(adapted).map(({ name, shape }): [string, HostTensor] => [
        name,
        weights().get(name) ?? float32(new Float32Array(shape.reduce((a, b) => a * b, 1)), shape),
      ]);
      return hashOf(adapted, new Map(halves));
    });
    expect(new Set([hash, ...(await Promise.all(scaled))]).size).toBe(3);
  });

  test('when quantized, and says how', async () => {
    const quantized = (bits: 4 | 8, block: number, scale = 0): QuantizedTensor => ({
      dims: [2, 64],
      bits,
      block,
      codes: new Uint8Array((128 * bits) / 8),
      scales: new Float32Array(128 / block).fill(scale),
    });
    const of = (...given: QuantizedTensor[]) =>
      fingerprintOf(
        model,
        new Map<string, Weight>([...weights(), ...given.map((weight, i) => [`${i}`, weight] as const)]),
      );
    expect((await of(quantized(4, 32))).quantization).toBe('4 bits in blocks of 32');
    expect((await of(quantized(8, 64), quantized(4, 32), quantized(4, 32))).quantization).toBe(
      '4 bits in blocks of 32 and 8 bits in blocks of 64',
    );
    const hashes = [
      of(quantized(4, 32)),
      of(quantized(4, 64)),
      of(quantized(8, 32)),
      of(quantized(4, 32, 1)),
    ];
    expect(new Set((await Promise.all(hashes)).map((fingerprint) => fingerprint.hash)).size).toBe(4);
  });
});

describe('of a folder', () => {
  const copyOf = (name: string): string => {
    const copy = join(folder, name);
    cpSync(fixtureFolder('hf', name), copy, { recursive: true });
    return copy;
  };
  const read = async (path: string): Promise<string> => {
    const { model, weights } = await openModel(path);
    return hashOf(model, weights);
  };

  test('is the same when it is moved, or its weights stand in other files', async () => {
    const original = await read(fixtureFolder('hf', 'llama'));
    const copy = copyOf('llama');
    expect(await read(copy)).toBe(original);
    const path = join(copy, 'model.safetensors');
    const file = await openSafetensors(path);
    const tensors: TensorToWrite[] = [];
    for (const name of file.tensors.keys()) tensors.push({ name, ...(await file.read(name)) });
    await file.close();
    const half = tensors.length >> 1;
    const shards = [tensors.slice(0, half), tensors.slice(half)];
    const names = shards.map((_, i) => `model-0000${i + 1}-of-00002.safetensors`);
    for (const [i, shard] of shards.entries()) await writeSafetensors(join(copy, names[i]!), shard);
    const map = Object.fromEntries(shards.flatMap((shard, i) => shard.map(({ name }) => [name, names[i]])));
    writeFileSync(
      join(copy, 'model.safetensors.index.json'),
      JSON.stringify({ metadata: {}, weight_map: map }),
    );
    rmSync(path);
    expect(await read(copy)).toBe(original);
    // The last byte of the last tensor is one that is looked at.
    const bytes = readFileSync(join(copy, names[1]!));
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(join(copy, names[1]!), bytes);
    expect(await read(copy)).not.toBe(original);
  });

  test('is one of its own', async () => {
    const hashes = await Promise.all(referenceNames('hf').map((name) => read(fixtureFolder('hf', name))));
    expect(new Set(hashes).size).toBe(hashes.length);
  });

  test('whose file is gone, or was cut off, is refused with its path', async () => {
    const copy = copyOf('mamba');
    const { model, weights } = await openModel(copy);
    const path = join(copy, 'model.safetensors');
    const whole = readFileSync(path);
    writeFileSync(path, whole.subarray(0, whole.length >> 1));
    await expect(fingerprintOf(model, weights)).rejects.toThrow(CheckpointError);
    await expect(fingerprintOf(model, weights)).rejects.toThrow(`${path} cannot be read: it ends at byte`);
    rmSync(path);
    await expect(fingerprintOf(model, weights)).rejects.toThrow(
      `${path} cannot be read: there is no such file`,
    );
    appendFileSync(path, whole);
    expect(await hashOf(model, weights)).toBe(await read(fixtureFolder('hf', 'mamba')));
  });
});
