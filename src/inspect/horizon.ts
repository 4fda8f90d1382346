/** The memory horizon of heads. */
import type { Values } from './trace.js';

/**
 * The number of tokens after which 1/e of a write remains, for decay rates in nats per token: [heads, dimensions] -> [heads]. The remainder is the
 * mean over a head's dimensions, so a dimension without decay can make it infinite.
 */
export function horizons({ dims, data }: Values): Values {
  const [heads, numbers] = dims as [number, number];
  return {
    dims: [heads],
    data: Float32Array.from({ length: heads }, (_, head) =>
      horizon(data.subarray(head * numbers, (head + 1) * numbers)),
    ),
  };
}

function horizon(rates: Float32Array): number {
  if (rates.length === 1) return 1 / rates[0]!;
  const left = (tokens: number): number =>
    rates.reduce((sum, rate) => sum + Math.exp(-rate * tokens), 0) / rates.length;
  const forever = rates.filter((rate) => rate === 0).length / rates.length;
  if (forever >= 1 / Math.E) return Number.POSITIVE_INFINITY;
  let low = 1 / Math.max(...rates);
  let high = low;
  while (left(high) > 1 / Math.E) high *= 2;
  for (let i = 0; i < 60; i++) {
    const middle = Math.sqrt(low * high);
    if (left(middle) > 1 / Math.E) low = middle;
    else high = middle;
  }
  return high;
}
