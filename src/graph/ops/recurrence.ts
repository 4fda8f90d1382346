/**
 * The linear recurrence, the core of Mamba, Mamba-2, linear attention and similar layers, with a state S [keySize, valueSize]
 * for each head:
 *
 *     S_t = diag(exp(g_t)) S_(t-1) + k_t v_t^T        o_t = S_t^T q_t
 *
 * and, with a beta, by the delta rule of DeltaNet and Gated DeltaNet (Yang et al., 2024, arXiv 2412.06464): the value that
 * the key already retrieves from the decayed state is subtracted from the written value,
 *
 *     S_t = D_t + k_t (beta_t (v_t - D_t^T k_t))^T    D_t = diag(exp(g_t)) S_(t-1)
 *
 * In the most general form, that of GDN-2 and RWKV-7, the erased value is read with a separate key f and removed under another key r:
 *
 *     S_t = D_t + k_t v_t^T - r_t (D_t^T f_t)^T
 *
 * The delta rule is the case f = k, r = beta k, with beta multiplied into v.
 */

import { ShapeError } from '../../errors.js';
import { gradientInside } from '../gradient.js';
import type { StableHloBuilder } from '../lower/stablehlo/builder.js';
import { recurrenceStep } from '../lower/stablehlo/recurrence.js';
import { recurrenceByKernels } from '../lower/stablehlo/triton/recurrence.js';
import { recurrenceGradientByKernels } from '../lower/stablehlo/triton/recurrence-gradient.js';
import type { Plain, Value } from '../lower/stablehlo/value.js';
import { recurrenceInWasm } from '../lower/wasm/layers.js';
import { type Dim, divideDim, multiplyDims, sameShape } from '../shape.js';
import {
  apply,
  defineComposite,
  expansionIsUsed,
  expansionOf,
  type Node,
  type Tensor,
  type TensorType,
} from '../tensor.js';
import { zeros } from './constant.js';
import { recurrenceInChunks } from './recurrence-chunks.js';

/** The numbers of heads of queries, keys and values: the first two divide the last. */
export interface Heads {
  readonly query: number;
  readonly key: number;
  readonly value: number;
}

/** The index of the operand `documents`; only the kernels of StableHLO support it, elsewhere the expansion is used. */
const DOCUMENTS = 8;

/** The index of the result that only the gradient uses: what each step writes, where kernels compute it. */
const WRITTEN = 2;

const recurrenceOperator = defineComposite<{ heads: Heads }>({
  name: 'linearRecurrence',
  infer([query, key, value, gate, state, beta, find, remove, documents], { heads }) {
    const { batch, sequence, keySize, valueSize } = sizes(query!, value!, heads);
    const expectShape = (what: string, x: TensorType, size: Dim): void => {
      if (x.shape.length !== 3 || x.shape[0] !== batch || x.shape[1] !== sequence || x.shape[2] !== size) {
        throw new ShapeError(`the ${what} must be [${batch},${sequence},${size}]`);
      }
    };
    if (heads.value % heads.query !== 0 || heads.value % heads.key !== 0) {
      throw new ShapeError(
        `${heads.value} heads cannot share ${heads.query} queries and ${heads.key} keys evenly`,
      );
    }
    expectShape('query', query!, multiplyDims([heads.query, keySize]));
    expectShape('key', key!, multiplyDims([heads.key, keySize]));
    expectShape('value', value!, multiplyDims([heads.value, valueSize]));
    if (gate) {
      const each = multiplyDims([heads.value, keySize]);
      expectShape('gate', gate, gate.shape[2] === heads.value ? heads.value : each);
    }
    if (beta) expectShape('beta', beta, heads.value);
    if (find || remove) {
      if (!find || !remove || beta) throw new ShapeError('find and remove stand together, and without beta');
      expectShape('find', find, multiplyDims([heads.key, keySize]));
      expectShape('remove', remove, multiplyDims([heads.key, keySize]));
    }
    if (documents && !sameShape(documents.shape, [batch, sequence]))
      throw new ShapeError(`the documents must be [${batch},${sequence}]`);
    const stateShape = [batch, heads.value, keySize, valueSize];
    if (state && (state.shape.length !== 4 || state.shape.some((dim, i) => dim !== stateShape[i]))) {
      throw new ShapeError(`the state must be [${stateShape}]`);
    }
    return [
      { dtype: 'float32', shape: [batch, sequence, multiplyDims([heads.value, valueSize])] },
      { dtype: 'float32', shape: stateShape },
      { dtype: 'float32', shape: value!.shape },
    ];
  },
  // The gradient of the expansion goes through its own values, so that it leaves nothing.
  expand: (operands, { heads }) => [...recurrenceInChunks(operands, heads), zeros(operands[2]!.shape)],
  gradient({ inputs, outputs, attributes: { heads }, outputGradients, needs }) {
    const seeds = outputGradients.slice(0, WRITTEN);
    // An operand that is given twice gets one gradient, for both its uses.
    const first = inputs.map((operand, i) => needs(i) && inputs.indexOf(operand) === i);
    const wanted = first.flatMap((isFirst, i) => (isFirst ? [i] : []));
    const parts = [...apply(gradientOperator, [...inputs, ...outputs, ...seeds], { heads, wanted })];
    return first.map((isFirst) => (isFirst ? parts.shift() : undefined));
  },
  kernels: {
    onnx(builder, [query, key, value, gate, state, beta, find, , documents], node) {
      // The operator divides by the state's size and crashes the process if it is 0.
      const isEmpty = node.inputs.slice(0, 3).some((operand) => operand!.shape[2] === 0);
      if (
        find ||
        documents ||
        isEmpty ||
        !builder.fused.has('LinearAttention') ||
        isDifferentiated(node, builder.used)
      )
        return undefined;
      return builder.emit('LinearAttention', [query!, key!, value!, state!, gate!, beta!], {
        domain: 'com.microsoft',
        attributes: {
          q_num_heads: { int: node.attributes.heads.query },
          kv_num_heads: { int: node.attributes.heads.value },
          update_rule: { string: updateRule(gate !== '', beta !== '') },
          // 0 would mean 1/sqrt(keySize).
          scale: { float: 1 },
        },
        outputs: 2,
      });
    },
    stablehlo(builder, operands, node) {
      const { heads } = node.attributes;
      const byKernels = recurrenceByKernels(builder, operands, heads);
      if (byKernels || operands[DOCUMENTS] || isDifferentiated(node, builder.used)) return byKernels;
      return builder.resolve(node.inputs[0]!.shape[1]!) === 1
        ? recurrenceStep(builder, operands, heads)
        : undefined;
    },
    wasm: (builder, operands, node) =>
      operands[DOCUMENTS] || isDifferentiated(node, builder.used)
        ? undefined
        : recurrenceInWasm(builder, operands, node, node.attributes.heads),
  },
});

/** Whether a gradient is taken through a node, which then is its expansion where the gradient has no kernel. */
function isDifferentiated(node: Node<{ heads: Heads }>, used: ReadonlySet<Tensor>): boolean {
  return used.has(node.outputs[WRITTEN]!) || expansionIsUsed(node as Node, used);
}

/** The recurrence's operands, its results and the gradients of output and state -> the gradients of the `wanted` operands. */
const gradientOperator = defineComposite<{ heads: Heads; wanted: readonly number[] }>({
  name: 'linearRecurrenceGradient',
  infer: (inputs, { wanted }) => wanted.map((i) => ({ dtype: 'float32', shape: inputs[i]!.shape })),
  kernels: {
    stablehlo(builder, operands, { inputs, attributes: { heads, wanted } }) {
      const given = operands.slice(0, DOCUMENTS + 1);
      const [output, last, , ofOutput, ofLast] = operands.slice(given.length) as [
        Value,
        Value,
        Value,
        Value?,
        Value?,
      ];
      const seed = (g: Value | undefined, of: Value): Value => g ?? builder.splat(0, 'f32', of.dims);
      const seeds = { dOutput: seed(ofOutput, output), dLast: seed(ofLast, last) };
      const parts = recurrenceGradientByKernels(builder, given, seeds, heads);
      return (
        parts &&
        wanted.map((i) =>
          summed(
            builder,
            parts.filter((_, n) => inputs[n] === inputs[i]),
          ),
        )
      );
    },
  },
  expand(inputs, { wanted }) {
    const roots = expansionOf(inputs[DOCUMENTS + 1]!.node);
    const through = inputs.slice(-2).flatMap((seed, i) => (seed ? [{ seed, root: roots[i]! }] : []));
    return gradientInside(
      through.map(({ root }) => root),
      wanted.map((i) => inputs[i]!),
      through.map(({ seed }) => seed),
    );
  },
});

/** The sum of the gradients that reach one operand, in the first one's type. */
function summed(builder: StableHloBuilder, parts: readonly (Plain | undefined)[]): Plain {
  const [first, ...others] = parts.flatMap((part) => part ?? []) as [Plain, ...Plain[]];
  const sum = others.reduce(
    (a, b) => builder.binary('add', a, builder.wide(b)),
    others.length > 0 ? builder.wide(first) : first,
  );
  return builder.as(sum, first.element);
}

function updateRule(gated: boolean, delta: boolean): string {
  if (delta) return gated ? 'gated_delta' : 'delta';
  return gated ? 'gated' : 'linear';
}

function sizes(query: TensorType, value: TensorType, heads: Heads) {
  if (query.shape.length !== 3 || value.shape.length !== 3)
    throw new ShapeError('the operands must have rank 3');
  const [batch, sequence, width] = query.shape;
  const keySize = divideDim(width!, heads.query);
  const valueSize = divideDim(value.shape[2]!, heads.value);
  if (keySize === undefined || valueSize === undefined) {
    throw new ShapeError(`the widths do not divide into ${heads.query} query and ${heads.value} value heads`);
  }
  return { batch: batch!, sequence: sequence!, keySize, valueSize };
}

/** The operands of `linearRecurrence`. */
export interface RecurrenceInputs {
  /** [batch, sequence, queryHeads * keySize] */
  query: Tensor;
  /** [batch, sequence, keyHeads * keySize] */
  key: Tensor;
  /** [batch, sequence, heads * valueSize] */
  value: Tensor;
  /** Log decay, at most 0: [batch, sequence, heads], or [batch, sequence, heads * keySize] for a separate decay of each row of the state. */
  gate?: Tensor | undefined;
  /** The delta rule's rate, from 0 to 2, for keys of length 1: [batch, sequence, heads]. Without it values add up. */
  beta?: Tensor | undefined;
  /** [batch, heads, keySize, valueSize]; zeros by default. */
  state?: Tensor | undefined;
  /**
   * Instead of beta, [batch, sequence, keyHeads * keySize] each: the value that the state has under `find` is removed under `remove`. The
   * caller must ensure that the norm of diag(exp(g)) - r f^T diag(exp(g)) is at most 1, so that the state stays bounded.
   */
  erase?: { find: Tensor; remove: Tensor } | undefined;
  /** int64 [batch, sequence], see documents.ts: at the first token of each the state is 0. */
  documents?: Tensor | undefined;
}

/**
 * S_t = D_t + k_t v_t^T with D_t = diag(exp(g_t)) S_(t-1), or S_t = D_t + k_t (beta_t (v_t - D_t^T k_t))^T, or
 * S_t = D_t + k_t v_t^T - r_t (D_t^T f_t)^T, and o_t = S_t^T q_t. Consecutive value heads share a query or a key if there are fewer of those. Returns `output`
 * [batch, sequence, heads * valueSize] and the final `state`.
 */
export function linearRecurrence(inputs: RecurrenceInputs, heads: Heads): { output: Tensor; state: Tensor } {
  const { query, key, value, gate, beta, state, erase, documents } = inputs;
  const operands = [query, key, value, gate, state, beta, erase?.find, erase?.remove, documents];
  const [output, finalState] = apply(recurrenceOperator, operands, { heads });
  return { output: output!, state: finalState! };
}
