/**
 * Attention matrices of mixers. For softmax attention these are its weights. Recurrences and convolutions are linear in their values once the gates
 * are known, so they have *hidden* attention matrices (Ali, Zimerman & Wolf, 2024, arXiv 2403.01590; for Mamba-2, L * (C B^T) dt of Dao & Gu,
 * 2024). They are computed as impulse responses: the operator runs over values that are 1 at one token and 0 elsewhere, which gives the columns.
 *
 * `heads` are int64 indices [heads], an input of the program: other heads cost nothing.
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
  loop,
  matmul,
  maximum,
  mean,
  multiply,
  negate,
  type RecurrenceInputs,
  reshape,
  slice,
  sqrt,
  stateSystem,
  subtract,
  sum,
  type Tensor,
  transpose,
  zeros,
} from '../graph/index.js';
import type {
  ChannelSystemSight,
  ConvolutionSight,
  RecurrenceSight,
  ScanSight,
  Sight,
  StateSystemSight,
} from '../nn/index.js';

/** The number of heads; if every channel mixes separately, channels are heads. */
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
      const { query, key, gate, beta, erase, factor, own, tokens, stepsPerToken } = recurrenceOf(
        sight,
        heads,
      );
      const [count, steps] = query.shape as [Dim, Dim];
      const places = own ? pairs(tokens, 1) : identity(tokens);
      const impulses = reshape(
        broadcastTo(reshape(places, [tokens, 1, tokens]), [tokens, stepsPerToken, tokens]),
        [steps, tokens],
      );
      const value = factor ? multiply(impulses, factor) : broadcastTo(impulses, [count, steps, tokens]);
      // Heads become sequences of a batch.
      const read = linearRecurrence(
        { query, key, value, gate, beta, erase },
        { query: 1, key: 1, value: 1 },
      ).output;
      const last = reshape(
        slice(reshape(read, [count, tokens, stepsPerToken, tokens]), 2, stepsPerToken - 1, stepsPerToken),
        [count, tokens, tokens],
      );
      return own ? add(last, multiply(identity(tokens), own)) : last;
    }
  }
}

/** The write, keep and erase gates of each head and token, [heads, tokens] each; undefined for mixers without them. */
export function gatesOf(
  sight: Sight,
  heads: Tensor,
): { write?: Tensor; keep?: Tensor; erase?: Tensor | undefined } {
  if (sight.kind !== 'recurrence' && sight.kind !== 'scan') return {};
  const recurrence = recurrenceOf(sight, heads);
  const { gate, beta, factor, tokens, stepsPerToken } = recurrence;
  const write = factor ?? beta;
  /** [heads, steps, size] -> [heads, tokens, steps of a token, size] */
  const byToken = (x: Tensor): Tensor => reshape(x, [heads.shape[0]!, tokens, stepsPerToken, x.shape[2]!]);
  return {
    ...(write && { write: mean(byToken(write), [2, 3]) }),
    ...(gate && { keep: mean(exp(sum(byToken(gate), 2)), -1) }),
    erase: erasedBy(recurrence),
  };
}

/**
 * For delta rules, the share of the state that a token erases before it writes: the Frobenius norm of the erased matrix over that of the state D,
 * |r| |D^T f| / |D|, for all steps of a token together. The state is computed token by token.
 */
function erasedBy(recurrence: Recurrence): Tensor | undefined {
  const { key, value, gate, beta, erase, tokens, stepsPerToken } = recurrence;
  if (!value || (!beta && !erase)) return undefined;
  const [count, steps, keySize] = key.shape as [Dim, Dim, Dim];
  const valueSize = value.shape[2]!;
  const inTime = (x: Tensor): Tensor => transpose(x, [1, 0, 2]);
  const found = inTime(erase?.find ?? key);
  const removed = inTime(erase?.remove ?? multiply(key, beta!));
  const written = inTime(beta ? multiply(value, beta) : value);
  const [keys, gates] = [inTime(key), gate && inTime(gate)];
  const columns = (x: Tensor, t: Tensor): Tensor => reshape(gather(x, t), [count, -1, 1]);
  const rows = (x: Tensor, t: Tensor): Tensor => reshape(gather(x, t), [count, 1, -1]);
  const length = (x: Tensor): Tensor => sqrt(sum(multiply(x, x), [1, 2]));
  const { stacked } = loop(steps, [zeros([count, keySize, valueSize])], (t, [state]) => {
    const decayed = gates ? multiply(state!, exp(columns(gates, t))) : state!;
    const read = matmul(rows(found, t), decayed);
    const under = columns(removed, t);
    const share = divide(multiply(length(under), length(read)), maximum(length(decayed), LEAST_LENGTH));
    const next = add(subtract(decayed, multiply(under, read)), multiply(columns(keys, t), rows(written, t)));
    return { carried: [next], stacked: [share] };
  });
  return sum(reshape(transpose(stacked[0]!, [1, 0]), [count, tokens, stepsPerToken]), -1);
}

/** The norm below which a state counts as empty. */
const LEAST_LENGTH = 1e-20;

/** The mean decay rates of all heads over a sequence, in nats per token: [heads, dimensions with separate decays]. */
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
  const { operands, heads, stepsPerToken = 1 } = sight;
  return reshape(multiply(mean(operands.gate!, 1), -stepsPerToken), [heads.value, -1]);
}

/** The operands of some heads, as rows of a batch: [heads, tokens, size], or [heads, tokens, 1] for scalars. */
interface Recurrence {
  readonly query: Tensor;
  readonly key: Tensor;
  readonly gate: Tensor | undefined;
  readonly beta?: Tensor | undefined;
  readonly erase?: RecurrenceInputs['erase'];
  /** Only for recurrences. */
  readonly value?: Tensor | undefined;
  /** The number of tokens, and of steps for each token. */
  readonly tokens: Dim;
  readonly stepsPerToken: number;
  readonly factor: Tensor | undefined;
  /** For delayed values: the weight of a token's own value. */
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
      tokens: query.shape[1]!,
      stepsPerToken: 1,
    };
  }
  const { operands, heads: counts, factor, delayed, stepsPerToken = 1 } = sight;
  const { erase } = operands;
  // Consecutive heads share a query or a key.
  const shared = (x: Tensor, count: number): Tensor => perHead(x, count, divide(heads, counts.value / count));
  return {
    query: shared(operands.query, counts.query),
    key: shared(operands.key, counts.key),
    gate: operands.gate && perHead(operands.gate, counts.value, heads),
    beta: operands.beta && perHead(operands.beta, counts.value, heads),
    factor: factor && perHead(factor, counts.value, heads),
    own: delayed && perHead(delayed.own, counts.value, heads),
    erase: erase && { find: shared(erase.find, counts.key), remove: shared(erase.remove, counts.key) },
    value: perHead(operands.value, counts.value, heads),
    tokens: divideDim(operands.query.shape[1]!, stepsPerToken)!,
    stepsPerToken,
  };
}

function convolutionMatrices({ weight, before, after }: ConvolutionSight, heads: Tensor): Tensor {
  const [channels, , kernel] = weight.shape as [number, 1, number];
  const tokens = before.shape[1]!;
  const count = heads.shape[0]!;
  const inputs = multiply(identity(tokens), perHead(before, channels, heads));
  // Every pair of channel and impulse becomes a channel.
  const flat = reshape(transpose(inputs, [1, 0, 2]), [1, tokens, -1]);
  const weights = broadcastTo(gather(weight, heads), [count, tokens, kernel]);
  const { output } = causalConvolution(flat, reshape(weights, [-1, 1, kernel]));
  const responses = transpose(reshape(output, [tokens, count, tokens]), [1, 0, 2]);
  return multiply(responses, perHead(after, channels, heads));
}

/** Impulses become sequences of a batch. */
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
