/** Bits of a model's weights as a person gives them: for all layers, and for those of some letters. */
import { InvalidArgumentError } from 'commander';
import { LAYER_BITS, type LayerBits, QUANTIZED_BITS, type Quantization } from '../models/index.js';

/** Bits of the weights, and of the layers of some letters. */
export type Bits = Pick<Quantization, 'bits' | 'layers'>;

/** `4` or `int4`, `S=8,M=4`, or both in one list. Throws `InvalidArgumentError` for anything else. */
export function bitsFrom(text: string): Bits {
  const wrong = (): never => {
    throw new InvalidArgumentError(
      `expected ${QUANTIZED_BITS.join(' or ')}, and bits of letters as in 4,S=8 (of ${LAYER_BITS.join(', ')}).`,
    );
  };
  let bits: Quantization['bits'] = 4;
  const layers: Record<string, LayerBits> = {};
  for (const part of text.split(',')) {
    const [, letters, number] = /^\s*(?:(\S+)=)?(?:int)?(\d+)\s*$/.exec(part) ?? wrong();
    const known: readonly number[] = letters === undefined ? QUANTIZED_BITS : LAYER_BITS;
    if (!known.includes(Number(number))) wrong();
    if (letters === undefined) bits = Number(number) as Quantization['bits'];
    else layers[letters] = Number(number) as LayerBits;
  }
  return { bits, ...(Object.keys(layers).length > 0 && { layers }) };
}
