/**
 * The selective scan, the core of Mamba (Gu & Dao, 2023, arXiv 2312.00752). Every channel has a state of `size` numbers,
 * each of which decays at its own rate, over a step whose length the channel chooses for every token:
 *
 *     h_t = exp(s_t A) h_(t-1) + k_t v_t        y_t = q_t . h_t
 *
 * (h [size, width]; s and v are rows over the channels, k and q columns that all channels share). It is
 * `linearRecurrence` with a head for each channel, and WebGPU runs it as that. The expansion is a scan that stores the states of all
 * tokens. On ONNX Runtime's CPU it is lowered to a loop over the tokens instead, each step a few operators on the whole state, and the
 * gradient to one loop forward and one back, which store no past states. With G_t = dL/dh_t,
 *
 *     G_t = q_t g_t + R_t        R_(t-1) = exp(s_t A) G_t        dv_t = k_t . G_t        dk_t = G_t . v_t
 *
 * and R_0 is the gradient of the initial state. A rate affects only its own state, so the derivative of h with respect to A is carried
 * forward with it: e_t = dh_t/dA = exp(s_t A) (e_(t-1) + s_t h_(t-1)), dA = sum_t q_t g_t e_t. And since G_t h_t can be split at
 * either end of step t, the gradient of the exponent, x_t = G_t exp(s_t A) h_(t-1), is a running sum backwards in time:
 * x_t = x_(t+1) + q_t g_t h_t - G_t k_t v_t, from which ds_t = A . x_t.
 */

import { ShapeError } from '../../errors.js';
import { gradientInside } from '../gradient.js';
import { scanByKernel, scanGradientByKernels } from '../lower/stablehlo/triton/selective-scan.js';
import type { Value } from '../lower/stablehlo/value.js';
import { scanInWasm } from '../lower/wasm/layers.js';
import { type Dim, type Shape, sameShape } from '../shape.js';
import { apply, defineComposite, type Operands, type Tensor, type TensorType } from '../tensor.js';
import { reshape, sum } from './broadcast.js';
import { dimension, zeros } from './constant.js';
import { isFirstOfDocument } from './documents.js';
import { add, detach, exp, multiply, subtract, where } from './elementwise.js';
import { gather } from './indexing.js';
import { reverse, transpose } from './layout.js';
import { loop } from './loop.js';
import { matmul } from './matmul.js';
import { cumulativeSum } from './reduce.js';
import { scan } from './scan.js';

const scanOperator = defineComposite<null>({
  name: 'selectiveScan',
  infer([value, step, rate, key, query, state]) {
    const [batch, sequence, width] = value!.shape;
    const size = rate!.shape[1];
    const expectShape = (what: string, x: TensorType, shape: Shape): void => {
      if (!sameShape(x.shape, shape)) throw new ShapeError(`the ${what} must be [${shape}]`);
    };
    if (value!.shape.length !== 3) throw new ShapeError('the value must be [batch, sequence, width]');
    if (rate!.shape.length !== 2) throw new ShapeError('the rate must be [width, size]');
    expectShape('rate', rate!, [width!, size!]);
    expectShape('step', step!, [batch!, sequence!, width!]);
    expectShape('key', key!, [batch!, sequence!, size!]);
    expectShape('query', query!, [batch!, sequence!, size!]);
    const stateShape = [batch!, size!, width!];
    if (state) expectShape('state', state, stateShape);
    return [
      { dtype: 'float32', shape: value!.shape },
      { dtype: 'float32', shape: stateShape },
    ];
  },
  gradient({ inputs, outputs, outputGradients: [g, lastGradient] }) {
    const [output, last] = outputs as [Tensor, Tensor];
    const seeds = [g ?? zeros(output.shape), lastGradient ?? zeros(last.shape)];
    const parts = apply(gradientOperator, [...inputs, ...seeds, last], null);
    return inputs.map((operand, i) => operand && parts[i]);
  },
  kernels: {
    onnx(builder, [value, step, rate, key, query, state], { inputs }) {
      if (builder.fused.has('SelectiveScanLoop')) return builder.inline(scanByLoop(inputs), inputs);
      if (!builder.fused.has('LinearAttention+channels')) return undefined;
      const one = (operator: string, operands: string[], attributes = {}): string =>
        builder.emit(operator, operands, { attributes })[0]!;
      // Its state is [batch, width, size, 1].
      const swapped = { perm: { ints: [0, 2, 1] } };
      const gates = one('Mul', [one('Unsqueeze', [step!, builder.ints([3])]), rate!]);
      const past = state && one('Unsqueeze', [one('Transpose', [state], swapped), builder.ints([3])]);
      const [output, last] = builder.emit(
        'LinearAttention',
        [query!, key!, value!, past ?? '', one('Reshape', [gates, builder.ints([0, 0, -1])])],
        {
          domain: 'com.microsoft',
          attributes: {
            q_num_heads: { int: 1 },
            kv_num_heads: { int: inputs[0]!.shape[2] as number },
            update_rule: { string: 'gated' },
            // 0 would mean 1/sqrt(size).
            scale: { float: 1 },
          },
          outputs: 2,
        },
      );
      return [output!, one('Transpose', [one('Squeeze', [last!, builder.ints([3])])], swapped)];
    },
    wasm: scanInWasm,
    stablehlo: (builder, operands) => scanByKernel(builder, operands),
  },
  expand: (operands) => scanStates(operands),
});

/** The gradient: operands, the gradients of both results, and the final state -> the operands' gradients, the state's last. */
const gradientOperator = defineComposite<null>({
  name: 'selectiveScanGradient',
  infer: (inputs) => [
    ...inputs.slice(0, 5).map((x) => ({ dtype: 'float32' as const, shape: x!.shape })),
    { dtype: 'float32', shape: inputs[8]!.shape },
  ],
  kernels: {
    onnx: (builder, _, { inputs }) =>
      builder.fused.has('SelectiveScanLoop') ? builder.inline(gradientByLoops(inputs), inputs) : undefined,
    stablehlo(builder, operands) {
      const [dOutput, dLast, last] = operands.slice(6) as [Value, Value, Value];
      return scanGradientByKernels(builder, operands.slice(0, 6), { dOutput, last, dLast });
    },
  },
  expand(inputs) {
    const seeds = inputs.slice(6, 8) as Tensor[];
    const operands = [...inputs.slice(0, 5), inputs[5] ?? zeros(seeds[1]!.shape)] as Tensor[];
    // An operand that is given twice counts as two operands, each with its own gradient.
    const own = operands.map((operand) => detach(operand));
    return gradientInside(scanStates(own), own, seeds);
  },
});

/** All states at once, by a scan over the tokens. */
function scanStates([value, step, rate, key, query, state]: Operands): [Tensor, Tensor] {
  const [batch, , width] = value!.shape as [Dim, Dim, Dim];
  const transition = exp(multiply(rows(step!), transpose(rate!, [1, 0])));
  const added = multiply(columns(key!), rows(value!));
  const initial = state ?? zeros([batch, rate!.shape[1]!, width]);
  const { states, last } = scan(transition, added, initial, { product: 'elements', reverse: false });
  const after = add(multiply(transition, states), added);
  return [tokens(over(columns(query!), after)), last];
}

/** A loop over the tokens: the fastest form on ONNX Runtime's CPU, which stores only the last state. */
function scanByLoop(operands: Operands): [Tensor, Tensor] {
  const { sequence, initial, at, decay } = unrolled(operands);
  const { carried, stacked } = loop(sequence, [initial], (t, [h]) => {
    const { value, step, key, query } = at(t);
    const next = add(multiply(decay(step), h!), multiply(key, value));
    return { carried: [next], stacked: [over(query, next)] };
  });
  return [tokens(stacked[0]!), carried[0]!];
}

/** The operands for loops over the tokens: for each token, rows [batch, 1, width] and columns [batch, size, 1]. */
function unrolled([value, step, rate, key, query, state]: Operands) {
  const [batch, sequence, width] = value!.shape as [Dim, Dim, Dim];
  const rates = transpose(rate!, [1, 0]);
  const each = { value: rows(value!), step: rows(step!), key: columns(key!), query: columns(query!) };
  return {
    sequence,
    rates,
    initial: state ?? zeros([batch, rates.shape[0]!, width]),
    at: (t: Tensor) => ({
      value: gather(each.value, t),
      step: gather(each.step, t),
      key: gather(each.key, t),
      query: gather(each.query, t),
    }),
    decay: (row: Tensor): Tensor => exp(multiply(row, rates)),
  };
}

/** [batch, sequence, n] -> [sequence, batch, 1, n] */
function rows(x: Tensor): Tensor {
  const [batch, sequence, n] = x.shape as [Dim, Dim, Dim];
  return reshape(transpose(x, [1, 0, 2]), [sequence, batch, 1, n]);
}

/** [batch, sequence, n] -> [sequence, batch, n, 1] */
function columns(x: Tensor): Tensor {
  const [batch, sequence, n] = x.shape as [Dim, Dim, Dim];
  return reshape(transpose(x, [1, 0, 2]), [sequence, batch, n, 1]);
}

/** The stacked results of a loop, [sequence, batch, 1, n] -> [batch, sequence, n]. */
function tokens(stacked: Tensor): Tensor {
  const [sequence, batch, , n] = stacked.shape as [Dim, Dim, Dim, Dim];
  return transpose(reshape(stacked, [sequence, batch, n]), [1, 0, 2]);
}

/** The sum over the state dimensions: column . h, a row. */
function over(column: Tensor, h: Tensor): Tensor {
  return matmul(column, h, { transposeA: true });
}

/** The sum over the channels: row . h, as a row over the state dimensions. */
function across(row: Tensor, h: Tensor): Tensor {
  return matmul(row, h, { transposeB: true });
}

/** The gradient with two loops: see the head of this file. */
function gradientByLoops(inputs: Operands): Tensor[] {
  const value = inputs[0]!;
  const { sequence, rates, initial, at, decay } = unrolled(inputs);
  const [g, lastGradient, last] = inputs.slice(6) as [Tensor, Tensor, Tensor];
  const gradients = rows(g);
  const none = zeros(initial.shape);

  const forward = loop(sequence, [initial, none, none], (t, [h, dh, dA]) => {
    const { value, step, key, query } = at(t);
    const dy = gather(gradients, t);
    const a = decay(step);
    const held = multiply(a, h!);
    const next = add(held, multiply(key, value));
    const dNext = add(multiply(a, dh!), multiply(step, held));
    return {
      carried: [next, dNext, add(dA!, multiply(multiply(query, dy), dNext))],
      stacked: [across(dy, next), over(query, multiply(rates, next))],
    };
  });
  const [, dh, dA] = forward.carried as [Tensor, Tensor, Tensor];
  const [dQuery, read] = forward.stacked.map(tokens) as [Tensor, Tensor];

  const backward = loop(sequence, [lastGradient], (i, [later]) => {
    const t = subtract(subtract(dimension(sequence), 1), i);
    const { value, step, key, query } = at(t);
    const G = add(multiply(query, gather(gradients, t)), later!);
    return {
      carried: [multiply(decay(step), G)],
      stacked: [over(key, G), across(value, G), over(key, multiply(rates, G))],
    };
  });
  const [dValue, dKey, written] = backward.stacked.map((x) => tokens(reverse(x, 0))) as [
    Tensor,
    Tensor,
    Tensor,
  ];

  const inflow = subtract(multiply(g, read), multiply(value, written));
  const atEnd = sum(multiply(rates, multiply(lastGradient, last)), 1, { keepDims: true });
  const dStep = add(cumulativeSum(inflow, 1, { reverse: true }), atEnd);
  const dRate = transpose(sum(add(dA, multiply(lastGradient, dh)), 0), [1, 0]);
  return [dValue, dStep, dRate, dKey, dQuery, backward.carried[0]!];
}

/** The operands of `selectiveScan`. */
export interface ScanInputs {
  /** [batch, sequence, width] */
  value: Tensor;
  /** The step length of each channel, at least 0: [batch, sequence, width]. */
  step: Tensor;
  /** The growth rate of each state dimension, at most 0: [width, size]. */
  rate: Tensor;
  /** [batch, sequence, size], like the query. */
  key: Tensor;
  query: Tensor;
  /** [batch, size, width]; zeros by default. */
  state?: Tensor | undefined;
  /** int64 [batch, sequence], see documents.ts: at the first token of each the state is 0, where rates are below 0. */
  documents?: Tensor | undefined;
}

/** A step of this length resets the state. */
const FOR_EVER = 1e30;

/**
 * h_t = exp(step_t rate) h_(t-1) + key_t value_t, y_t = query_t . h_t separately for each channel. Returns `output`
 * [batch, sequence, width] and the final `state` [batch, size, width]. Throws `ShapeError` where the shapes do not fit.
 */
export function selectiveScan(inputs: ScanInputs): { output: Tensor; state: Tensor } {
  const { value, rate, key, query, state, documents } = inputs;
  const step = documents
    ? where(reshape(isFirstOfDocument(documents), [...documents.shape, 1]), FOR_EVER, inputs.step)
    : inputs.step;
  const [output, finalState] = apply(scanOperator, [value, step, rate, key, query, state], null);
  return { output: output!, state: finalState! };
}
