/** The weights of a model in a GGUF file. Matrices in blocks that a device reads stay so; what it does not read is widened. */
import { GGUF_BLOCK, GGUF_PACKED, repackGguf, widenGguf } from '../../checkpoint/index.js';
import type { HostTensor, QuantizedTensor } from '../../engine/index.js';
import { CheckpointError } from '../../errors.js';
import { type GgufTensor, readGguf } from '../../gguf.js';
import type { ParameterSpec } from '../../nn/index.js';
import { type Model, parametersOf } from '../model.js';
import { quantizable } from '../quantization.js';
import { readGgufBytes } from './read.js';
import { ggufSources, type Source } from './tensors.js';

const sizeOf = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

/**
 * The weights of a model in a GGUF file, one after the other; `packed` says whether blocks of 4 and 8 bits may stay so. Throws
 * `CheckpointError` for a tensor that is missing, too many, misshapen, or in a format that is not read.
 */
export async function* ggufWeights(
  path: string,
  model: Model,
  packed: boolean,
): AsyncGenerator<readonly [name: string, weight: HostTensor | QuantizedTensor]> {
  const { tensors } = await readGguf(path);
  const sources = ggufSources(model.json, (name) => tensors.has(name));
  const stays = packed ? quantizable(model, { bits: 4, block: GGUF_BLOCK }) : new Set<string>();
  const used = new Set<string>(['rope_freqs.weight']);
  const located = parametersOf(model).map((spec) => {
    const source = sources(spec.name);
    const parts = (source?.from ?? []).map((name) => {
      used.add(name);
      const found = tensors.get(name);
      if (found) return { name, ...found };
      throw new CheckpointError(`${path} lacks the tensor ${name}, which is ${spec.name} of its model`);
    });
    if (!source) throw new CheckpointError(`${path} cannot hold ${spec.name} of its model`);
    const total = parts.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
    if (total !== sizeOf(spec.shape)) {
      throw new CheckpointError(
        `${path}: the tensor ${parts[0]!.name} is [${parts[0]!.shape}], but its metadata makes it [${spec.shape}] (${spec.name})`,
      );
    }
    return { spec, source, parts };
  });
  const layers = Array.from(model.layers.keys(), (i) => `blk.${i}.`);
  const lost = [...tensors.keys()].find(
    (name) => !used.has(name) && layers.some((layer) => name.startsWith(layer)),
  );
  if (lost)
    throw new CheckpointError(
      `${path} has the tensor ${lost}, which the model of its metadata does not have`,
    );
  for (const { spec, source, parts } of located) {
    yield [spec.name, await weightOf(spec, source, parts, stays.has(spec.name))] as const;
  }
}

type Part = GgufTensor & { readonly name: string };

async function weightOf(
  { shape }: ParameterSpec,
  source: Source,
  parts: readonly Part[],
  mayStay: boolean,
): Promise<HostTensor | QuantizedTensor> {
  const [{ type }] = parts as [Part];
  const bits = GGUF_PACKED[type];
  const bytes = await Promise.all(parts.map((part) => readGgufBytes(part, part.name)));
  const same = parts.every((part) => part.type === type);
  if (mayStay && bits && same && !source.columns && !source.value && !source.transposed) {
    const dims = shape as readonly [number, number];
    const whole = new Uint8Array(await new Blob(bytes).arrayBuffer());
    const blocks = repackGguf(type, ordered(whole, source.order));
    return { dims, bits, block: GGUF_BLOCK, ...blocks };
  }
  const widened = parts.map((part, i) => widenGguf(part.type, bytes[i]!));
  if (source.transposed) widened[0] = turned(widened[0]!, source.transposed);
  const data = ordered(joined(widened), source.order);
  const columns = source.columns ? reordered(data, source.columns) : data;
  return { dtype: 'float32', dims: shape, data: source.value ? columns.map(source.value) : columns };
}

function joined(all: readonly Float32Array[]): Float32Array {
  if (all.length === 1) return all[0]!;
  const data = new Float32Array(all.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of all) {
    data.set(part, at);
    at += part.length;
  }
  return data;
}

function ordered<Data extends Float32Array | Uint8Array>(
  data: Data,
  order: readonly number[] | undefined,
): Data {
  if (!order) return data;
  const width = data.length / order.length;
  const result = data.slice() as Data;
  for (const [row, from] of order.entries()) {
    result.set(data.subarray(from * width, (from + 1) * width), row * width);
  }
  return result;
}

function reordered(data: Float32Array, columns: readonly number[]): Float32Array {
  const width = columns.length;
  return data.map((_, i) => data[i - (i % width) + columns[i % width]!]!);
}

/** Each matrix [rows, columns] as [columns, rows]. */
function turned(data: Float32Array, [rows, columns]: readonly [number, number]): Float32Array {
  const size = rows * columns;
  return data.map((_, i) => {
    const [start, within] = [i - (i % size), i % size];
    return data[start + (within % rows) * columns + Math.floor(within / rows)]!;
  });
}
