/** Angles that add up from token to token. */
import { ShapeError } from '../../errors.js';
import { formatShape, sameShape } from '../shape.js';
import { applyOne, defineComposite, type Tensor } from '../tensor.js';
import { reshape, sum } from './broadcast.js';
import { add, cast, less, multiply, where } from './elementwise.js';
import { concat, slice } from './layout.js';
import { cumulativeSum } from './reduce.js';

/** A turn is 2^21 units: so few that float32 tells each from the next, and so small that what is rounded away is no more than float32 loses. */
const UNITS = 2 ** 21;
/** As an int32 a turn is all of its values: sums that go beyond begin again at the other end. */
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
  // Casting cuts off.
  return multiply(cast(add(scaled, where(less(scaled, 0), -0.5, 0.5)), 'int32'), STEP);
}

/**
 * The angles, from -pi to pi, behind each of the steps [batch, sequence, ...] that follow the angles `before` [batch, ...], 0 by default. Steps
 * are rounded to the 2^21st part of a turn and added as whole numbers, so that no number of steps makes them inexact, and that it does not
 * matter, to the last bit, in which pieces a sequence is read.
 */
export function runningAngles(steps: Tensor, before?: Tensor): Tensor {
  return applyOne(runningAnglesOperator, [steps, before], null);
}
