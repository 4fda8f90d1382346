/** Entries of a quantized KV cache. */
import { ShapeError } from '../../errors.js';
import { codedInWasm } from '../lower/wasm/attention.js';
import { formatShape, sameShape } from '../shape.js';
import { applyOne, defineComposite, type Tensor } from '../tensor.js';
import { cast, multiply } from './elementwise.js';

const widenEntriesOperator = defineComposite<null>({
  name: 'widenEntries',
  infer([codes, scales]) {
    const wanted = [...codes!.shape.slice(0, -1), 1];
    if (scales && !sameShape(scales.shape, wanted))
      throw new ShapeError(`the scales must be ${formatShape(wanted)}`);
    return [{ dtype: 'float32', shape: codes!.shape }];
  },
  kernels: { wasm: (_, [codes, scales]) => codedInWasm(codes!, scales) },
  expand([codes, scales]) {
    const numbers = cast(codes!, 'float32');
    return [scales ? multiply(numbers, scales) : numbers];
  },
});

/**
 * Dequantizes entries [..., size], stored as float16 or as int8 codes with scales [..., 1], to float32. Attention kernels that read the state in
 * place dequantize only as they go.
 */
export function widenEntries(codes: Tensor, scales?: Tensor): Tensor {
  return applyOne(widenEntriesOperator, [codes, scales], null);
}
