/** GGUF files that llama.cpp's own converter made of the fixtures, and formats as its Python package widens them. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { dequantizeBlocks, openSafetensors, type QuantizedBlocks } from '../../checkpoint/index.js';
import { isQuantized, openDevice, type QuantizedTensor } from '../../engine/index.js';
import { CheckpointError, ConfigError } from '../../errors.js';
import { type Gguf, readGguf } from '../../gguf.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { ChatTemplate } from '../../text/index.js';
import { copyCompanions } from '../companions.js';
import { planExport } from '../export.js';
import { locateWeights, readModel, readWeights } from '../folder.js';
import { weightBytes } from '../quantization.js';
import { reader } from '../testing/reader.js';
import { readReference, referenceNames } from '../testing/reference.js';
import { writeModelLike } from '../write-folder.js';
import { ggufConfig } from './config.js';
import { readGgufTensor } from './read.js';
import { ggufMemory, ggufWeights } from './weights.js';

const fixtures = fileURLToPath(new URL('../../../test/fixtures/', import.meta.url));
const models = readdirSync(join(fixtures, 'gguf')).map((file) => file.replace(/\.gguf$/, ''));
/** Log probabilities behind eight tokens of `llama-k`, by llama.cpp. */
// biome-ignore format: a table
const LLAMA_CPP = [-75.41862,-69.88139,-92.02414,-61.00343,-63.11713,-92.46127,-63.14165,-71.53371,-77.32496,0,-84.35348,-64.87231,-82.60027,-85.94882,-81.24591,-83.57085,-62.21342,-65.77731,-77.82616,-72.16972,-63.95693,-67.76485,-76.86556,-67.66477,-66.24973,-77.74146,-77.65741,-63.5743,-86.26997,-86.08221,-82.23308,-59.3928,-75.92619,-79.93797,-69.12034,-66.97327,-73.40268,-75.38966,-56.23809,-72.29755,-75.81618,-69.91055,-74.61977,-84.08225,-67.95089,-77.89568,-77.35918,-70.18507,-77.68589,-67.9552,-64.38692,-63.43679,-77.23273,-80.61788,-77.4034,-63.43395,-72.53922,-70.97944,-58.75981,-66.28362,-71.36189,-61.29052,-64.22583,-63.6413];
const pathOf = (name: string): string => join(fixtures, 'gguf', `${name}.gguf`);

describe.each(['cpu', 'wasm'] as const)('on %s', (name) => {
  test.each(models.filter((model) => referenceNames('hf').includes(model)))(
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

test('blocks of 5 and 6 bits, and those with a minimum, are kept in 8 bits', async () => {
  const path = pathOf('llama-k');
  const model = await readModel(path);
  const weights = await locateWeights(path, model);
  const exact = await readWeights(path, model);
  let bytes = 0;
  for (const [name, weight] of weights) {
    bytes += weightBytes(weight);
    if (!isQuantized(weight)) continue;
    expect(weight.bits, name).toBe(8);
    const blocks = weight as unknown as QuantizedBlocks;
    const values = dequantizeBlocks(blocks, weight.dims.at(-1)!, 8, weight.block);
    const given = exact.get(name)!.data as Float32Array;
    // Half a step of the block that an element is in.
    const over = values.findIndex((value, i) => {
      const step = Math.abs(blocks.scales[Math.floor(i / weight.block)]!);
      return Math.abs(value - given[i]!) > step * 1.001;
    });
    expect(over, name).toBe(-1);
  }
  expect([...weights.values()].filter(isQuantized)).toHaveLength(8);
  expect(await ggufMemory(path, model)).toBe(bytes);
  // What llama.cpp (node-llama-cpp 3.22.1) says of the next token, with 8 bits of what the weights are multiplied with, too.
  const ids = [5, 17, 30, 12, 45, 33, 8, 9];
  const centered = (row: readonly number[]): number[] => {
    const mean = row.reduce((a, b) => a + b) / row.length;
    return row.map((value) => value - mean);
  };
  for (const [device, own] of [
    ['cpu', exact],
    ['cpu', weights],
    ['wasm', weights],
  ] as const) {
    const opened = await openDevice(device, { threads: 1 });
    const read = await reader(opened, model, own);
    const logits = [...(await read.inPieces([ids], [8]))].slice(-model.vocabSize);
    expect(relativeError(centered(logits), centered(LLAMA_CPP)), device).toBeLessThan(0.03);
    await read.dispose();
    await opened.dispose();
  }
});

test('a model in several files, by any of them', async () => {
  const whole = await readWeights(pathOf('llama-q8_0'), await readModel(pathOf('llama-q8_0')));
  for (const part of [1, 3]) {
    const path = pathOf(`llama-q8_0-0000${part}-of-00003`);
    const read = await readWeights(path, await readModel(path));
    expect([...read.keys()]).toEqual([...whole.keys()]);
    for (const [name, { data }] of whole) expect(read.get(name)!.data, name).toEqual(data);
  }
});

test('a GGUF file is written as a folder by all that write models, with its tokenizer', async () => {
  const path = pathOf('llama-q8_0');
  const model = await readModel(path);
  const weights = await readWeights(path, model);
  const target = mkdtempSync(join(tmpdir(), 'heddle-gguf-folder-'));
  const ways: readonly ((folder: string) => Promise<void>)[] = [
    (folder) => writeModelLike(path, folder, model, weights),
    async (folder) => (await planExport(path)).write(folder),
  ];
  for (const [i, write] of ways.entries()) {
    const folder = join(target, `${i}`);
    mkdirSync(folder);
    await write(folder);
    await copyCompanions(path, folder);
    expect(readdirSync(folder).sort()).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    const read = await readWeights(folder, await readModel(folder));
    for (const [name, { data }] of weights) expect(read.get(name)!.data, name).toEqual(data);
  }
  rmSync(target, { recursive: true });
  expect(await ChatTemplate.load(path)).toBeUndefined();
});

test('experts in blocks stay packed, their gates and values one below the other', async () => {
  const path = join(mkdtempSync(join(tmpdir(), 'heddle-gguf-experts-')), 'jamba.gguf');
  const { tensors } = await readGguf(pathOf('jamba'));
  const bytes = readFileSync(pathOf('jamba'));
  for (const [name, { byteOffset, shape }] of tensors) {
    if (!/ffn_(gate|up)_exps/.test(name)) continue;
    // The tensor's entry: its name, the number of axes, these in 8 bytes each, and the format, of which 8 is Q8_0.
    const entry = bytes.indexOf(name) + name.length;
    bytes.writeUInt32LE(8, entry + 4 + 8 * shape.length);
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) =>
      bytes.readFloatLE(byteOffset + 4 * i),
    );
    for (let block = 0; block < values.length / 32; block++) {
      // A scale of 2^-9, as a half.
      bytes.writeUInt16LE(6 << 10, byteOffset + 34 * block);
      for (let i = 0; i < 32; i++) {
        const code = Math.max(-127, Math.min(127, Math.round(values[32 * block + i]! * 512)));
        bytes.writeInt8(code, byteOffset + 34 * block + 2 + i);
      }
    }
  }
  writeFileSync(path, bytes);
  const model = await readModel(path);
  const [weights, exact] = [await locateWeights(path, model), await readWeights(path, model)];
  const packed = [...weights].filter(([, weight]) => isQuantized(weight)).map(([name]) => name);
  expect(packed).toEqual([1, 3].map((i) => `model.layers.${i}.feed_forward.experts.gate_up_proj`));
  for (const name of packed) {
    const { dims, bits, block, ...blocks } = weights.get(name) as QuantizedTensor & QuantizedBlocks;
    expect([...dims, bits, block]).toEqual([4, 96, 32, 8, 32]);
    expect(dequantizeBlocks(blocks, 32, bits, block), name).toEqual(exact.get(name)!.data);
  }
  const { ids } = await readReference('hf', 'jamba');
  for (const name of ['cpu', 'wasm'] as const) {
    const device = await openDevice(name, { threads: 1 });
    const logits: Float32Array[] = [];
    for (const those of [weights, exact]) {
      const read = await reader(device, model, those);
      logits.push(await read.inPieces(ids, [5, 1]));
      await read.dispose();
    }
    expect(relativeError(logits[0]!, logits[1]!), name).toBeLessThan(0.01);
    await device.dispose();
  }
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
  const folder = mkdtempSync(join(tmpdir(), 'heddle-gguf-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each([
    ['cut.gguf', 'llama-q8_0', 800, /cut\.gguf ends within its header: it was cut off/],
    ['short.gguf', 'llama-q8_0', 20_000, /short\.gguf ends within blk\.0\.\S+: it was cut off/],
    ['empty.gguf', 'llama-q8_0', 0, /empty\.gguf is not a GGUF file that can be read/],
    [
      'a-00001-of-00003.gguf',
      'llama-q8_0-00001-of-00003',
      undefined,
      /00002-of-00003\.gguf, .* are missing: download all/,
    ],
    ['renamed.gguf', 'llama-q8_0-00001-of-00003', undefined, /renamed\.gguf is one of 3 files of a model/],
  ])('%s', async (name, source, length, words) => {
    const path = join(folder, name);
    writeFileSync(path, readFileSync(pathOf(source)).subarray(0, length));
    const read = async (): Promise<unknown> => locateWeights(path, await readModel(path));
    await expect(read()).rejects.toThrow(CheckpointError);
    await expect(read()).rejects.toThrow(words);
  });

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
