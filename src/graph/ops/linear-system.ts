/**
 * Linear time-invariant systems, with a separate state for each channel (S4D: Gu et al., 2022, arXiv 2206.11893) or one for all. Since the
 * transition does not depend on the token, a sequence is a convolution, and all steps of a chunk are computed together as matrix products. A
 * scan carries states from chunk to chunk.
 */
import { ShapeError } from '../../errors.js';
import { channelSystemInWasm, stateSystemInWasm } from '../lower/wasm/systems.js';
import { addDims, type Dim, divideDimUp, multiplyDims, type Shape, sameShape } from '../shape.js';
import { apply, defineComposite, type Operands, type Tensor, type TensorType } from '../tensor.js';
import { broadcastTo, reshape, sum } from './broadcast.js';
import { dimension, fill, iota, zeros } from './constant.js';
import { isFirstOfDocument } from './documents.js';
import { add, cast, equal, multiply, negate, not, subtract, where } from './elementwise.js';
import { concat, reverse, slice, split, transpose } from './layout.js';
import { matmul } from './matmul.js';
import { scan } from './scan.js';

/** The steps of a chunk, a power of two; fewer if the sequence is known to be shorter. */
const CHUNK = 32;

function chunksOf(sequence: Dim): { steps: number; chunks: Dim; rest: Dim } {
  const steps =
    typeof sequence === 'number' ? Math.min(CHUNK, 2 ** Math.ceil(Math.log2(Math.max(sequence, 1)))) : CHUNK;
  const chunks = divideDimUp(sequence, steps);
  return { steps, chunks, rest: addDims(multiplyDims([chunks, steps]), multiplyDims([sequence, -1])) };
}

function expectShape(what: string, x: TensorType | undefined, shape: Shape): void {
  if (x && !sameShape(x.shape, shape)) throw new ShapeError(`the ${what} must be [${shape}]`);
}

const channelOperator = defineComposite<null>({
  name: 'channelSystem',
  infer([input, transition, readout, state]) {
    const [batch, , channels] = input!.shape;
    const [parts, , size] = transition!.shape;
    if (input!.shape.length !== 3) throw new ShapeError('the input must be [batch, sequence, channels]');
    if (transition!.shape.length !== 3 || (parts !== 1 && parts !== 2)) {
      throw new ShapeError('the transition must be [1 or 2, channels, size]');
    }
    expectShape('transition', transition, [parts, channels!, size!]);
    expectShape('readout', readout, [parts, channels!, size!]);
    const stateShape = [batch!, parts, channels!, size!];
    expectShape('state', state, stateShape);
    return [
      { dtype: 'float32', shape: input!.shape },
      { dtype: 'float32', shape: stateShape },
    ];
  },
  expand: channelsInChunks,
  kernels: { wasm: channelSystemInWasm },
});

/** Real numbers, or complex numbers as real and imaginary parts. */
type Parts = readonly [re: Tensor, im?: Tensor];

function partsOf(x: Tensor, axis: number): Parts {
  const parts = x.shape[axis] === 2 ? split(x, axis, [1, 1]) : [x];
  const rest = x.shape.filter((_, i) => i !== axis);
  return parts.map((part) => reshape(part, rest)) as unknown as Parts;
}

function product([aRe, aIm]: Parts, [bRe, bIm]: Parts): Parts {
  if (!aIm || !bIm) return [multiply(aRe, bRe)];
  return [subtract(multiply(aRe, bRe), multiply(aIm, bIm)), add(multiply(aRe, bIm), multiply(aIm, bRe))];
}

function each(parts: Parts, f: (part: Tensor) => Tensor): Parts {
  return parts.map((part) => f(part!)) as unknown as Parts;
}

/** Real and imaginary parts concatenated along an axis. */
function joined(parts: Parts, axis: number): Tensor {
  return concat(parts as readonly Tensor[], axis);
}

/**
 * With P_l the transition's powers [channels, size, steps], and U the inputs of all chunks [channels, steps, batch * chunks]:
 * within a chunk the output is a Toeplitz matrix of the kernel Re sum_n w P_l times U; the contribution of a chunk to the state is P_l times U
 * reversed; and step t reads Re sum_n P_t (w a h) of the state h before the chunk. So everything that is as large as the powers is
 * computed as a product of matrices with them.
 */
function channelsInChunks([input, transition, readout, state]: Operands): Tensor[] {
  const [batch, sequence, channels] = input!.shape as [Dim, Dim, number];
  const [parts, , size] = transition!.shape as [number, number, number];
  const { steps, chunks, rest } = chunksOf(sequence);
  const columns = multiplyDims([batch, chunks]);
  const whole = rest === 0 ? input! : concat([input!, zeros([batch, rest, channels])], 1);
  const u = reshape(transpose(reshape(whole, [batch, chunks, steps, channels]), [3, 2, 0, 1]), [
    channels,
    steps,
    columns,
  ]);

  // P_0 to P_(steps - 1).
  const single = each(partsOf(transition!, 0), (part) => reshape(part, [channels, size, 1]));
  const one = fill([channels, size, 1], 1);
  let powers: Parts = single.length === 2 ? [one, zeros(one.shape)] : [one];
  let last = single;
  for (; (powers[0].shape[2] as number) < steps; last = product(last, last)) {
    const next = product(powers, last);
    powers = powers.map((part, i) => concat([part!, next[i]!], 2)) as unknown as Parts;
  }
  /** P_steps */
  const atEnd = last;
  const stacked = joined(powers, 1);

  const weights = each(partsOf(readout!, 0), (part) => reshape(part, [channels, size, 1]));
  /** Re sum_n P_l x_n: [channels, steps, columns] of x [channels, size, columns]. */
  const read = ([re, im]: Parts): Tensor =>
    matmul(stacked, joined(im ? [re, negate(im)] : [re], 1), { transposeA: true });
  const within = matmul(toeplitz(reshape(read(weights), [channels, steps])), u);

  // The last chunk may be shorter; its final state is the one after its own last step.
  const isLast = equal(iota(chunks), subtract(dimension(chunks), 1));
  const moved = (power: Parts): Tensor =>
    reshape(
      joined(
        each(power, (part) => reshape(part, [1, channels, size])),
        0,
      ),
      [1, parts, 1, channels, size],
    );
  const full = broadcastTo(moved(atEnd), [chunks, parts, 1, channels, size]);
  const short = addDims(steps, multiplyDims([rest, -1]));
  const upToEnd = powers.map((part, i) => concat([part!, atEnd[i]!], 2)) as unknown as Parts;
  const transitions =
    rest === 0
      ? full
      : where(
          reshape(isLast, [-1, 1, 1, 1, 1]),
          moved(each(upToEnd, (part) => slice(part, 2, short, addDims(short, 1)))),
          full,
        );
  const backwards = reverse(u, 1);
  const entering = (): Tensor => {
    if (rest === 0) return backwards;
    const shifted = slice(concat([backwards, zeros(u.shape)], 1), 1, rest, addDims(rest, steps));
    const byChunk = (x: Tensor): Tensor => reshape(x, [channels, steps, batch, chunks]);
    return reshape(where(isLast, byChunk(shifted), byChunk(backwards)), u.shape);
  };
  const added = transpose(
    reshape(matmul(stacked, entering()), [channels, parts, size, batch, chunks]),
    [4, 1, 3, 0, 2],
  );
  const initial = transpose(state ?? zeros([batch, parts, channels, size]), [1, 0, 2, 3]);
  const carried = scan(transitions, added, initial, {
    product: parts === 2 ? 'complex' : 'elements',
    reverse: false,
  });

  const before = each(partsOf(transpose(carried.states, [3, 1, 4, 2, 0]), 1), (part) =>
    reshape(part, [channels, size, columns]),
  );
  const output = add(within, read(product(product(weights, single), before)));
  const inTime = transpose(reshape(output, [channels, steps, batch, chunks]), [2, 3, 1, 0]);
  return [
    slice(reshape(inTime, [batch, multiplyDims([chunks, steps]), channels]), 1, 0, sequence),
    transpose(carried.last, [1, 0, 2, 3]),
  ];
}

/** [channels, steps, steps] with kernel[i - j] at row i and column j, and 0 above the diagonal, of a kernel [channels, steps]. */
function toeplitz(kernel: Tensor): Tensor {
  const [channels, steps] = kernel.shape as [Dim, number];
  // Reshaping a repeated row of 2 steps to rows of 2 steps - 1 shifts each row by one.
  const first = slice(kernel, 1, 0, 1);
  const others = reverse(slice(kernel, 1, 1, steps), 1);
  const row = concat([first, zeros([channels, steps]), others], 1);
  const repeated = reshape(
    broadcastTo(reshape(row, [channels, 1, 2 * steps]), [channels, steps, 2 * steps]),
    [channels, 2 * steps * steps],
  );
  const rows = reshape(slice(repeated, 1, 0, (2 * steps - 1) * steps), [channels, steps, 2 * steps - 1]);
  return slice(rows, 2, 0, steps);
}

/** float32 [sequence, batch]: 1 if a step continues from the state before it. */
function goesOn(documents: Tensor): Tensor {
  return cast(not(transpose(isFirstOfDocument(documents), [1, 0])), 'float32');
}

/** With documents the transition depends on the step, so a sequence is not a convolution: a scan computes all states. */
function channelsWithinDocuments(
  input: Tensor,
  transition: Tensor,
  readout: Tensor,
  state: Tensor | undefined,
  documents: Tensor,
): { output: Tensor; state: Tensor } {
  const [batch, sequence, channels] = input.shape as [Dim, Dim, Dim];
  const [parts, , size] = transition.shape as [number, Dim, Dim];
  const all = [sequence, parts, batch, channels, size];
  const transitions = multiply(
    reshape(transition, [1, parts, 1, channels, size]),
    reshape(goesOn(documents), [sequence, 1, batch, 1, 1]),
  );
  const entering = broadcastTo(reshape(transpose(input, [1, 0, 2]), [sequence, 1, batch, channels, 1]), [
    sequence,
    1,
    batch,
    channels,
    size,
  ]);
  const added = parts === 1 ? entering : concat([entering, zeros(entering.shape)], 1);
  const initial = transpose(state ?? zeros([batch, parts, channels, size]), [1, 0, 2, 3]);
  const { states, last } = scan(broadcastTo(transitions, all), added, initial, {
    product: parts === 1 ? 'elements' : 'complex',
    reverse: false,
  });
  const after = concat([slice(states, 0, 1, sequence), reshape(last, [1, ...last.shape])], 0);
  const weights = partsOf(readout, 0).map((part, i) => (i === 0 ? part! : negate(part!)));
  const joined = reshape(
    concat(
      weights.map((part) => reshape(part, [1, 1, channels, size])),
      0,
    ),
    [1, parts, 1, channels, size],
  );
  const output = sum(multiply(after, joined), [1, 4]);
  return { output: transpose(output, [1, 0, 2]), state: transpose(last, [1, 0, 2, 3]) };
}

function statesWithinDocuments(
  input: Tensor,
  transition: Tensor,
  state: Tensor | undefined,
  documents: Tensor,
): { states: Tensor; state: Tensor } {
  const [batch, sequence, size] = input.shape as [Dim, Dim, Dim];
  const transitions = multiply(
    reshape(transition, [1, 1, size, size]),
    reshape(goesOn(documents), [sequence, batch, 1, 1]),
  );
  const added = reshape(transpose(input, [1, 0, 2]), [sequence, batch, size, 1]);
  const initial = reshape(state ?? zeros([batch, size]), [batch, size, 1]);
  const { states, last } = scan(transitions, added, initial, { product: 'matrix', reverse: false });
  const after = concat([slice(states, 0, 1, sequence), reshape(last, [1, batch, size, 1])], 0);
  return {
    states: transpose(reshape(after, [sequence, batch, size]), [1, 0, 2]),
    state: reshape(last, [batch, size]),
  };
}

/** The operands of `channelSystem`. */
export interface ChannelSystemInputs {
  /** u: [batch, sequence, channels] */
  input: Tensor;
  /** a, of absolute values up to 1: [2, channels, size] real and imaginary parts, or [1, channels, size] for real numbers. */
  transition: Tensor;
  /** w, of the same shape. */
  readout: Tensor;
  /** h before the first step: [batch, parts, channels, size]; zeros by default. */
  state?: Tensor | undefined;
  /** int64 [batch, sequence], see documents.ts: h is 0 before the first step of each document. */
  documents?: Tensor | undefined;
}

/**
 * h_t = a h_(t-1) + u_t for each channel with a state of `size` numbers, and y_t = Re sum_n w_n h_(t,n). Returns `output`
 * [batch, sequence, channels] and the final `state` [batch, parts, channels, size]. Throws `ShapeError` where shapes do not fit.
 */
export function channelSystem({ input, transition, readout, state, documents }: ChannelSystemInputs): {
  output: Tensor;
  state: Tensor;
} {
  if (documents) return channelsWithinDocuments(input, transition, readout, state, documents);
  const [output, finalState] = apply(channelOperator, [input, transition, readout, state], null);
  return { output: output!, state: finalState! };
}

const stateOperator = defineComposite<null>({
  name: 'stateSystem',
  infer([input, transition, state]) {
    if (input!.shape.length !== 3) throw new ShapeError('the input must be [batch, sequence, size]');
    const [batch, , size] = input!.shape;
    expectShape('transition', transition, [size!, size!]);
    expectShape('state', state, [batch!, size!]);
    return [
      { dtype: 'float32', shape: input!.shape },
      { dtype: 'float32', shape: [batch!, size!] },
    ];
  },
  expand: statesInChunks,
  kernels: { wasm: stateSystemInWasm },
});

/**
 * Within a chunk, the contributions of its inputs to the states are summed by doubling: to each step, the value 1, 2, 4, ... steps before is
 * added, times the same power of A. The contribution of the state before the chunk is spread over its steps in the same way.
 */
function statesInChunks([input, transition, state]: Operands): Tensor[] {
  const [batch, sequence, size] = input!.shape as [Dim, Dim, number];
  const { steps, chunks, rest } = chunksOf(sequence);
  const whole = rest === 0 ? input! : concat([input!, zeros([batch, rest, size])], 1);
  const rows = multiplyDims([batch, chunks]);
  let own = reshape(whole, [rows, steps, size]);
  // States are rows, so a step multiplies by the transposed matrix from the right: A^1, A^2, A^4, ...
  const powers = [transition!];
  for (let length = 1; length < steps; length *= 2) {
    const power = powers.at(-1)!;
    const earlier = concat([zeros([rows, length, size]), slice(own, 1, 0, steps - length)], 1);
    own = add(own, matmul(earlier, power, { transposeB: true }));
    powers.push(matmul(power, power));
  }
  const first = state ?? zeros([batch, size]);
  const ends = reshape(slice(own, 1, steps - 1, steps), [batch, chunks, size]);
  const carried = scan(
    broadcastTo(reshape(powers.at(-1)!, [1, size, size]), [chunks, size, size]),
    transpose(ends, [1, 2, 0]),
    transpose(first, [1, 0]),
    { product: 'matrix', reverse: false },
  );
  const before = reshape(transpose(carried.states, [2, 0, 1]), [rows, 1, size]);
  let kept = matmul(before, transition!, { transposeB: true });
  for (const power of powers.slice(0, -1)) {
    kept = concat([kept, matmul(kept, power, { transposeB: true })], 1);
  }
  const all = reshape(add(own, kept), [batch, multiplyDims([chunks, steps]), size]);
  const states = slice(all, 1, 0, sequence);
  return [states, reshape(slice(states, 1, addDims(sequence, -1), sequence), [batch, size])];
}

/**
 * h_t = A h_(t-1) + x_t for x [batch, sequence, size] and A [size, size], from `state` [batch, size] on (zeros by default). Returns
 * the `states` [batch, sequence, size] after each step, and the last `state`. With `documents` int64 [batch, sequence] (documents.ts)
 * h is 0 before the first step of each. Throws `ShapeError` where shapes do not fit.
 */
export function stateSystem(
  input: Tensor,
  transition: Tensor,
  state?: Tensor,
  documents?: Tensor,
): { states: Tensor; state: Tensor } {
  if (documents) return statesWithinDocuments(input, transition, state, documents);
  const [states, last] = apply(stateOperator, [input, transition, state], null);
  return { states: states!, state: last! };
}
