/** What cuDNN's calls for attention mean: which types they take and make, and their results, plainly computed. */
import type { Evaluated } from './evaluate.js';
import type { Instruction, TensorType } from './parse.js';

interface Config {
  readonly fmha_scale: number;
  readonly mask_type: 'CAUSAL' | 'NO_MASK' | 'PADDING';
  readonly intermediate_tensor_shape: { readonly dimensions: readonly string[] };
}

const FORWARD = '__cudnn$fmhaSoftmax';
const BACKWARD = '__cudnn$fmhaSoftmaxBackward';

function configOf({ attributes }: Instruction): Config {
  return (JSON.parse(String(attributes.config)) as { cudnn_fmha_backend_config: Config })
    .cudnn_fmha_backend_config;
}

/** The types of a call's results. Throws for another call, or for operands that it does not take. */
export function fusedTypes(instruction: Instruction): TensorType[] {
  const { attributes, operandTypes } = instruction;
  const [q, k, v, ...others] = operandTypes as [TensorType, TensorType, TensorType, ...TensorType[]];
  const { intermediate_tensor_shape: weights, mask_type: mask } = configOf(instruction);
  const [batch, tokens, heads, size] = q.dims as [number, number, number, number];
  const expect = (type: TensorType | undefined, element: string, dims: readonly (number | undefined)[]) => {
    if (type?.element !== element || type.dims.join() !== dims.join())
      throw new Error(`an operand that is no ${element}[${dims}]`);
  };
  const entries = k.dims[1]!;
  expect(q, 'bf16', [batch, tokens, heads, size]);
  for (const each of [k, v]) expect(each, 'bf16', [batch, entries, k.dims[2], size]);
  if (weights.dimensions.map(Number).join() !== [batch, heads, tokens, entries].join())
    throw new Error(`weights of ${weights.dimensions}`);
  const inHeads = ({ dims: [b, t, h, s] }: TensorType): TensorType => ({
    element: 'bf16',
    dims: [b!, h!, t!, s!],
  });
  const work: TensorType = { element: 'ui8', dims: [0] };
  if (attributes.target === FORWARD) {
    for (const each of others) expect(each, 'i32', [batch]);
    if (others.length !== (mask === 'PADDING' ? 2 : 0)) throw new Error(`${others.length} lengths`);
    return [inHeads(q), { element: 'f32', dims: [batch, heads, tokens] }, work];
  }
  if (attributes.target !== BACKWARD) throw new Error(`a call of ${attributes.target}`);
  const [logTotal, g, output] = others;
  expect(logTotal, 'f32', [batch, heads, tokens]);
  for (const each of [g, output]) expect(each, 'bf16', q.dims);
  return [inHeads(q), inHeads(k), inHeads(v), work];
}

/** What a call makes. */
export function evaluateFused(
  instruction: Instruction,
  [q, k, v, ...others]: readonly Evaluated[],
): Float64Array[] {
  const { fmha_scale: scale, mask_type: mask } = configOf(instruction);
  const [batch, tokens, heads, size] = q!.type.dims as [number, number, number, number];
  const [, entries, shared] = k!.type.dims as [number, number, number];
  const at = (x: Evaluated, b: number, t: number, h: number, d: number): number =>
    x.data[((b * x.type.dims[1]! + t) * x.type.dims[2]! + h) * size + d]!;
  const group = heads / shared;
  const [mix, dq] = [0, 0].map(() => new Float64Array(q!.data.length)) as [Float64Array, Float64Array];
  const [dk, dv] = [k!, v!].map(({ data }) => new Float64Array(data.length)) as [Float64Array, Float64Array];
  const totals = new Float64Array(batch * heads * tokens);
  const isBackward = instruction.attributes.target === BACKWARD;
  const [logTotal, g, output] = others;
  for (let b = 0; b < batch; b++) {
    const end = mask === 'PADDING' ? others[1]!.data[b]! : entries;
    for (let h = 0; h < heads; h++) {
      const own = Math.floor(h / group);
      for (let t = 0; t < tokens; t++) {
        const row = (b * heads + h) * tokens + t;
        const seen = mask === 'CAUSAL' ? t + 1 : end;
        const logits = Array.from({ length: seen }, (_, e) => {
          let sum = 0;
          for (let d = 0; d < size; d++) sum += at(q!, b, t, h, d) * at(k!, b, e, own, d);
          return sum * scale;
        });
        // Of no entries nobody says what the kernel makes.
        if (seen === 0) {
          totals[row] = Number.NaN;
          mix.fill(Number.NaN, row * size, (row + 1) * size);
          continue;
        }
        const top = Math.max(...logits);
        totals[row] = top + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - top), 0));
        const share = (e: number): number =>
          Math.exp(logits[e]! - (isBackward ? logTotal!.data[row]! : totals[row]!));
        for (let e = 0; e < seen; e++)
          for (let d = 0; d < size; d++) mix[row * size + d]! += share(e) * at(v!, b, e, own, d);
        if (!isBackward) continue;
        let along = 0;
        for (let d = 0; d < size; d++) along += at(g!, b, t, h, d) * at(output!, b, t, h, d);
        for (let e = 0; e < seen; e++) {
          let ofShare = 0;
          for (let d = 0; d < size; d++) ofShare += at(g!, b, t, h, d) * at(v!, b, e, own, d);
          const ofLogit = share(e) * (ofShare - along) * scale;
          const place = ((b * shared + own) * entries + e) * size;
          for (let d = 0; d < size; d++) {
            dq[row * size + d]! += ofLogit * at(k!, b, e, own, d);
            dk[place + d]! += ofLogit * at(q!, b, t, h, d);
            dv[place + d]! += share(e) * at(g!, b, t, h, d);
          }
        }
      }
    }
  }
  const work = new Float64Array();
  return isBackward ? [dq, dk, dv, work] : [mix, totals, work];
}
