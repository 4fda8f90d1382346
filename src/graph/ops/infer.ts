/** Type rules that several operators share. */
import { ShapeError } from '../../errors.js';
import type { TensorType } from '../tensor.js';

/** One operand, which must be float32, and one result of its shape. */
export function floatOnly(inputs: readonly (TensorType | undefined)[]): TensorType[] {
  const x = inputs[0]!;
  if (x.dtype !== 'float32') throw new ShapeError('the operand must be float32');
  return [{ dtype: x.dtype, shape: x.shape }];
}
