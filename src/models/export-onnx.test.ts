/** A model as ONNX, run by ONNX Runtime with nothing but what `model.onnx.json` says. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openWeights } from '../checkpoint/index.js';
import { openDevice } from '../engine/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import {
  countParameters,
  type ExportOptions,
  hybridModel,
  locateWeights,
  type Model,
  type OnnxDescription,
  parametersOf,
  planExport,
  readModel,
  writeModel,
} from './index.js';
import { reader } from './testing/reader.js';
import { readReference, referenceNames } from './testing/reference.js';
import { tinyConfig, tinyWeights } from './testing/tiny.js';

let here: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-onnx-'));
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

async function exported(folder: string, options: Omit<ExportOptions, 'to'> = {}): Promise<string> {
  await (await planExport(folder, { to: 'onnx', ...options })).write(here);
  return here;
}

function description(folder: string): OnnxDescription {
  return JSON.parse(readFileSync(join(folder, 'model.onnx.json'), 'utf8')) as OnnxDescription;
}

function int64(values: readonly number[], dims: readonly number[]): Tensor {
  return new Tensor('int64', BigInt64Array.from(values, BigInt), dims);
}

/** Logits [batch, sequence, vocabulary] of ids that are read in pieces of the given sizes, over and over. */
async function readInPieces(
  folder: string,
  ids: readonly (readonly number[])[],
  sizes: readonly number[],
): Promise<Float32Array> {
  const { model, states, outputs } = description(folder);
  const session = await InferenceSession.create(join(folder, model), { intraOpNumThreads: 1 });
  const batch = ids.length;
  const sequence = ids[0]!.length;
  const vocabulary = outputs.logits!.shape[1] as number;
  const held: Record<string, Tensor> = {};
  for (const { input, dtype, shape, initial } of states) {
    const dims = shape.map((dim) => (dim === 'batch' ? batch : dim === 'past' ? 0 : (dim as number)));
    const size = dims.reduce((a, b) => a * b, 1);
    const values = new Array<number>(size).fill(initial);
    held[input] = dtype === 'int64' ? int64(values, dims) : new Tensor(Float32Array.from(values), dims);
  }
  const all = new Float32Array(batch * sequence * vocabulary);
  for (let at = 0, piece = 0; at < sequence; piece++) {
    const end = Math.min(sequence, at + sizes[piece % sizes.length]!);
    const count = end - at;
    const results = await session.run({
      ids: int64(
        ids.flatMap((row) => row.slice(at, end)),
        [batch, count],
      ),
      places: int64(
        Array.from({ length: batch * count }, (_, i) => i),
        [batch * count],
      ),
      ...held,
    });
    const logits = results.logits!.data as Float32Array;
    const width = count * vocabulary;
    for (let row = 0; row < batch; row++) {
      all.set(logits.subarray(row * width, (row + 1) * width), (row * sequence + at) * vocabulary);
    }
    for (const { input, output } of states) held[input] = results[output] as Tensor;
    at = end;
  }
  await session.release();
  return all;
}

test.each(referenceNames('hf'))('%s: the logits of transformers, in whatever pieces', async (name) => {
  const reference = await readReference('hf', name);
  const folder = await exported(reference.folder);
  for (const sizes of [[reference.ids[0]!.length], [5, 1, 11, 2, 18]]) {
    const logits = await readInPieces(folder, reference.ids, sizes);
    expect(relativeError(logits, reference.logits), `in pieces of ${sizes}`).toBeLessThan(2e-5);
  }
});

describe('a model of ours with every kind of layer', () => {
  const ids = [0, 1].map((row) => Array.from({ length: 29 }, (_, i) => (7 + 31 * row + 13 * i * i) % 300));
  const rope = { ropeTheta: 10_000 };

  async function ours(): Promise<{ model: Model; expected: Float32Array; from: string }> {
    const from = mkdtempSync(join(tmpdir(), 'heddle-onnx-'));
    const model = hybridModel(tinyConfig(rope));
    await writeModel(from, model, tinyWeights(model));
    const read = await reader(await openDevice('cpu', { threads: 1 }), model, tinyWeights(model));
    const expected = await read.step(ids, 0, read.newStates(2));
    await read.dispose();
    return { model, expected, from };
  }

  let given: Awaited<ReturnType<typeof ours>>;
  beforeEach(async () => {
    given = await ours();
  });
  afterEach(() => rmSync(given.from, { recursive: true, force: true }));

  test('computes the same, and the description is what the graph has', async () => {
    const folder = await exported(given.from);
    for (const sizes of [[29], [1], [4, 1, 9]]) {
      const error = relativeError(await readInPieces(folder, ids, sizes), given.expected);
      expect(error, `in pieces of ${sizes}`).toBeLessThan(1e-5);
    }
    const { model, inputs, outputs, states, eos_token_ids: ends } = description(folder);
    const session = await InferenceSession.create(join(folder, model));
    const fed = [...Object.keys(inputs), ...states.map(({ input }) => input)];
    expect([...session.inputNames].sort()).toEqual(fed.sort());
    const made = [...Object.keys(outputs), ...states.map(({ output }) => output)];
    expect([...session.outputNames].sort()).toEqual(made.sort());
    await session.release();
    expect(inputs.ids).toEqual({ dtype: 'int64', shape: ['batch', 'sequence'] });
    expect(outputs.logits).toEqual({ dtype: 'float32', shape: ['places', 300] });
    expect(states).toContainEqual({
      input: 'layers.2.mixer.key',
      output: 'next.layers.2.mixer.key',
      dtype: 'float32',
      shape: ['batch', 2, 'past', 4],
      initial: 0,
    });
    expect(ends).toEqual([0]);
  });

  test('has its weights once, in a file that Heddle reads too', async () => {
    const folder = await exported(given.from, { dtype: 'BF16' });
    const bytes = 2 * countParameters(parametersOf(given.model));
    const weights = statSync(join(folder, 'model.safetensors')).size;
    expect(weights).toBeGreaterThan(bytes);
    expect(weights).toBeLessThan(bytes + 10_000);
    const onnx = readFileSync(join(folder, 'model.onnx'));
    const files = await openWeights(folder);
    for (const { path, byteOffset, byteLength } of files.tensors.values()) {
      // Fewer bytes could be there by chance.
      if (byteLength < 64) continue;
      const stored = readFileSync(path).subarray(byteOffset, byteOffset + 64);
      expect(onnx.includes(stored)).toBe(false);
    }
    await files.close();
    expect(readdirSync(folder).sort()).toEqual([
      'config.json',
      'model.onnx',
      'model.onnx.json',
      'model.safetensors',
    ]);
    const model = await readModel(folder);
    const read = await reader(await openDevice('cpu'), model, await locateWeights(folder, model));
    const expected = await read.step(ids, 0, read.newStates(2));
    await read.dispose();
    expect(relativeError(await readInPieces(folder, ids, [29]), expected)).toBeLessThan(1e-5);
    // Rounding did something: these are not the float32 weights from elsewhere.
    expect(relativeError(expected, given.expected)).toBeGreaterThan(1e-4);
  });
});
