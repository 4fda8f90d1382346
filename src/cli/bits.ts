/** Parses the option for bits of weights: for all layers, and for layers of some letters. */
import { InvalidArgumentError } from 'commander';
import { LAYER_BITS, QUANTIZED_BITS, type Quantization } from '../models/index.js';
import { byLetter } from './by-letter.js';

/** Bits of the weights, and of the layers of some letters. */
export type Bits = Pick<Quantization, 'bits' | 'layers'>;

/** `4` or `int4`, `S=8,M=4`, or both in one list. Throws `InvalidArgumentError` for anything else. */
export function bitsFrom(text: string): Bits {
  const given = byLetter(text);
  const one = <T extends number>(value: string, known: readonly T[]): T => {
    const number = Number(/^(?:int)?(\d+)$/.exec(value)?.[1]);
    const bits = known.find((each) => each === number);
    return bits ?? wrong();
  };
  const { all = '4', layers } = given ?? wrong();
  const ofLayers = Object.entries(layers).map(
    ([letters, value]) => [letters, one(value, LAYER_BITS)] as const,
  );
  return {
    bits: one(all, QUANTIZED_BITS),
    ...(ofLayers.length > 0 && { layers: Object.fromEntries(ofLayers) }),
  };
}

function wrong(): never {
  throw new InvalidArgumentError(
    `expected ${QUANTIZED_BITS.join(' or ')}, and bits of letters as in 4,S=8 (of ${LAYER_BITS.join(', ')}).`,
  );
}
