/**
 * What mixes along the sequence, as matrices. Of softmax attention these are its weights. A recurrence or a convolution has
 * no such matrix, but what it does to its inputs is linear once the gates are known, so it has a *hidden* one (Ali, Zimerman &
 * Wolf, 2024, arXiv 2403.01590; for Mamba-2 it is L * (C B^T) dt of Dao & Gu, 2024). It is read off as an impulse response:
 * the same operator runs over values that are 1 at one token each and 0 elsewhere, and its outputs are the columns.
 *
 * `heads` are int64 indices [heads]: those that are not asked for cost nothing, and which they are need not be known before
 * the program runs.
 */
import {
  add,
  broadcastTo,
  cast,
  causalConvolution,
  channelSystem,
  type Dim,
  divide,
  divideDim,
  equal,
  exp,
  gather,
  iota,
  linearRecurrence,
  log,
  matmul,
  mean,
  multiply,
  negate,
  reshape,
  stateSystem,
  sum,
  type Tensor,
  transpose,
} from '../graph/index.js';
import type {
  ChannelSystemSight,
  ConvolutionSight,
  RecurrenceSight,
  ScanSight,
  Sight,
  StateSystemSight,
} from '../nn/index.js';

/** The heads that a sight has; where every channel mixes on its own it is one. */
export function headsOf(sight: Sight): number {
  switch (sight.kind) {
    case 'attention':
      return sight.weights.shape[1] as number;
    case 'recurrence':
      return sight.heads.value;
    case 'scan':
      return sight.operands.rate.shape[0] as number;
    case 'convolution':
      return sight.weight.shape[0] as number;
    case 'channel system':
      return sight.operands.transition.shape[1] as number;
    case 'state system':
      return sight.readout.shape[0] as number;
  }
}

/** The matrices of some heads, for one sequence: [heads, tokens, tokens]. */
export function matricesOf(sight: Sight, heads: Tensor): Tensor {
  switch (sight.kind) {
    case 'attention':
      return gather(reshape(sight.weights, sight.weights.shape.slice(1)), heads);
    case 'convolution':
      return convolutionMatrices(sight, heads);
    case 'channel system':
      return channelMatrices(sight, heads);
    case 'state system':
      return contributions(sight, heads);
    default: {
      const { query, key, gate, beta, factor, own } = recurrenceOf(sight, heads);
      const [count, tokens] = query.shape as [Dim, Dim];
      const impulses = own ? pairs(tokens, 1) : identity(tokens);
      const value = factor ? multiply(impulses, factor) : broadcastTo(impulses, [count, tokens, tokens]);
      // A head is a sequence of its own here.
      const read = linearRecurrence({ query, key, value, gate, beta }, { query: 1, key: 1, value: 1 }).output;
      return own ? add(read, multiply(identity(tokens), own)) : read;
    }
  }
}

/** What a head writes and keeps of each token, [heads, tokens] each; undefined for what has no such thing. */
export function gatesOf(sight: Sight, heads: Tensor): { write?: Tensor; keep?: Tensor } {
  if (sight.kind !== 'recurrence' && sight.kind !== 'scan') return {};
  const { gate, beta, factor } = recurrenceOf(sight, heads);
  const write = factor ?? beta;
  return {
    ...(write && { write: reshape(write, write.shape.slice(0, 2)) }),
    ...(gate && { keep: mean(exp(gate), -1) }),
  };
}

/** How fast all heads forget on average over a sequence, in nats a token: [heads, numbers that decay on their own]. */
export function decaysOf(sight: Sight): Tensor | undefined {
  if (sight.kind === 'scan') {
    const { step, rate } = sight.operands;
    return negate(multiply(transpose(mean(step, 1), [1, 0]), rate));
  }
  if (sight.kind === 'channel system') {
    const { transition } = sight.operands;
    return multiply(log(sum(multiply(transition, transition), 0)), -0.5);
  }
  if (sight.kind !== 'recurrence' || !sight.operands.gate) return undefined;
  return negate(reshape(mean(sight.operands.gate, 1), [sight.heads.value, -1]));
}

/** Operands of some heads, each a batch's row: [heads, tokens, size], and [heads, tokens, 1] where a head has one number. */
interface Recurrence {
  readonly query: Tensor;
  readonly key: Tensor;
  readonly gate: Tensor | undefined;
  readonly beta?: Tensor | undefined;
  readonly factor: Tensor | undefined;
  /** Of values that are delayed: what a token reads of its own. */
  readonly own?: Tensor | undefined;
}

function recurrenceOf(sight: RecurrenceSight | ScanSight, heads: Tensor): Recurrence {
  const shown = heads.shape[0]!;
  if (sight.kind === 'scan') {
    const { query, key, step, rate } = sight.operands;
    const channels = rate.shape[0] as number;
    const shared = (x: Tensor): Tensor => broadcastTo(x, [shown, ...x.shape.slice(1)]);
    const rates = reshape(gather(rate, heads), [shown, 1, rate.shape[1]!]);
    return {
      query: shared(query),
      key: shared(key),
      gate: multiply(perHead(step, channels, heads), rates),
      factor: perHead(sight.factor, channels, heads),
    };
  }
  const { operands, heads: counts, factor, delayed } = sight;
  // Consecutive heads share a query or a key.
  const shared = (x: Tensor, count: number): Tensor => perHead(x, count, divide(heads, counts.value / count));
  return {
    query: shared(operands.query, counts.query),
    key: shared(operands.key, counts.key),
    gate: operands.gate && perHead(operands.gate, counts.value, heads),
    beta: operands.beta && perHead(operands.beta, counts.value, heads),
    factor: factor && perHead(factor, counts.value, heads),
    own: delayed && perHead(delayed.own, counts.value, heads),
  };
}

function convolutionMatrices({ weight, before, after }: ConvolutionSight, heads: Tensor): Tensor {
  const [channels, , kernel] = weight.shape as [number, 1, number];
  const tokens = before.shape[1]!;
  const count = heads.shape[0]!;
  const inputs = multiply(identity(tokens), perHead(before, channels, heads));
  // Every impulse of every channel is a channel.
  const flat = reshape(transpose(inputs, [1, 0, 2]), [1, tokens, -1]);
  const weights = broadcastTo(gather(weight, heads), [count, tokens, kernel]);
  const { output } = causalConvolution(flat, reshape(weights, [-1, 1, kernel]));
  const responses = transpose(reshape(output, [tokens, count, tokens]), [1, 0, 2]);
  return multiply(responses, perHead(after, channels, heads));
}

/** Impulses are sequences of a batch here. */
function channelMatrices({ operands }: ChannelSystemSight, heads: Tensor): Tensor {
  const { input, transition, readout } = operands;
  const tokens = input.shape[1]!;
  const some = (x: Tensor): Tensor => transpose(gather(transpose(x, [1, 0, 2]), heads), [1, 0, 2]);
  const impulses = broadcastTo(reshape(identity(tokens), [tokens, tokens, 1]), [
    tokens,
    tokens,
    heads.shape[0]!,
  ]);
  const { output } = channelSystem({
    input: impulses,
    transition: some(transition),
    readout: some(readout),
  });
  return transpose(output, [2, 1, 0]);
}

/** What each token adds to each output channel: a system that mixes channels has no matrix for a channel of its own. */
function contributions({ input, transition, readout }: StateSystemSight, heads: Tensor): Tensor {
  const [, tokens, size] = input.shape as [Dim, Dim, Dim];
  const alone = multiply(reshape(identity(tokens), [tokens, tokens, 1]), reshape(input, [1, tokens, size]));
  const { states } = stateSystem(alone, transition);
  return transpose(matmul(states, gather(readout, heads), { transposeB: true }), [2, 1, 0]);
}

/** Some heads of x [1, tokens, count * size]: [heads, tokens, size]. */
function perHead(x: Tensor, count: number, heads: Tensor): Tensor {
  const [, tokens, width] = x.shape as [Dim, Dim, Dim];
  const size = divideDim(width, count)!;
  return gather(transpose(reshape(x, [tokens, count, size]), [1, 0, 2]), heads);
}

/** [size, size] */
function identity(size: Dim): Tensor {
  return pairs(size, 0);
}

/** [size, size]: 1 where the row is so many places behind the column, else 0. */
function pairs(size: Dim, behind: number): Tensor {
  const columns = add(reshape(iota(size), [1, -1]), behind);
  return cast(equal(reshape(iota(size), [-1, 1]), columns), 'float32');
}
