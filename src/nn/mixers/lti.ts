/**
 * The linear time-invariant state space, x' = A x + B u, y = C x + D u: nothing of it depends on the token, so that a sequence is a
 * convolution. Discretized it is
 *
 *     h_t = A- h_(t-1) + B- u_t      y_t = C h_t + D u_t      output: GLU(output_linear(GELU(y)))
 *
 * which with A- = C and B- = W is the simplest recurrent network, h_t = W x_t + C h_(t-1). A has one of three forms:
 *
 * - `diagonal` (S4D: Gu et al., 2022, arXiv 2206.11893): a system for each channel, B = 1, with a complex diagonal A whose numbers
 *   stand for themselves and their conjugates, y = 2 Re C h. They start as S4D-Lin, -1/2 + i pi n, or S4D-Inv,
 *   -1/2 + i N/pi (N/(2n+1) - 1); or A is real, and starts as S4D-Real, -(n+1).
 * - `full`: one system for all channels, A = S - diag(r) with S skew and r > 0. Up to a change of basis, which B and C take over, this
 *   is every matrix of a negative definite symmetric part.
 * - `block-tridiagonal`: the same with an S whose blocks know themselves and their neighbours alone.
 *
 * A time step dt for each channel (of a diagonal A) or for each number of the state (dt^(1/2) A dt^(1/2), B by dt^(1/2)) scales it,
 * z = dt A. Then by zero-order hold A- = exp(z), B- = (exp(z) - 1) z^-1 dt B; by the bilinear rule A- = (1 + z/2) (1 - z/2)^-1,
 * B- = (1 - z/2)^-1 dt B; or with `direct` inputs A- as by the bilinear rule, which reaches every contraction, and B- = B.
 *
 * Stable by construction: the symmetric part of A is negative wherever training leads, so that all three rules give an A- of a norm
 * up to 1, of which KEPT is kept, so that no rounding makes it more: a token takes at least 1/65,536 of what is remembered. The
 * exponential of a full matrix is a Padé approximant of the second degree of z/64, six times squared, which is bounded as the
 * exponential is.
 *
 * State for one sequence: `ssm` [2 or 1, hiddenSize, numbers] of a diagonal A, its real and imaginary parts, else [stateSize].
 */
import { ConfigError } from '../../errors.js';
import {
  add,
  channelSystem,
  concat,
  cos,
  divide,
  equal,
  exp,
  fill,
  gelu,
  inverse,
  iota,
  matmul,
  multiply,
  negate,
  reshape,
  sigmoid,
  sin,
  slice,
  split,
  stateSystem,
  subtract,
  type Tensor,
  tanh,
  transpose,
  where,
  zeros,
} from '../../graph/index.js';
import { linear, project } from '../layers.js';
import type { Mixer, MixerContext } from '../mixer.js';
import { constantly, fillWith, type Initializer, normal, type Parameters } from '../parameters.js';

/**
 * The form of A: complex numbers on the diagonal (S4D-Lin, S4D-Inv) or real ones, all of it, or blocks on and beside
 * the diagonal.
 */
export type StateMatrix =
  | { readonly kind: 'diagonal'; readonly initial: 'lin' | 'inv' | 'real' }
  | { readonly kind: 'full' }
  | { readonly kind: 'block-tridiagonal'; readonly blockSize: number };

/** How the matrices of continuous time become those of a step; `direct`: they are those of a step already. */
export const DISCRETIZATIONS = ['zero-order hold', 'bilinear', 'direct'] as const;
/** One of `DISCRETIZATIONS`. */
export type Discretization = (typeof DISCRETIZATIONS)[number];

/** Sizes and form of a linear time-invariant state space. */
export interface TimeInvariantConfig {
  hiddenSize: number;
  matrix: StateMatrix;
  /** N: real numbers of a channel's state, two for each complex one, or of the state of all channels. */
  stateSize: number;
  discretization: Discretization;
  outputDeviation: number;
}

/** What `linearSystem` is told. */
export type SystemConfig = Omit<TimeInvariantConfig, 'outputDeviation'>;

/** The share of A- that is used. */
const KEPT = 1 - 2 ** -16;

/** How often the exponential of z / 2^SQUARINGS is squared. */
const SQUARINGS = 6;

/** dt log-uniform in [0.001, 0.1]. */
const initialTimeStep: Initializer = (random, shape) =>
  fillWith(shape, () => Math.log(1e-3) + random.uniform() * Math.log(100));

/** The mixer: the system, and after it the network of each token. Throws `ConfigError` as `linearSystem` does. */
export function timeInvariant(config: TimeInvariantConfig): Mixer {
  const { hiddenSize, outputDeviation } = config;
  const system = linearSystem(config);
  return {
    state: system.state,
    forward(parameters, u, context) {
      const { output, state } = system.forward(parameters, u, context);
      const both = parameters.within('output_linear', (p) =>
        linear(p, gelu(output), 2 * hiddenSize, { bias: true, initialize: normal(outputDeviation) }),
      );
      const [value, gate] = split(both, -1, [hiddenSize, hiddenSize]) as [Tensor, Tensor];
      return { output: multiply(value, sigmoid(gate)), state };
    },
  };
}

/**
 * The linear system alone, u [batch, sequence, hiddenSize] -> y of the same shape: what identifies a machine from what drives it and what
 * it does. Throws `ConfigError` for sizes that are no whole number of pairs or blocks.
 */
export function linearSystem(config: SystemConfig): Mixer {
  const { hiddenSize, matrix, stateSize } = config;
  const isComplex = matrix.kind === 'diagonal' && matrix.initial !== 'real';
  if (isComplex && stateSize % 2 !== 0) {
    throw new ConfigError(
      `a state of ${stateSize} numbers is no whole number of complex ones: the state size must be even`,
    );
  }
  if (matrix.kind === 'block-tridiagonal' && stateSize % matrix.blockSize !== 0) {
    throw new ConfigError(
      `a state of ${stateSize} numbers is no whole number of blocks of ${matrix.blockSize}: the state size must be a multiple`,
    );
  }
  const shape =
    matrix.kind === 'diagonal'
      ? [isComplex ? 2 : 1, hiddenSize, isComplex ? stateSize / 2 : stateSize]
      : [stateSize];
  const system = matrix.kind === 'diagonal' ? systemOfChannels : systemOfAll;
  return {
    state: [{ name: 'ssm', dtype: 'float32', shape: ['batch', ...shape], initial: 0 }],
    forward(parameters, u, context) {
      const { output, state } = system(parameters, u, config, context);
      const D = parameters.get('D', [hiddenSize], constantly(1), { decay: false });
      return { output: add(output, multiply(u, D)), state: { ssm: state } };
    },
  };
}

interface System {
  readonly output: Tensor;
  readonly state: Tensor;
}

/** A complex number for each of a channel's, or a real one. */
interface Complex {
  readonly re: Tensor;
  readonly im?: Tensor | undefined;
}

function systemOfChannels(
  parameters: Parameters,
  u: Tensor,
  config: SystemConfig,
  { state, documents, observe }: MixerContext,
): System {
  const { hiddenSize, stateSize } = config;
  const { initial } = config.matrix as StateMatrix & { kind: 'diagonal' };
  const parts = initial === 'real' ? 1 : 2;
  const size = stateSize / parts;
  const shape = [hiddenSize, size];
  const own = (name: string, dims: readonly number[], initialize: Initializer): Tensor =>
    parameters.get(name, dims, initialize, { decay: false });
  const places =
    (f: (n: number) => number): Initializer =>
    (_, dims) => {
      let i = 0;
      return fillWith(dims, () => f(i++ % size));
    };
  const dt = exp(own('log_dt', [hiddenSize, 1], initialTimeStep));
  const real = own(
    'log_A_real',
    shape,
    places((n) => Math.log(parts === 2 ? 0.5 : n + 1)),
  );
  const z: Complex = {
    re: negate(multiply(dt, exp(real))),
    im:
      parts === 2 ? multiply(dt, own('A_imag', shape, places(FREQUENCIES[initial]!(stateSize)))) : undefined,
  };
  // C ~ CN(0, 1): its parts together have the variance 1.
  const C = own('C', [parts, ...shape], normal(Math.sqrt(1 / parts)));
  const [cRe, cIm] = split(C, 0, Array<number>(parts).fill(1)).map((part) => reshape(part, shape)) as [
    Tensor,
    Tensor?,
  ];
  const [transition, input] = discretized(z, config.discretization);
  const gain = config.discretization === 'direct' ? input : times(input, { re: dt });
  const readout = times({ re: multiply(cRe, parts), im: cIm && multiply(cIm, parts) }, gain);
  const operands = {
    input: u,
    transition: multiply(together(transition, shape), KEPT),
    readout: together(readout, shape),
    state: state?.ssm,
    documents,
  };
  observe?.({ kind: 'channel system', operands });
  return channelSystem(operands);
}

const FREQUENCIES: Readonly<Record<string, (N: number) => (n: number) => number>> = {
  lin: () => (n) => Math.PI * n,
  inv: (N) => (n) => (N / Math.PI) * (N / (2 * n + 1) - 1),
};

/** A- and B- / (dt B) for numbers z = dt A. */
function discretized(z: Complex, rule: Discretization): [Complex, Complex] {
  if (rule === 'zero-order hold') {
    const lost = expMinusOne(z);
    return [plus(lost, 1), over(lost, z)];
  }
  const inverted = over({ re: fill(z.re.shape, 1) }, plus(half(z, -1), 1));
  const transition = times(plus(half(z, 1), 1), inverted);
  return [transition, rule === 'direct' ? { re: fill(z.re.shape, 1) } : inverted];
}

/** e^z - 1, exact for small z too: with t = tanh(x / 2), e^x - 1 is 2 t / (1 - t). */
function expMinusOne({ re, im }: Complex): Complex {
  const t = tanh(multiply(re, 0.5));
  const lost = divide(multiply(t, 2), subtract(1, t));
  if (!im) return { re: lost };
  const s = sin(multiply(im, 0.5));
  return {
    re: subtract(multiply(lost, cos(im)), multiply(multiply(s, s), 2)),
    im: multiply(exp(re), sin(im)),
  };
}

function half({ re, im }: Complex, sign: 1 | -1): Complex {
  return { re: multiply(re, sign / 2), im: im && multiply(im, sign / 2) };
}

function plus({ re, im }: Complex, real: number): Complex {
  return { re: add(re, real), im };
}

function times(a: Complex, b: Complex): Complex {
  const re = multiply(a.re, b.re);
  return {
    re: a.im && b.im ? subtract(re, multiply(a.im, b.im)) : re,
    im: sumOf(b.im && multiply(a.re, b.im), a.im && multiply(a.im, b.re)),
  };
}

function over(a: Complex, b: Complex): Complex {
  const length = sumOf(multiply(b.re, b.re), b.im && multiply(b.im, b.im))!;
  return times(times(a, { re: b.re, im: b.im && negate(b.im) }), { re: divide(1, length) });
}

function sumOf(a: Tensor | undefined, b: Tensor | undefined): Tensor | undefined {
  return a && b ? add(a, b) : (a ?? b);
}

/** [1 or 2, ...shape] */
function together({ re, im }: Complex, shape: readonly number[]): Tensor {
  const parts = im ? [re, im] : [re];
  return concat(
    parts.map((part) => reshape(part, [1, ...shape])),
    0,
  );
}

function systemOfAll(
  parameters: Parameters,
  u: Tensor,
  config: SystemConfig,
  { state, documents, observe }: MixerContext,
): System {
  const { hiddenSize, stateSize: size, discretization } = config;
  const own = (name: string, dims: readonly number[], initialize: Initializer): Tensor =>
    parameters.get(name, dims, initialize, { decay: false, precise: true });
  const roots = exp(multiply(own('log_dt', [size, 1], initialTimeStep), 0.5));
  const rates = exp(own('log_damping', [size], constantly(Math.log(0.5))));
  const skew = skewMatrix(own, config);
  const identity = unit(size);
  const A = subtract(skew, multiply(identity, rates));
  const z = multiply(multiply(A, roots), transpose(roots, [1, 0]));
  const [bounded, input] =
    discretization === 'zero-order hold' ? exponential(z, identity) : cayley(z, identity);
  const transition = multiply(bounded, KEPT);
  const B = own('B', [size, hiddenSize], normal(1 / Math.sqrt(hiddenSize)));
  const entering = discretization === 'direct' ? B : matmul(input, multiply(B, roots));
  const x = project(u, entering);
  const C = own('C', [hiddenSize, size], normal(1 / Math.sqrt(size)));
  observe?.({ kind: 'state system', input: x, transition, readout: C });
  const system = stateSystem(x, transition, state?.ssm, documents);
  return { output: project(system.states, C), state: system.state };
}

function unit(size: number): Tensor {
  return where(equal(reshape(iota(size), [size, 1]), iota(size)), fill([size, size], 1), 0);
}

/** S, whose frequencies reach about size / 2 radians in a unit of time. */
function skewMatrix(
  own: (name: string, dims: readonly number[], initialize: Initializer) => Tensor,
  { stateSize: size, matrix }: SystemConfig,
): Tensor {
  const antisymmetric = (x: Tensor): Tensor => subtract(x, transpose(x, [1, 0]));
  if (matrix.kind !== 'block-tridiagonal') {
    return antisymmetric(own('S', [size, size], normal(Math.sqrt(size) / 8)));
  }
  const { blockSize } = matrix;
  const count = size / blockSize;
  const initialize = normal(size / (8 * Math.sqrt(3 * blockSize)));
  const blocks = [blockSize, blockSize];
  const block = (x: Tensor, i: number): Tensor => reshape(slice(x, 0, i, i + 1), blocks);
  const diagonal = own('S_diagonal', [count, ...blocks], initialize);
  const next = count > 1 ? own('S_next', [count - 1, ...blocks], initialize) : undefined;
  // Half of the matrix: less its transpose it is the whole.
  const rows = Array.from({ length: count }, (_, i) => {
    const pieces = [block(diagonal, i), ...(next && i + 1 < count ? [block(next, i)] : [])];
    const before = i * blockSize;
    const after = size - before - pieces.length * blockSize;
    return concat(
      [
        ...(before > 0 ? [zeros([blockSize, before])] : []),
        ...pieces,
        ...(after > 0 ? [zeros([blockSize, after])] : []),
      ],
      1,
    );
  });
  return antisymmetric(concat(rows, 0));
}

/** (1 + z/2) (1 - z/2)^-1 = 2 (1 - z/2)^-1 - 1, and (1 - z/2)^-1. */
function cayley(z: Tensor, identity: Tensor): [Tensor, Tensor] {
  const inverted = inverse(subtract(identity, multiply(z, 0.5)));
  return [subtract(multiply(inverted, 2), identity), inverted];
}

/**
 * exp(z) and p(z) = (exp(z) - 1) z^-1. For z / 64, p is the inverse of 1 - z/2 + z^2/12 up to the fifth order; then what exp(z) is
 * more than 1, f = z p, doubles by f' = 2 f + f^2, and p by p' = p + f p / 2, twice each time in the units of the first.
 */
function exponential(z: Tensor, identity: Tensor): [Tensor, Tensor] {
  const small = multiply(z, 2 ** -SQUARINGS);
  const square = multiply(matmul(small, small), 1 / 12);
  let p = inverse(add(subtract(identity, multiply(small, 0.5)), square));
  let f = matmul(small, p);
  for (let i = 0; i < SQUARINGS; i++) {
    p = add(p, multiply(matmul(f, p), 0.5));
    f = add(multiply(f, 2), matmul(f, f));
  }
  return [add(f, identity), p];
}
