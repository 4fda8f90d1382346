/** Cumulative sums of angles over tokens. */
import { ShapeError } from '../../errors.js';
import { formatShape, sameShape } from '../shape.js';
import { applyOne, defineComposite, type Tensor } from '../tensor.js';
import { reshape, sum } from './broadcast.js';
import { add, cast, less, multiply, where } from './elementwise.js';
import { concat, slice } from './layout.js';
import { cumulativeSum } from './reduce.js';

/** A turn has 2^21 units: few enough for float32 to represent each, and fine enough that rounding loses no more than float32 does. */
const UNITS = 2 ** 21;
/** A turn is the whole range of int32, so that sums wrap around with it. */
const STEP = 2 ** 32 / UNITS;

const runningAnglesOperator = defineComposite<null>({
  name: 'runningAngles',
  infer([steps, before]) {
    const [batch, sequence, ...rest] = steps!.shape;
    if (steps!.dtype !== 'float32' || sequence === undefined)
      throw new ShapeError('expected float32 steps [batch, sequence, ...]');
    if (before && (before.dtype !== 'float32' || !sameShape(before.shape, [batch!, ...rest])))
      throw new ShapeError(`the angles before must be float32${formatShape([batch!, ...rest])}`);
    return [{ dtype: 'float32', shape: steps!.shape }];
  },
  gradient: ({ inputs: [, before], outputGradients: [g] }) => [
    cumulativeSum(g!, 1, { reverse: true }),
    before && sum(g!, 1),
  ],
  expand([steps, before]) {
    const [batch, sequence, ...rest] = steps!.shape;
    const whole = before
      ? concat([units(reshape(before, [batch!, 1, ...rest])), units(steps!)], 1)
      : units(steps!);
    const all = cumulativeSum(whole, 1);
    const own = before ? slice(all, 1, 1, all.shape[1]!) : all;
    return [multiply(cast(reshape(own, [batch!, sequence!, ...rest]), 'float32'), (2 * Math.PI) / 2 ** 32)];
  },
});

/** An angle in units, as an int32. */
function units(angle: Tensor): Tensor {
  const scaled = multiply(angle, UNITS / (2 * Math.PI));
  // The cast truncates.
  return multiply(cast(add(scaled, where(less(scaled, 0), -0.5, 0.5)), 'int32'), STEP);
}

/**
 * The angles in [-pi, pi] after each of the steps [batch, sequence, ...], starting from `before` [batch, ...] (0 by default). Steps are rounded to
 * 2^-21 turns and added as integers, so that errors do not accumulate, and that the bits do not depend on how a sequence is split.
 */
export function runningAngles(steps: Tensor, before?: Tensor): Tensor {
  return applyOne(runningAnglesOperator, [steps, before], null);
}
