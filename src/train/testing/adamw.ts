/** AdamW in float64, as Loshchilov & Hutter (2019) write it, with clipping by the global norm. */
import type { AdamWConfig } from '../optimizer.js';

/** A parameter and its moments in float64. */
export interface AdamWState {
  readonly parameter: Float64Array;
  readonly first: Float64Array;
  readonly second: Float64Array;
}

/** Step `step` (1 for the first) of all parameters by name. */
export function adamWReference(
  config: AdamWConfig,
  states: ReadonlyMap<string, AdamWState>,
  gradients: ReadonlyMap<string, Float32Array>,
  step: number,
  learningRate: number,
  decays: (name: string) => boolean,
): Map<string, AdamWState> {
  const { beta1, beta2, epsilon, weightDecay, maxGradientNorm } = config;
  let squares = 0;
  for (const gradient of gradients.values()) for (const g of gradient) squares += g * g;
  const norm = Math.sqrt(squares);
  const scale = norm > maxGradientNorm ? maxGradientNorm / norm : 1;
  const next = new Map<string, AdamWState>();
  for (const [name, state] of states) {
    const gradient = gradients.get(name)!;
    const first = state.first.map((m, i) => beta1 * m + (1 - beta1) * scale * gradient[i]!);
    const second = state.second.map((v, i) => beta2 * v + (1 - beta2) * (scale * gradient[i]!) ** 2);
    const parameter = state.parameter.map((p, i) => {
      const unbiasedFirst = first[i]! / (1 - beta1 ** step);
      const unbiasedSecond = second[i]! / (1 - beta2 ** step);
      const decayed = decays(name) ? p - learningRate * weightDecay * p : p;
      return decayed - (learningRate * unbiasedFirst) / (Math.sqrt(unbiasedSecond) + epsilon);
    });
    next.set(name, { parameter, first, second });
  }
  return next;
}
