/** Linear scans, and loops. */
import { DeviceError } from '../../../errors.js';
import type { Body } from '../../ops/body.js';
import type { CompleteScan, ScanAttributes } from '../../ops/scan.js';
import type { Dim, Shape } from '../../shape.js';
import type { Node } from '../../tensor.js';
import type { StableHloBuilder, StableHloLowering } from './builder.js';
import { lowerAll } from './lower.js';
import { matmul } from './matmul.js';
import { decayScan } from './recurrence.js';
import { type ScanProduct, treeScan } from './tree-scan.js';
import { count, type Plain, replaced, type Value } from './value.js';

/** The most steps that are computed as one matrix product instead of a loop; the cost is quadratic in them. */
const MOST_AT_ONCE = 64;
/**
 * The largest state, in elements, for which a scan is computed as a tree: an iteration of a loop takes some 10 microseconds however small the
 * state is, but the tree moves more memory in total, and needs more at once.
 */
const MOST_IN_TREE = 2 ** 21;

/**
 * The state before each step, and the last one: see the operator. It is carried in float32; the states are stacked in the type of the added
 * values.
 */
export const hloScan: StableHloLowering<CompleteScan> = (
  builder,
  inputs,
  { attributes: { product, reverse, decays, axis } },
) => {
  const [transition, added, initial] = inputs.map((x) => builder.plain(x!)) as [Plain, Plain, Plain];
  const steps = added.dims[axis]!;
  const oneStep = (x: Plain): Plain =>
    builder.reshape(
      x,
      x.dims.filter((_, i) => i !== axis),
    );
  const state = added.dims.filter((_, i) => i !== axis);
  const { act } = productOf(builder, product);
  if (steps === 1) {
    const before = builder.broadcast(builder.wide(initial), state);
    const moved = act(oneStep(transition), before);
    return [
      builder.reshape(builder.as(before, added.element), added.dims),
      builder.binary('add', moved, builder.wide(oneStep(added))),
    ];
  }
  const isOneNumber = transition.dims.slice(-2).every((size) => size === 1);
  if (decays && product === 'elements' && isOneNumber && state.length >= 2 && steps <= MOST_AT_ONCE) {
    return decayScan(builder, { transition, added, initial }, axis, reverse);
  }
  const first = builder.broadcast(builder.wide(initial), state);
  // The tree multiplies transitions, which must not be larger than the states.
  if (count(state) <= MOST_IN_TREE && count(transition.dims) <= count(added.dims)) {
    const wide = { transition: builder.wide(transition), added: builder.wide(added) };
    const given = builder.reshape(first, replaced(added.dims, axis, 1));
    const states = treeScan(
      builder,
      { ...wide, initial: given },
      productOf(builder, product, axis === 0 ? 1 : 0),
      axis,
      reverse,
    );
    const end = reverse ? 0 : steps - 1;
    const atEnd = (x: Plain): Plain => oneStep(builder.slice(x, axis, end, end + 1));
    const last = builder.binary('add', act(atEnd(wide.transition), atEnd(states)), atEnd(wide.added));
    return [builder.as(states, added.element), last];
  }
  const stacked = builder.splat(0, added.element, added.dims);
  const at = (x: Plain, index: Plain): Plain => oneStep(builder.dynamicSlice(x, axis, index, 1));
  const row = added.dims.map((size, i) => (i === axis ? 1 : size));
  const [last, states] = builder.loop(steps, [first, stacked], (index, [before, all]) => {
    const place = reverse ? builder.binary('subtract', builder.splat(steps - 1, 'i32'), index) : index;
    const seen = builder.reshape(builder.as(before!, added.element), row);
    const moved = act(at(transition, place), before!);
    const next = builder.binary('add', moved, builder.wide(at(added, place)));
    return [next, builder.dynamicUpdateSlice(all!, seen, axis, place)];
  }) as [Plain, Plain];
  return [states, last];
};

/** The product of complex numbers, with real and imaginary parts along an axis. */
function complexProduct(builder: StableHloBuilder, a: Plain, b: Plain, axis: number): Plain {
  const [aRe, aIm, bRe, bIm] = [a, b].flatMap((x) => [0, 1].map((i) => builder.slice(x, axis, i, i + 1))) as [
    Plain,
    Plain,
    Plain,
    Plain,
  ];
  const times = (x: Plain, y: Plain): Plain => builder.binary('multiply', x, y);
  const re = builder.binary('subtract', times(aRe, bRe), times(aIm, bIm));
  const im = builder.binary('add', times(aRe, bIm), times(aIm, bRe));
  return builder.concat([re, im], axis);
}

/** The products of transitions with states, and with preceding transitions, in float32. Complex numbers have their parts along an axis. */
function productOf(
  builder: StableHloBuilder,
  product: ScanAttributes['product'],
  partsAxis = 0,
): ScanProduct {
  const apply = (transition: Plain, x: Plain): Plain => {
    const factor = builder.wide(transition);
    if (product === 'elements') return builder.binary('multiply', builder.broadcast(factor, x.dims), x);
    if (product === 'complex') {
      return complexProduct(builder, builder.broadcast(factor, x.dims), x, partsAxis);
    }
    return matmul(builder, factor, x, { transposeA: product === 'transposed', wide: true });
  };
  return {
    act: apply,
    // B^T A^T = (A B)^T
    compose: (second, first) =>
      product === 'transposed' ? matmul(builder, first, second, { wide: true }) : apply(second, first),
  };
}

/** A loop with a known number of iterations. */
export function hloLoop(
  builder: StableHloBuilder,
  operands: readonly (Value | undefined)[],
  { outputs }: Node<unknown>,
  { count, body, final }: { readonly count: Dim; readonly body: Body; readonly final: readonly Shape[] },
): Value[] {
  const around = builder.values;
  const steps = builder.resolve(count);
  const carried = operands.slice(0, final.length).map((value) => builder.plain(value!));
  const stacks = outputs.slice(final.length);
  const inside = (index: Plain, values: readonly Plain[]): Plain[] => {
    const [iteration, ...placeholders] = body.inputs;
    const scope = new Map(around);
    scope.set(iteration!, builder.as(index, 'i64'));
    for (const [i, tensor] of placeholders.entries()) scope.set(tensor, values[i]!);
    lowerAll(builder, body.nodes, body.results, scope);
    const results = body.results.map((tensor) => builder.plain(scope.get(tensor)!));
    if (results.at(-1)!.literal !== 1) {
      throw new DeviceError(
        'this device has no loops that end early: their results have no size that is known beforehand',
      );
    }
    builder.values = around;
    return results.slice(0, -1);
  };
  const initial = [
    ...carried,
    ...stacks.map(({ dtype, shape }) => builder.zeros(dtype, builder.dims(shape))),
  ];
  // Without iterations the body may slice empty operands, which is invalid.
  if (steps === 0) return initial;
  return builder.loop(steps, initial, (index, values) => {
    const results = inside(index, values.slice(0, final.length));
    return results.map((result, i) => {
      const value = builder.as(result, initial[i]!.element);
      if (i < final.length) return value;
      return builder.dynamicUpdateSlice(values[i]!, builder.reshape(value, [1, ...value.dims]), 0, index);
    });
  });
}
