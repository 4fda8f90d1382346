/**
 * A model's stored tensors on their way into another folder: under other names, in parts, in another dtype. Each is read when
 * its turn to be written comes, so that a model may be larger than the memory.
 */
import type { Dtype, TensorData, TensorToWrite, WeightFiles } from '../checkpoint/index.js';
import type { StoredDtype } from './stored-weights.js';

/** What changes when tensors are written into another folder. */
export interface WeightChanges {
  /** What a tensor is called there; of several names each gets an equal share of its rows. */
  readonly rename?: (name: string) => readonly string[];
  /** How fractions are stored. By default as they are, except F64: Heddle computes in F32. */
  readonly dtype?: StoredDtype | undefined;
}

/** The tensors `names` of open files, to be written while these stay open. Integers stay what they are. */
export function tensorsToWrite(
  files: WeightFiles,
  names: Iterable<string>,
  { rename = (name) => [name], dtype }: WeightChanges,
): TensorToWrite[] {
  return Array.from(names).flatMap((name) => {
    const info = files.tensors.get(name)!;
    const stored = dtypeAfter(info.dtype, dtype);
    const load = async (): Promise<TensorData> =>
      stored === info.dtype ? (await files.read(name)).data : files.readFloat32(name);
    const targets = rename(name);
    if (targets.length === 1) return [{ name: targets[0]!, dtype: stored, shape: info.shape, data: load }];
    const shape = [info.shape[0]! / targets.length, ...info.shape.slice(1)];
    const size = shape.reduce((a, b) => a * b, 1);
    return targets.map((target, i) => ({
      name: target,
      dtype: stored,
      shape,
      data: async () => (await load()).slice(i * size, (i + 1) * size),
    }));
  });
}

function dtypeAfter(dtype: Dtype, wanted: StoredDtype | undefined): Dtype {
  if (dtype !== 'F64' && dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') return dtype;
  return wanted ?? (dtype === 'F64' ? 'F32' : dtype);
}
