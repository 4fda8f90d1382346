/**
 * Batch norm (Ioffe & Szegedy, 2015, arXiv 1502.03167), as in PyTorch: each channel in units of its deviation from its mean, over all places
 * of all examples. In training these are the batch's own, and running means of both are kept; elsewhere it goes by the running
 * ones, which is one multiplication and one addition a channel.
 */
import { add, divide, mean, multiply, multiplyDims, sqrt, subtract, type Tensor } from '../graph/index.js';
import { constantly, type Parameters } from './parameters.js';

/** What `batchNorm` is told beside x. */
export interface BatchNormOptions {
  /** Added to the variance; PyTorch's 1e-5 by default. */
  epsilon?: number;
  /** The weight of a batch in the running means; 0.1 by default. */
  momentum?: number;
}

/** (x - mean) / sqrt(variance + epsilon) * weight + bias of each channel of x [batch, ..., channels]. */
export function batchNorm(
  parameters: Parameters,
  x: Tensor,
  { epsilon = 1e-5, momentum = 0.1 }: BatchNormOptions = {},
): Tensor {
  const shape = [x.shape.at(-1) as number];
  const weight = parameters.get('weight', shape, constantly(1), { decay: false });
  const bias = parameters.get('bias', shape, constantly(0), { decay: false });
  const center = parameters.statistic('running_mean', shape, 0);
  const spread = parameters.statistic('running_var', shape, 1);
  if (!center.renew || !spread.renew) {
    const factor = divide(weight, sqrt(add(spread.value, epsilon)));
    return add(multiply(x, factor), subtract(bias, multiply(center.value, factor)));
  }
  const axes = Array.from({ length: x.rank - 1 }, (_, axis) => axis);
  const own = mean(x, axes);
  const centered = subtract(x, own);
  const variance = mean(multiply(centered, centered), axes);
  const running = (kept: Tensor, now: Tensor): Tensor =>
    add(multiply(kept, 1 - momentum), multiply(now, momentum));
  const count = multiplyDims(x.shape.slice(0, -1));
  // What is kept estimates the variance of all there is, of which a batch is a sample.
  const unbiased = typeof count === 'number' && count > 1 ? count / (count - 1) : 1;
  center.renew(running(center.value, own));
  spread.renew(running(spread.value, multiply(variance, unbiased)));
  return add(multiply(centered, divide(weight, sqrt(add(variance, epsilon)))), bias);
}
