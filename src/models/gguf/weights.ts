/** Reads the weights of a GGUF file. Quantized matrices are kept in block formats that devices support; other tensors become float32. */
import { statsOf } from '#platform';
import {
  GGUF_BLOCK,
  GGUF_PACKED,
  ggufRowBytes,
  isBlocks,
  quantizeBlocks,
  repackGguf,
  widenGguf,
} from '../../checkpoint/index.js';
import { type HostTensor, joinedArrays, type QuantizedTensor } from '../../engine/index.js';
import { CheckpointError } from '../../errors.js';
import { type GgufTensor, readGguf } from '../../gguf.js';
import type { ParameterSpec } from '../../nn/index.js';
import { type Model, parametersOf } from '../model.js';
import { quantizable } from '../quantization.js';
import { readGgufBytes } from './read.js';
import { ggufSources, type Source } from './tensors.js';

const sizeOf = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

type Part = GgufTensor & { readonly name: string };

/** A parameter of a model, and its source in a GGUF file. */
interface Located {
  readonly spec: ParameterSpec;
  readonly source: Source;
  readonly parts: readonly Part[];
  /** The bits of its codes in memory. */
  readonly bits: 4 | 8 | 32;
}

/**
 * Locates the parameters of a model in a GGUF file; `packed` says whether matrices may stay quantized. Throws `CheckpointError` for a tensor
 * that is missing, unexpected, of a wrong shape, or in an unsupported format.
 */
async function locate(path: string, model: Model, packed: boolean): Promise<Located[]> {
  const { tensors } = await readGguf(path);
  const sources = ggufSources(model.json, (name) => tensors.has(name));
  const stays = packed ? quantizable(model, { bits: 4, block: GGUF_BLOCK }) : new Set<string>();
  const used = new Set<string>(['rope_freqs.weight']);
  const located: Located[] = [];
  for (const spec of parametersOf(model)) {
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
    for (const part of parts) await expectWithin(part);
    located.push({ spec, source, parts, bits: stays.has(spec.name) ? bitsOf(source, parts) : 32 });
  }
  const layers = Array.from(model.layers.keys(), (i) => `blk.${i}.`);
  const lost = [...tensors.keys()].find(
    (name) => !used.has(name) && layers.some((layer) => name.startsWith(layer)),
  );
  if (lost)
    throw new CheckpointError(
      `${path} has the tensor ${lost}, which the model of its metadata does not have`,
    );
  return located;
}

/** Throws `CheckpointError` for a tensor in an unsupported format, or in a truncated file. */
async function expectWithin({ path, name, type, shape, byteOffset }: Part): Promise<void> {
  const bytes = ggufRowBytes(type, shape.at(-1) ?? 1, `${path}: ${name}`) * sizeOf(shape.slice(0, -1));
  if (byteOffset + bytes > (await statsOf(path)).size) {
    throw new CheckpointError(`${path} ends within ${name}: it was cut off. Download it again.`);
  }
}

/** Matrices of other bits than 4 and 8, or of mixed formats, are kept in 8 bits. */
function bitsOf(source: Source, parts: readonly Part[]): 4 | 8 | 32 {
  if (!parts.every(({ type }) => isBlocks(type))) return 32;
  return isMoved(source, parts) && GGUF_PACKED[parts[0]!.type] === 4 ? 4 : 8;
}

/** Whether the parameter's blocks are those of its tensors, up to a permutation of rows. */
function isMoved({ columns, value, transposed }: Source, parts: readonly Part[]): boolean {
  return !columns && !value && !transposed && parts.every(({ type }) => type === parts[0]!.type);
}

/**
 * Reads the weights of a GGUF file, one at a time; with `packed`, matrices of 4 and 8 bits stay as they are, and other quantized ones become
 * 8 bits. Throws as `locate` does.
 */
export async function* ggufWeights(
  path: string,
  model: Model,
  packed: boolean,
): AsyncGenerator<readonly [name: string, weight: HostTensor | QuantizedTensor]> {
  for (const one of await locate(path, model, packed)) {
    yield [one.spec.name, await weightOf(one)] as const;
  }
}

/** The memory of a GGUF file's model in bytes, computed from its header. Throws as `locate` does. */
export async function ggufMemory(path: string, model: Model): Promise<number> {
  const located = await locate(path, model, true);
  return located.reduce((sum, { spec: { shape }, bits }) => {
    const scales = bits === 32 ? 0 : 4 / GGUF_BLOCK;
    return sum + sizeOf(shape) * (bits / 8 + scales);
  }, 0);
}

async function weightOf({
  spec: { name, shape },
  source,
  parts,
  bits,
}: Located): Promise<HostTensor | QuantizedTensor> {
  const [{ type }] = parts as [Part];
  const bytes = await Promise.all(parts.map((part) => readGgufBytes(part, part.name)));
  const dims = shape;
  if (bits !== 32 && isMoved(source, parts) && GGUF_PACKED[type] === bits) {
    const whole = new Uint8Array(await new Blob(bytes).arrayBuffer());
    return { dims, bits, block: GGUF_BLOCK, ...repackGguf(type, ordered(whole, source.order)) };
  }
  const widened = parts.map((part, i) => widenGguf(part.type, bytes[i]!));
  if (source.transposed) widened[0] = turned(widened[0]!, source.transposed);
  const data = ordered(joinedArrays(Float32Array, widened), source.order);
  const columns = source.columns ? reordered(data, source.columns) : data;
  const values = source.value ? columns.map(source.value) : columns;
  return bits === 32
    ? { dtype: 'float32', dims: shape, data: values }
    : { dims, bits, block: GGUF_BLOCK, ...quantizeBlocks(values, dims.at(-1)!, bits, GGUF_BLOCK, name) };
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
