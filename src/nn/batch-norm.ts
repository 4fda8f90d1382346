/**
 * Batch norm (Ioffe & Szegedy, 2015, arXiv 1502.03167), as in PyTorch: normalizes each channel over all positions of all examples. Training uses
 * the statistics of the batch and updates running averages; inference uses the running averages, as one multiplication and addition a channel.
 */
import { add, divide, mean, multiply, multiplyDims, sqrt, subtract, type Tensor } from '../graph/index.js';
import { constantly, type Parameters } from './parameters.js';

/** The options of `batchNorm`. */
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
  // The running variance is the unbiased estimate.
  const unbiased = typeof count === 'number' && count > 1 ? count / (count - 1) : 1;
  center.renew(running(center.value, own));
  spread.renew(running(spread.value, multiply(variance, unbiased)));
  return add(multiply(centered, divide(weight, sqrt(add(variance, epsilon)))), bias);
}
