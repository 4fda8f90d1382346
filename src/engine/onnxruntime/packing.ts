/**
 * Concatenates the outputs of a run on a GPU into one, since each output costs a round trip of its own (1 ms, measured on an NVIDIA H200
 * with onnxruntime-node 1.30).
 */
import { concat, type Dim, reshape, type Shape, type Tensor } from '../../graph/index.js';
import type { HostTensor } from '../tensors.js';
import { sizeOf } from './entries.js';

/** The shapes of the concatenated values by name, in order. */
export type Packing = ReadonlyMap<string, Shape>;

/** Nothing is concatenated. */
export const NO_PACKING: Packing = new Map();

/** Which values can be concatenated. */
export interface PackingOptions {
  /** Inputs whose sizes are known when a run ends. */
  inputs?: readonly Tensor[];
  /** Named dimensions that are fixed. */
  dims?: Readonly<Record<string, number>>;
  /** The names of values that stay in GPU memory. */
  staying?: ReadonlySet<string>;
}

/**
 * The values that can be concatenated: float32 ones whose shapes are numbers or sizes of inputs. Empty if there are fewer than two.
 */
export function packingOf(
  values: Readonly<Record<string, Tensor>>,
  { inputs = [], dims = {}, staying = new Set() }: PackingOptions = {},
): Packing {
  const known = new Set<Dim>(inputs.flatMap(({ shape }) => shape));
  const packed = Object.entries(values)
    .filter(([name, { dtype }]) => dtype === 'float32' && !staying.has(name))
    .map(([name, { shape }]) => [name, shape.map((dim) => dims[dim] ?? dim)] as const)
    .filter(([, shape]) => shape.every((dim) => typeof dim === 'number' || known.has(dim)));
  return packed.length > 1 ? new Map(packed) : NO_PACKING;
}

/** `values` with those of the packing concatenated to float32 [elements], under the name `as`. */
export function pack(
  values: Readonly<Record<string, Tensor>>,
  packing: Packing,
  as: string,
): Record<string, Tensor> {
  if (packing.size === 0) return values;
  const flat = [...packing.keys()].map((name) => reshape(values[name]!, [-1]));
  const others = Object.entries(values).filter(([name]) => !packing.has(name));
  return { ...Object.fromEntries(others), [as]: concat(flat, 0) };
}

/** The inverse of `pack`; `sizes` are those of the named dimensions. */
export function unpack(
  packed: HostTensor | undefined,
  packing: Packing,
  sizes: ReadonlyMap<string, number> = new Map(),
): Map<string, HostTensor> {
  let at = 0;
  return new Map(
    Array.from(packing, ([name, shape]): [string, HostTensor] => {
      const dims = shape.map((dim) => (typeof dim === 'number' ? dim : sizes.get(dim)!));
      const start = at;
      at += sizeOf(dims);
      return [name, { dtype: 'float32', dims, data: (packed!.data as Float32Array).slice(start, at) }];
    }),
  );
}
