/**
 * The time mixing of RWKV-7 (Peng et al., 2025, arXiv 2503.14456), as in fla's layers/rwkv7.py. A token is mixed with the one before it,
 * for each of six uses in shares of its own, x_n = x_t + (x_(t-1) - x_t) mu_n; then
 *
 *     r, k, v = x_r Wr, x_k Wk, x_v Wv            w = exp(-0.6065 sigmoid(w_lora(x_w))), a = sigmoid(a_lora(x_a))
 *     v <- v + (v_first - v) sigmoid(v_lora(x_v)) in every layer but the first, whose values v_first are
 *     kk = k * k_k of length 1 per head           k <- k (1 + (a - 1) k_a)
 *     S_t = diag(w_t) S_(t-1) + k_t v_t^T - (kk_t * a_t) (S_(t-1)^T kk_t)^T
 *     o_t = S_t^T r_t                             o_proj((norm(o) + (r . (k * r_k)) v) * g), g = sigmoid(x_g G1) G2
 *
 * with low-rank maps w_lora (a tanh between its matrices), a_lora and v_lora that have biases, and a norm of each head's mean and
 * variance. What is taken out is found in the state before its decay: in the decayed one, under kk / w, which is at most 1.84 kk.
 *
 * State for one sequence: `shift` [1, hiddenSize], the last token, and `recurrent` [numHeads, headDim, headDim].
 */
import { ConfigError } from '../../errors.js';
import {
  add,
  type Dim,
  divide,
  exp,
  linearRecurrence,
  maximum,
  multiply,
  negate,
  reshape,
  sigmoid,
  slice,
  sqrt,
  subtract,
  sum,
  type Tensor,
  tanh,
} from '../../graph/index.js';
import { layerNorm, linear, perChannel } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { constantly, fillWith, type Initializer, normal, type Parameters } from '../parameters.js';
import { tokenShift } from './token-shift.js';

/** Sizes of RWKV-7's time mixing. */
export interface Rwkv7Config {
  hiddenSize: number;
  headDim: number;
  /** Width of a head's values; `headDim` by default. */
  valueHeadDim?: number | undefined;
  /** Ranks of the low-rank maps. */
  decayRank: number;
  gateRank: number;
  rateRank: number;
  valueRank: number;
  /** Its index among the layers: the initial values depend on it, and the first layer's values are passed to all others. */
  layer: number;
  numLayers: number;
  normEpsilon: number;
  /** Added to the squared length of a key before it divides; without it, lengths below 1e-12 count as 1e-12. */
  keyEpsilon?: number | undefined;
  outputDeviation: number;
}

/** The log decay of a token is no less than minus this, exp(-1/2). */
const MOST_DECAY = Math.exp(-0.5);

/** Under which the first layer leaves its values. */
const FIRST_VALUES = 'rwkv7.values';

/** Lengths below it count as it, as in torch's normalize. */
const LEAST_LENGTH = 1e-12;

/** Throws `ConfigError` where heads do not divide the hidden size. */
export function rwkv7(config: Rwkv7Config): Mixer {
  const { hiddenSize: width, headDim, valueHeadDim = headDim, layer } = config;
  const numHeads = width / headDim;
  const values = numHeads * valueHeadDim;
  if (!Number.isInteger(numHeads)) {
    throw new ConfigError(`a hidden size of ${width} is no whole number of heads of ${headDim}`);
  }
  const initial = initialValues(config);
  return {
    state: [
      { name: 'shift', dtype: 'float32', shape: ['batch', 1, width], initial: 0 },
      { name: 'recurrent', dtype: 'float32', shape: ['batch', numHeads, headDim, valueHeadDim], initial: 0 },
    ],
    forward(parameters, x, { state, documents, observe, carried }) {
      const [batch, sequence] = x.shape as [Dim, Dim, Dim];
      const own = (name: string, shape: readonly number[], initialize: Initializer): Tensor =>
        parameters.get(name, shape, initialize, { decay: false });
      const { change, last } = tokenShift(x, state?.shift, documents);
      const shares = parameters.get('x_x', [USES.length, width], initial.shares, {
        decay: false,
        parts: USES.map((use) => ({ name: `x_${use}`, shape: [1, 1, width] })),
      });
      const mixed = (use: Use): Tensor => {
        const row = USES.indexOf(use);
        return add(x, multiply(change, reshape(slice(shares, 0, row, row + 1), [width])));
      };
      const to = (name: string, from: Tensor, outputs = width): Tensor =>
        parameters.within(`${name}_proj`, (p) => linear(p, from, outputs));

      const r = to('r', mixed('r'));
      const xv = mixed('v');
      const rawKey = to('k', mixed('k'));
      const rawValue = to('v', xv, values);
      const gate = multiply(
        sigmoid(low(parameters, 'w_lora', mixed('w'), config.decayRank, width, tanh, initial.decayBias)),
        -MOST_DECAY,
      );
      const rate = sigmoid(
        low(parameters, 'a_lora', mixed('a'), config.rateRank, width, undefined, initial.rateBias),
      );
      if (layer === 0) carried?.set(FIRST_VALUES, rawValue);
      const mixing = (): Tensor =>
        sigmoid(low(parameters, 'v_lora', xv, config.valueRank, values, undefined, initial.valueBias));
      const value =
        layer === 0 ? rawValue : add(rawValue, multiply(subtract(firstValues(carried), rawValue), mixing()));

      const unit = normalizedKey(multiply(rawKey, own('k_k', [width], initial.keyFactor)), config);
      const kept = multiply(subtract(rate, 1), own('k_a', [width], constantly(1.02)));
      const key = multiply(rawKey, add(kept, 1));
      const operands = {
        query: r,
        key,
        value,
        gate,
        erase: { find: multiply(unit, exp(negate(gate))), remove: multiply(unit, rate) },
        state: state?.recurrent,
        documents,
      };
      const heads = { query: numHeads, key: numHeads, value: numHeads };
      observe?.({ kind: 'recurrence', operands, heads });
      const recurrence = linearRecurrence(operands, heads);

      const normalized = parameters.within('g_norm', (p) =>
        layerNorm(p, recurrence.output, {
          centered: true,
          epsilon: headDim * config.normEpsilon,
          groups: numHeads,
          initial: ((layer + 1) / config.numLayers) ** 0.7,
        }),
      );
      const bonus = own('r_k', [numHeads, headDim], constantly(-0.04));
      const products = sum(
        reshape(multiply(multiply(r, key), reshape(bonus, [width])), [batch, sequence, numHeads, headDim]),
        -1,
      );
      const all = add(normalized, multiply(perChannel(products, valueHeadDim), value));
      const g = low(parameters, 'g_lora', mixed('g'), config.gateRank, values, sigmoid);
      const output = parameters.within('o_proj', (p) =>
        linear(p, multiply(all, g), width, { initialize: normal(config.outputDeviation) }),
      );
      return { output, state: { shift: last, recurrent: recurrence.state } };
    },
  };
}

/** Throws `ConfigError` where no first layer has left its values. */
function firstValues(carried: ReadonlyMap<string, Tensor> | undefined): Tensor {
  const values = carried?.get(FIRST_VALUES);
  if (!values)
    throw new ConfigError('an RWKV-7 layer mixes its values with those of the first, and there is none');
  return values;
}

/** A map through `rank` numbers, `NAME.lora.0` and `NAME.lora.2`, of which the second has a bias where one is given. */
function low(
  parameters: Parameters,
  name: string,
  x: Tensor,
  rank: number,
  outputs: number,
  activation?: (x: Tensor) => Tensor,
  bias?: Initializer,
): Tensor {
  return parameters.within(`${name}.lora`, (p) => {
    const inner = p.within('0', (q) => linear(q, x, rank));
    return p.within('2', (q) => {
      const product = linear(q, activation ? activation(inner) : inner, outputs, {
        initialize: normal(0.1 / Math.sqrt(rank)),
      });
      return bias ? add(product, q.get('bias', [outputs], bias)) : product;
    });
  });
}

/** Each head of x [batch, sequence, heads * size] divided by its length. */
function normalizedKey(x: Tensor, { headDim, keyEpsilon }: Rwkv7Config): Tensor {
  const [batch, sequence, width] = x.shape as [Dim, Dim, number];
  const heads = reshape(x, [batch, sequence, width / headDim, headDim]);
  const squares = sum(multiply(heads, heads), -1, { keepDims: true });
  const length =
    keyEpsilon === undefined ? maximum(sqrt(squares), LEAST_LENGTH) : sqrt(add(squares, keyEpsilon));
  return reshape(divide(heads, length), x.shape);
}

/** The six inputs that are mixed from a token and the one before it, in the order of `x_x`. */
const USES = ['r', 'w', 'k', 'v', 'a', 'g'] as const;
type Use = (typeof USES)[number];

/** How fast the share of the token before falls off over the channels, by what it is mixed for. */
const SHIFT_POWERS: Readonly<Record<Use, number>> = { r: 0.2, w: 0.9, k: 0.7, v: 0.7, a: 0.9, g: 0.2 };

/** The initial values, which depend on the layer's index, on the channel, and on the channel's place in its head. */
function initialValues({ hiddenSize: width, headDim, layer, numLayers }: Rwkv7Config) {
  const place = layer / Math.max(numLayers - 1, 1);
  const left = 1 - layer / numLayers;
  const channels =
    (f: (n: number) => number): Initializer =>
    (_, shape) => {
      let n = 0;
      return fillWith(shape, () => f(n++));
    };
  const last = Math.max(width - 1, 1);
  const slope = (n: number): number => n / last - 0.5;
  const zigzag = (n: number): number => {
    const half = Math.max((headDim - 1) / 2, 0.5);
    const at = ((n % headDim) - (headDim - 1) / 2) / half;
    return at * Math.abs(at);
  };
  return {
    shares: channels((n) => {
      const power = SHIFT_POWERS[USES[Math.floor(n / width)]!] * left;
      return 1 - ((n % width) / width) ** power;
    }),
    keyFactor: channels((n) => 0.71 - 0.1 * slope(n)),
    decayBias: channels((n) => -6 + 6 * (n / last) ** (1 + place ** 0.3) + 0.5 + 2.5 * zigzag(n)),
    rateBias: channels((n) => -0.19 + 0.3 * zigzag(n) + 0.4 * slope(n)),
    valueBias: channels((n) => 0.73 - 0.4 * slope(n)),
  };
}
