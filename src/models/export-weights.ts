/**
 * Copies a model's stored tensors to another folder: renamed, split, or in another dtype. Each tensor is read only when it is written, so
 * that a model may be larger than the memory.
 */
import type { Dtype, TensorData, TensorToWrite, WeightFiles } from '../checkpoint/index.js';
import type { StoredDtype } from './stored-weights.js';

/** How tensors change when they are copied. */
export interface WeightChanges {
  /** The new names of a tensor; with several names, each gets an equal share of its rows. */
  readonly rename?: (name: string) => readonly string[];
  /** The dtype of floats; unchanged by default, except that F64 becomes F32. */
  readonly dtype?: StoredDtype | undefined;
}

/** The tensors `names` of open files, to be written while the files stay open. Integers keep their dtype. */
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
