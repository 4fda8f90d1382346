/** Scans over states, and the graph's own loops, as StableHLO's while loops. */
import { DeviceError } from '../../../errors.js';
import type { Body } from '../../ops/body.js';
import type { CompleteScan, ScanAttributes } from '../../ops/scan.js';
import type { Dim, Shape } from '../../shape.js';
import type { Node } from '../../tensor.js';
import type { StableHloBuilder, StableHloLowering } from './builder.js';
import { lowerAll } from './lower.js';
import { matmul } from './matmul.js';
import { decayScan } from './recurrence.js';
import type { Plain, Value } from './value.js';

/** Steps that are computed as one matrix product instead of a loop; its cost grows with their square. */
const MOST_AT_ONCE = 64;

/**
 * The state before each step, and the last: see the operator. It is carried in float32; the states are stacked in the type of what is
 * added to them.
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
  if (steps === 1) {
    const before = builder.broadcast(builder.wide(initial), state);
    const moved = act(builder, oneStep(transition), before, product);
    return [
      builder.reshape(builder.as(before, added.element), added.dims),
      builder.binary('add', moved, builder.wide(oneStep(added))),
    ];
  }
  const isOneNumber = transition.dims.slice(-2).every((size) => size === 1);
  if (decays && product === 'elements' && isOneNumber && state.length >= 2 && steps <= MOST_AT_ONCE) {
    return decayScan(builder, { transition, added, initial }, axis, reverse);
  }
  const stacked = builder.splat(0, added.element, added.dims);
  const first = builder.broadcast(builder.wide(initial), state);
  const at = (x: Plain, index: Plain): Plain => oneStep(builder.dynamicSlice(x, axis, index, 1));
  const row = added.dims.map((size, i) => (i === axis ? 1 : size));
  const [last, states] = builder.loop(steps, [first, stacked], (index, [before, all]) => {
    const place = reverse ? builder.binary('subtract', builder.splat(steps - 1, 'i32'), index) : index;
    const seen = builder.reshape(builder.as(before!, added.element), row);
    const moved = act(builder, at(transition, place), before!, product);
    const next = builder.binary('add', moved, builder.wide(at(added, place)));
    return [next, builder.dynamicUpdateSlice(all!, seen, axis, place)];
  }) as [Plain, Plain];
  return [states, last];
};

/** The product of complex numbers whose two parts stand along the first axis. */
function complexProduct(builder: StableHloBuilder, a: Plain, b: Plain): Plain {
  const [aRe, aIm, bRe, bIm] = [a, b].flatMap((x) => [0, 1].map((i) => builder.slice(x, 0, i, i + 1))) as [
    Plain,
    Plain,
    Plain,
    Plain,
  ];
  const times = (x: Plain, y: Plain): Plain => builder.binary('multiply', x, y);
  const re = builder.binary('subtract', times(aRe, bRe), times(aIm, bIm));
  const im = builder.binary('add', times(aRe, bIm), times(aIm, bRe));
  return builder.concat([re, im], 0);
}

/** What a transition makes of a state, in float32. */
function act(
  builder: StableHloBuilder,
  transition: Plain,
  state: Plain,
  product: ScanAttributes['product'],
): Plain {
  const factor = builder.wide(transition);
  if (product === 'elements') return builder.binary('multiply', builder.broadcast(factor, state.dims), state);
  if (product === 'complex') return complexProduct(builder, builder.broadcast(factor, state.dims), state);
  return matmul(builder, factor, state, { transposeA: product === 'transposed', wide: true });
}

/** A loop of the graph, whose end is known beforehand. */
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
  return builder.loop(steps, initial, (index, values) => {
    const results = inside(index, values.slice(0, final.length));
    return results.map((result, i) => {
      const value = builder.as(result, initial[i]!.element);
      if (i < final.length) return value;
      return builder.dynamicUpdateSlice(values[i]!, builder.reshape(value, [1, ...value.dims]), 0, index);
    });
  });
}
