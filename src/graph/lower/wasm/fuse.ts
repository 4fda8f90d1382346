/** Fusion: dead steps are removed, and element-wise steps are merged, so that intermediate results are not written to memory. */
import { Element, Kernel } from './codes.js';
import { registersNeeded } from './encode-map.js';
import { type Expression, loadsOf, type MapStep, readsOf, writesOf } from './map.js';
import { divided } from './share.js';
import type { Step } from './step.js';
import { type Buffer, count, isContiguous, type View } from './value.js';

/** The final steps: dead steps are removed, and adjacent element-wise steps fused. */
export function finished(steps: readonly (Step | MapStep)[], isKept: (buffer: Buffer) => boolean): Step[] {
  const needed = new Set<Buffer>();
  const alive: (Step | MapStep)[] = [];
  for (const step of [...steps].reverse()) {
    const isMap = 'stores' in step;
    const isUsed = writesOf(step).some((buffer) => needed.has(buffer) || isKept(buffer));
    if (!isUsed && !(!isMap && step.writesStates)) continue;
    for (const buffer of isMap ? loadsOf(step).map((view) => view.buffer) : step.reads) needed.add(buffer);
    alive.push(step);
  }
  return divided(fused(alive.reverse(), isKept));
}

/** Fuses each element-wise step with preceding ones whose results are not read in between. */
function fused(given: readonly (Step | MapStep)[], isKept: (buffer: Buffer) => boolean): (Step | MapStep)[] {
  const steps: (Step | MapStep | undefined)[] = [...given];
  const readers = new Map<Buffer, Set<number>>();
  const writers = new Map<Buffer, number[]>();
  for (const [i, step] of given.entries()) {
    for (const buffer of readsOf(step)) {
      const all = readers.get(buffer) ?? new Set();
      readers.set(buffer, all.add(i));
    }
    for (const buffer of writesOf(step)) writers.set(buffer, [...(writers.get(buffer) ?? []), i]);
  }
  for (let i = 0; i < steps.length; i++) {
    let step = steps[i];
    if (!step || !('stores' in step)) continue;
    // Repeated until nothing changes, since the operands of a fused step may be fused as well.
    for (let again = true; again; ) {
      again = false;
      for (const buffer of new Set(readsOf(step))) {
        const made = writers.get(buffer) ?? [];
        const at = made.length === 1 ? made[0]! : -1;
        const producer = at >= 0 && at < i ? steps[at] : undefined;
        if (!producer || !('stores' in producer)) continue;
        const results = producer.stores.map(({ view }) => view.buffer);
        if (results.some((result) => (writers.get(result) ?? []).length !== 1)) continue;
        const early = results.some((result) => [...(readers.get(result) ?? [])].some((reader) => reader < i));
        if (early) continue;
        const isRead = (result: Buffer): boolean =>
          isKept(result) || [...(readers.get(result) ?? [])].some((reader) => reader !== i);
        const one = merged(producer, step as MapStep, isRead);
        if (!one) continue;
        steps[at] = undefined;
        steps[i] = one;
        step = one;
        for (const result of results) {
          readers.get(result)?.delete(i);
          writers.set(result, [i]);
        }
        for (const read of readsOf(one)) {
          const all = readers.get(read) ?? new Set();
          all.delete(at);
          readers.set(read, all.add(i));
        }
        for (const read of readsOf(producer)) readers.get(read)?.delete(at);
        again = true;
        break;
      }
    }
  }
  return steps.filter((step) => step !== undefined);
}

/** Element types with fewer bits than a register. */
const ROUNDED: ReadonlySet<Element> = new Set([
  Element.bfloat16,
  Element.float16,
  Element.int8,
  Element.uint8,
]);

/** The number of registers of a thread. */
const REGISTERS = 24;

/**
 * Fuses `producer` into `consumer`, or returns undefined if they do not iterate over the same elements or would need too many registers. `keep`
 * says whether other steps read the producer's result.
 */
function merged(
  producer: MapStep,
  consumer: MapStep,
  keep: (buffer: Buffer) => boolean,
): MapStep | undefined {
  const size = count(producer.dims);
  if (size !== count(consumer.dims)) return undefined;
  const made = new Map(producer.stores.map((store) => [store.view.buffer, store]));
  const loads = loadsOf(consumer).filter(({ buffer }) => made.has(buffer));
  const isWhole = (view: View): boolean =>
    isContiguous(view) &&
    view.offset === 0 &&
    count(view.dims) === size &&
    view.element === made.get(view.buffer)!.view.element;
  if (!loads.every((view) => isWhole(view) && isWhole(made.get(view.buffer)!.view))) return undefined;
  // Registers do not round, so values that are stored in fewer bits must be read back.
  if (loads.some((view) => ROUNDED.has(view.element))) return undefined;
  // Both have the same order of elements, so the common refinement of the two shapes serves both.
  const dims = commonDims(producer.dims, consumer.dims);
  if (!dims) return undefined;
  const producerViews = new Map(loadsOf(producer).map((view) => [view, regrouped(view, dims)]));
  const consumerViews = new Map(loadsOf(consumer).map((view) => [view, regrouped(view, dims)]));
  const stores = [...producer.stores, ...consumer.stores].map(({ view }) => regrouped(view, dims));
  if ([...producerViews.values(), ...consumerViews.values(), ...stores].some((view) => !view))
    return undefined;
  const rewrite = (views: ReadonlyMap<View, View | undefined>, inner?: ReadonlyMap<Buffer, Expression>) => {
    const done = new Map<Expression, Expression>();
    const of = (e: Expression): Expression => {
      const known = done.get(e);
      if (known) return known;
      let result: Expression = e;
      if (e.kind === 'load') result = inner?.get(e.view.buffer) ?? { kind: 'load', view: views.get(e.view)! };
      if (e.kind === 'compute') result = { ...e, operands: e.operands.map(of) };
      done.set(e, result);
      return result;
    };
    return of;
  };
  const ofProducer = rewrite(producerViews);
  const values = new Map(producer.stores.map(({ view, value }) => [view.buffer, ofProducer(value)]));
  const ofConsumer = rewrite(consumerViews, values);
  const step: MapStep = {
    kernel: Kernel.map,
    dims,
    stores: [
      ...producer.stores.flatMap(({ view }, i) =>
        keep(view.buffer) ? [{ view: stores[i]!, value: values.get(view.buffer)! }] : [],
      ),
      ...consumer.stores.map(({ value }, i) => ({
        view: stores[producer.stores.length + i]!,
        value: ofConsumer(value),
      })),
    ],
    path: consumer.path,
    label: producer.label === consumer.label ? consumer.label : `${producer.label} ${consumer.label}`,
  };
  return registersNeeded(step) <= REGISTERS ? step : undefined;
}

/** The common refinement of two shapes: dims whose consecutive groups multiply to the dims of both. */
function commonDims(a: readonly number[], b: readonly number[]): number[] | undefined {
  const dims: number[] = [];
  const [x, y] = [a, b].map((given) => given.filter((dim) => dim !== 1).reverse());
  let [left, right] = [1, 1];
  let [i, j] = [0, 0];
  while (i < x!.length || j < y!.length || left !== 1 || right !== 1) {
    if (left === 1) left = x![i++] ?? 1;
    if (right === 1) right = y![j++] ?? 1;
    const least = Math.min(left, right);
    if (least < 2 || left % least !== 0 || right % least !== 0) return undefined;
    dims.push(least);
    left /= least;
    right /= least;
  }
  return dims.reverse();
}

/** A view of the same elements, in the same order, with finer dims. */
function regrouped(view: View, dims: readonly number[]): View | undefined {
  const strides: number[] = [];
  const from = view.dims.flatMap((dim, i) => (dim === 1 ? [] : [{ dim, stride: view.strides[i]! }]));
  let at = dims.length - 1;
  for (const { dim, stride } of from.reverse()) {
    let left = dim;
    let step = stride;
    while (left > 1) {
      const size = dims[at--];
      if (size === undefined || left % size !== 0) return undefined;
      strides.unshift(step);
      step *= size;
      left /= size;
    }
  }
  return strides.length === dims.length ? { ...view, dims, strides } : undefined;
}
