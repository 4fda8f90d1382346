/** The linear time-invariant state space in all of its forms: definition in float64, law, gradients, starts, and stability. */
import { describe, expect, test } from 'vitest';
import { float32, openDevice } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { ConfigError } from '../../errors.js';
import { input, scalar } from '../../graph/index.js';
import { type NdArray, tabulate, total } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import { ParameterRegistry } from '../parameters.js';
import { Random } from '../random.js';
import { parametersOf, sigmoid } from '../testing/definition.js';
import { proveMixer } from '../testing/prove.js';
import { linearOf, range, tokenByToken, type Weight } from '../testing/token-loop.js';
import { randomWeights } from '../testing/weights.js';
import { DISCRETIZATIONS, type StateMatrix, type TimeInvariantConfig, timeInvariant } from './lti.js';

const base = { hiddenSize: 5, stateSize: 6, outputDeviation: 0.02 };
const MATRICES: Readonly<Record<string, StateMatrix>> = {
  'S4D-Lin': { kind: 'diagonal', initial: 'lin' },
  'S4D-Inv': { kind: 'diagonal', initial: 'inv' },
  'S4D-Real': { kind: 'diagonal', initial: 'real' },
  'block-tridiagonal': { kind: 'block-tridiagonal', blockSize: 2 },
  full: { kind: 'full' },
};

const KEPT = 1 - 2 ** -16;

type Complex = readonly [number, number];
const times = ([a, b]: Complex, [c, d]: Complex): Complex => [a * c - b * d, a * d + b * c];
const over = ([a, b]: Complex, [c, d]: Complex): Complex =>
  times([a, b], [c / (c * c + d * d), -d / (c * c + d * d)]);
const plus = ([a, b]: Complex, [c, d]: Complex): Complex => [a + c, b + d];
const power = ([a, b]: Complex): Complex => [Math.exp(a) * Math.cos(b), Math.exp(a) * Math.sin(b)];

/** A- and dt-less B- of one number. */
function discretized(z: Complex, rule: TimeInvariantConfig['discretization']): [Complex, Complex] {
  const one: Complex = [1, 0];
  const half: Complex = [z[0] / 2, z[1] / 2];
  if (rule === 'zero-order hold') return [power(z), over(plus(power(z), [-1, 0]), z)];
  const inverted = over(one, plus(one, [-half[0], -half[1]]));
  return [times(plus(one, half), inverted), rule === 'direct' ? one : inverted];
}

type Matrix = number[][];
const matmul = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => b[0]!.map((_, j) => total(row.length, (k) => row[k]! * b[k]![j]!)));
const combined = (a: Matrix, b: Matrix, f: (x: number, y: number) => number): Matrix =>
  a.map((row, i) => row.map((value, j) => f(value, b[i]![j]!)));
const identity = (size: number): Matrix => range(size).map((i) => range(size).map((j) => Number(i === j)));

/** The sum of factor(k) z^k from 0 on. */
function series(z: Matrix, factor: (k: number) => number): Matrix {
  let [sum, term] = [
    identity(z.length).map((row) => row.map((value) => value * factor(0))),
    identity(z.length),
  ];
  for (let k = 1; k < 60; k++) {
    term = matmul(term, z).map((row) => row.map((value) => value / k));
    sum = combined(sum, term, (a, b) => a + b * factor(k));
  }
  return sum;
}

function inverted(a: Matrix): Matrix {
  const size = a.length;
  const rows = a.map((row, i) => [...row, ...identity(size)[i]!]);
  for (let i = 0; i < size; i++) {
    const scaled = rows[i]!.map((value) => value / rows[i]![i]!);
    for (const [j, row] of rows.entries())
      rows[j] = i === j ? scaled : row.map((value, k) => value - row[i]! * scaled[k]!);
  }
  return rows.map((row) => row.slice(size));
}

/** z = dt^(1/2) A dt^(1/2). */
function scaledMatrix(weight: Weight, { matrix, stateSize: size }: TimeInvariantConfig): Matrix {
  const half = (i: number, j: number): number => {
    if (matrix.kind === 'full') return weight('S').at(i, j);
    const { blockSize: b } = matrix as StateMatrix & { kind: 'block-tridiagonal' };
    const [row, column] = [Math.floor(i / b), Math.floor(j / b)];
    if (row === column) return weight('S_diagonal').at(row, i % b, j % b);
    return column === row + 1 ? weight('S_next').at(row, i % b, j % b) : 0;
  };
  const root = (i: number): number => Math.exp(weight('log_dt').at(i, 0) / 2);
  return range(size).map((i) =>
    range(size).map((j) => {
      const skew = half(i, j) - half(j, i);
      const damping = i === j ? Math.exp(weight('log_damping').at(i)) : 0;
      return root(i) * (skew - damping) * root(j);
    }),
  );
}

/** A- and what multiplies dt^(1/2) B. */
function discretizedMatrix(z: Matrix, rule: TimeInvariantConfig['discretization']): [Matrix, Matrix] {
  const one = identity(z.length);
  if (rule === 'zero-order hold') return [series(z, () => 1), series(z, (k) => 1 / (k + 1))];
  const inverse = inverted(combined(one, z, (a, b) => a - b / 2));
  return [
    matmul(
      combined(one, z, (a, b) => a + b / 2),
      inverse,
    ),
    inverse,
  ];
}

/** The error function by its series, where that is not 1 to all digits. */
function erf(x: number): number {
  if (Math.abs(x) > 5) return Math.sign(x);
  let [sum, term] = [x, x];
  for (let n = 1; n < 140; n++) {
    term *= -(x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

function definition(config: TimeInvariantConfig) {
  const { hiddenSize: H, matrix, stateSize: N, discretization } = config;
  return (weight: Weight, u: NdArray): NdArray => {
    const [batch, sequence] = u.dims as [number, number];
    const channels = (): NdArray => {
      const parts = weight('C').dims[0]!;
      const size = N / parts;
      return tokenByToken([batch, sequence, H], (row) => {
        const states = range(H).map(() => range(size).map((): Complex => [0, 0]));
        return (t) =>
          states.map((state, c) => {
            const dt = Math.exp(weight('log_dt').at(c, 0));
            return total(size, (n) => {
              const z: Complex = [
                -dt * Math.exp(weight('log_A_real').at(c, n)),
                parts === 2 ? dt * weight('A_imag').at(c, n) : 0,
              ];
              const [A, B] = discretized(z, discretization);
              const b = discretization === 'direct' ? B : times(B, [dt, 0]);
              state[n] = plus(times(times(A, [KEPT, 0]), state[n]!), times(b, [u.at(row, t, c), 0]));
              const C: Complex = [weight('C').at(0, c, n), parts === 2 ? weight('C').at(1, c, n) : 0];
              return parts * times(C, state[n]!)[0];
            });
          });
      });
    };
    const all = (): NdArray => {
      const [A, gain] = discretizedMatrix(scaledMatrix(weight, config), discretization);
      const B = range(N).map((i) =>
        range(H).map((j) => {
          const root = discretization === 'direct' ? 1 : Math.exp(weight('log_dt').at(i, 0) / 2);
          return root * weight('B').at(i, j);
        }),
      );
      const entering = discretization === 'direct' ? B : matmul(gain, B);
      return tokenByToken([batch, sequence, H], (row) => {
        let h = Array<number>(N).fill(0);
        return (t) => {
          h = h.map(
            (_, i) =>
              KEPT * total(N, (j) => A[i]![j]! * h[j]!) + total(H, (j) => entering[i]![j]! * u.at(row, t, j)),
          );
          return range(H).map((c) => total(N, (i) => weight('C').at(c, i) * h[i]!));
        };
      });
    };
    const read = matrix.kind === 'diagonal' ? channels() : all();
    const y = tabulate(read.dims, (b, t, c) => {
      const value = read.at(b!, t!, c!) + weight('D').at(c!) * u.at(b!, t!, c!);
      return (value / 2) * (1 + erf(value / Math.SQRT2));
    });
    const both = linearOf(weight, 'output_linear', y, true);
    return tabulate(u.dims, (b, t, c) => both.at(b!, t!, c!) * sigmoid(both.at(b!, t!, H + c!)));
  };
}

/** Time steps at which the state holds for some tokens, and decays and frequencies to match. */
function weightsFor({ matrix, hiddenSize, stateSize }: TimeInvariantConfig): Record<string, number[]> {
  const count = matrix.kind === 'diagonal' ? hiddenSize : stateSize;
  return { log_dt: range(count).map((i) => -0.25 - (i % 4) / 2) };
}

for (const [name, matrix] of Object.entries(MATRICES)) {
  for (const discretization of DISCRETIZATIONS) {
    const config: TimeInvariantConfig = { ...base, matrix, discretization };
    const small = { ...config, hiddenSize: 3, stateSize: 4 };
    proveMixer(`${name}, ${discretization}`, {
      mixer: timeInvariant(config),
      hiddenSize: base.hiddenSize,
      weights: weightsFor(config),
      definition: definition(config),
      small: {
        mixer: timeInvariant(small),
        hiddenSize: 3,
        weights: {
          ...weightsFor(small),
          ...(matrix.kind === 'diagonal' && {
            log_A_real: range(matrix.initial === 'real' ? 12 : 6).map((i) => -1 + (i % 3) / 2),
            ...(matrix.initial !== 'real' && { A_imag: range(6).map((i) => (i % 4) / 2) }),
          }),
        },
      },
    });
  }
}

describe('how it starts', () => {
  const started = (matrix: StateMatrix, name: string): number[] => {
    const { shape, initialize } = parametersOf(
      timeInvariant({ ...base, stateSize: 8, matrix, discretization: 'bilinear' }),
      base.hiddenSize,
    ).get(name)!;
    return [...initialize(new Random(1), shape)].slice(0, 8);
  };
  const rounded = (values: readonly number[]): number[] => values.map((value) => Number(value.toFixed(4)));

  test('S4D-Lin: -1/2 + i pi n', () => {
    expect(rounded(started(MATRICES['S4D-Lin']!, 'A_imag').slice(0, 4))).toEqual(
      rounded([0, 1, 2, 3].map((n) => Math.PI * n)),
    );
    expect(rounded(started(MATRICES['S4D-Lin']!, 'log_A_real').map(Math.exp))).toEqual(Array(8).fill(0.5));
  });

  test('S4D-Inv: -1/2 + i N/pi (N/(2n+1) - 1)', () => {
    const expected = [0, 1, 2, 3].map((n) => (8 / Math.PI) * (8 / (2 * n + 1) - 1));
    expect(rounded(started(MATRICES['S4D-Inv']!, 'A_imag').slice(0, 4))).toEqual(rounded(expected));
  });

  test('S4D-Real: -(n+1)', () => {
    const rates = started(MATRICES['S4D-Real']!, 'log_A_real').map(Math.exp);
    expect(rounded(rates)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });
});

describe('stable by construction', () => {
  // Far from where training begins: long steps, high frequencies, hardly any damping of their own.
  for (const [name, matrix] of Object.entries(MATRICES)) {
    for (const discretization of DISCRETIZATIONS) {
      test(`${name}, ${discretization}: a million tokens leave no more than what comes in`, async () => {
        const config: TimeInvariantConfig = { ...base, matrix, discretization };
        const mixer = timeInvariant(config);
        const registry = new ParameterRegistry();
        const u = input('u', 'float32', [1, 'sequence', base.hiddenSize]);
        const states = input('ssm', 'float32', [1, ...(mixer.state[0]!.shape.slice(1) as number[])]);
        const result = mixer.forward(registry.root(), u, {
          state: { ssm: states },
          position: scalar(0, 'int64'),
        });
        const given = {
          log_dt: Array<number>(registry.specs.get('log_dt')!.shape[0]!).fill(0),
          ...Object.fromEntries(
            [...registry.specs]
              .filter(([key]) => /log_A_real|log_damping/.test(key))
              .map(([key, { shape }]) => [key, Array<number>(shape.reduce((a, b) => a * b, 1)).fill(-30)]),
          ),
        };
        const weights = randomWeights(registry.specs.values(), { deviation: 1, given });
        const device = await openDevice('cpu', { threads: 1 });
        const executable = await device.compile(
          withInputs({ outputs: { after: result.state.ssm! }, weights }),
        );
        const piece = 20_000;
        const silence = float32(new Float32Array(piece * base.hiddenSize), [1, piece, base.hiddenSize]);
        const noise = uniform(1, [1, 64, base.hiddenSize]);
        const dims = states.shape as number[];
        let state = float32(new Float32Array(dims.reduce((a, b) => a * b, 1)), dims);
        state = (await executable.run({ u: noise, ssm: state })).after! as typeof state;
        const length = (): number => Math.hypot(...(state.data as Float32Array));
        const first = length();
        expect(first).toBeGreaterThan(0);
        for (let i = 0; i < 50; i++)
          state = (await executable.run({ u: silence, ssm: state })).after! as typeof state;
        // 1/65,536 of it is lost with every token: e^-15 is left of a million.
        expect(length()).toBeLessThan(first * 1e-3);
        await executable.dispose();
      }, 120_000);
    }
  }
});

describe('refused', () => {
  const build = (change: Partial<TimeInvariantConfig>) => () =>
    timeInvariant({ ...base, matrix: { kind: 'full' }, discretization: 'bilinear', ...change });
  test.each([
    [build({ matrix: MATRICES['S4D-Lin']!, stateSize: 7 }), /7 numbers is no whole number of complex ones/],
    [
      build({ matrix: { kind: 'block-tridiagonal', blockSize: 4 } }),
      /6 numbers is no whole number of blocks of 4/,
    ],
  ] as const)('%#', (make, message) => {
    expect(make).toThrow(ConfigError);
    expect(make).toThrow(message);
  });
});
