/**
 * Element-wise steps, which are fused: expressions over views. A result that only the next step reads is never written to memory.
 */
import type { DType } from '../../dtype.js';
import { Element, Instruction, Kernel } from './codes.js';
import { floatBits, type Share, type Step, type Word } from './step.js';
import { type Buffer, count, ELEMENT_BYTES, idOf, isContiguous, type View } from './value.js';

/** The types of registers: float32, int64, boolean. */
export type Register = 'F' | 'I' | 'B';

/** The register type in which a dtype is computed. */
export function registerOf(dtype: DType): Register {
  if (dtype === 'bool') return 'B';
  return dtype === 'float32' || dtype === 'bfloat16' || dtype === 'float16' ? 'F' : 'I';
}

/** The expression that a fused step computes for each element. */
export type Expression =
  | { readonly kind: 'load'; readonly view: View }
  | { readonly kind: 'constant'; readonly register: Register; readonly value: number | bigint }
  | { readonly kind: 'compute'; readonly instruction: Instruction; readonly operands: readonly Expression[] };

/** An element-wise step over `dims`. */
export interface MapStep {
  readonly kernel: Kernel.map;
  readonly dims: readonly number[];
  /** The stored views have the dims `dims`, and are contiguous or parts of other views. */
  stores: { readonly view: View; readonly value: Expression }[];
  readonly path: string;
  label: string;
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

/** The distinct views that a fused step reads. */
export function loadsOf(step: MapStep): View[] {
  const views = new Set<View>();
  for (const { value } of step.stores) {
    walk(value, (e) => {
      if (e.kind === 'load') views.add(e.view);
    });
  }
  return [...views];
}

/** The buffers that a step reads. */
export function readsOf(step: Step | MapStep): readonly Buffer[] {
  return 'stores' in step ? loadsOf(step).map(({ buffer }) => buffer) : step.reads;
}

/** The buffers that a step writes. */
export function writesOf(step: Step | MapStep): readonly Buffer[] {
  return 'stores' in step ? step.stores.map(({ view }) => view.buffer) : step.writes;
}

function walk(expression: Expression, visit: (e: Expression) => void, seen = new Set<Expression>()): void {
  if (seen.has(expression)) return;
  seen.add(expression);
  if (expression.kind === 'compute') for (const operand of expression.operands) walk(operand, visit, seen);
  visit(expression);
}

/**
 * Fuses `producer` into `consumer`, or returns undefined if they do not iterate over the same elements or would need too many registers. `keep`
 * says whether other steps read the producer's result.
 */
export function merged(
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

interface Compiled {
  readonly instructions: {
    readonly code: Instruction;
    readonly expression: Expression;
    readonly store?: View;
    readonly target: number;
    readonly operands: readonly number[];
  }[];
  readonly registers: number;
}

function registersNeeded(step: MapStep): number {
  return compile(step).registers;
}

/** Compiles expressions to instructions, with register allocation. */
function compile({ stores }: MapStep): Compiled {
  const order: Expression[] = [];
  const last = new Map<Expression, number>();
  const same = new Map<string, Expression>();
  const canonical = new Map<Expression, Expression>();
  const ids = new Map<Expression, number>();
  /** Deduplicates equal loads and equal expressions. */
  const unify = (e: Expression): Expression => {
    const known = canonical.get(e);
    if (known) return known;
    let unified = e;
    let key: string | undefined;
    if (e.kind === 'compute') {
      const operands = e.operands.map(unify);
      unified = { ...e, operands };
      key = `${e.instruction}:${operands.map((operand) => ids.get(operand)).join()}`;
    } else if (e.kind === 'constant') {
      key = `${e.register}=${Object.is(e.value, -0) ? '-0' : e.value}`;
    } else {
      key = `${idOf(e.view.buffer)}@${e.view.offset}[${e.view.strides.join()}]`;
    }
    const first = same.get(key);
    if (first) unified = first;
    else {
      same.set(key, unified);
      ids.set(unified, ids.size);
    }
    canonical.set(e, unified);
    return unified;
  };
  const values = stores.map(({ value }) => unify(value));
  const placed = new Set<Expression>();
  const schedule: { expression: Expression; store?: View }[] = [];
  for (const [i, value] of values.entries()) {
    walk(
      value,
      (e) => {
        order.push(e);
        schedule.push({ expression: e });
      },
      placed,
    );
    schedule.push({ expression: value, store: stores[i]!.view });
  }
  for (const [i, { expression, store }] of schedule.entries()) {
    if (store) last.set(expression, i);
    else if (expression.kind === 'compute') for (const operand of expression.operands) last.set(operand, i);
  }
  const free: number[] = [];
  let registers = 0;
  const held = new Map<Expression, number>();
  const instructions = schedule.map(({ expression, store }, i) => {
    const release = (used: readonly Expression[]): void => {
      for (const e of new Set(used)) if (last.get(e) === i) free.push(held.get(e)!);
    };
    if (store) {
      const target = held.get(expression)!;
      release([expression]);
      return { code: Instruction.store, expression, store, target, operands: [] };
    }
    // A result's register is allocated before its operands' are freed, since not all instructions can overwrite their operands.
    const target = free.pop() ?? registers++;
    held.set(expression, target);
    const inputs = expression.kind === 'compute' ? expression.operands : [];
    const operands = inputs.map((operand) => held.get(operand)!);
    release(inputs);
    return { code: codeOf(expression), expression, target, operands };
  });
  return { instructions, registers };
}

function codeOf(expression: Expression): Instruction {
  if (expression.kind === 'load') return Instruction.load;
  if (expression.kind === 'compute') return expression.instruction;
  if (expression.register === 'F') return Instruction.constantF;
  return expression.register === 'I' ? Instruction.constantI : Instruction.constantB;
}

/** Encodes a step for the kernel, with its partition over threads. */
export function encodeMap(step: MapStep, { length, unit }: Share): Step {
  const { instructions } = compile(step);
  const views = instructions.flatMap(({ expression, store }) =>
    store ? [store] : expression.kind === 'load' ? [expression.view] : [],
  );
  const { dims, strides } = collapsed(step.dims, views);
  const elements = count(step.dims);
  const head = [dims.length, ...dims, elements, length, unit, instructions.length];
  const stridesAt = head.length + instructions.length * 5;
  const words: Word[] = [...head];
  let next = 0;
  for (const { code, expression, store, target, operands } of instructions) {
    const view = store ?? (expression.kind === 'load' ? expression.view : undefined);
    if (view) {
      const bytes = view.offset * ELEMENT_BYTES[view.element];
      words.push(code, target, { buffer: view.buffer, bytes }, stridesAt + next * dims.length, view.element);
      next++;
    } else if (expression.kind === 'constant') {
      const { register, value } = expression;
      const bits = register === 'F' ? [floatBits(Number(value)), 0] : halves(BigInt(value));
      words.push(code, target, bits[0]!, bits[1]!, 0);
    } else {
      words.push(code, target, operands[0] ?? 0, operands[1] ?? 0, operands[2] ?? 0);
    }
  }
  words.push(...strides.flat());
  return {
    kernel: Kernel.map,
    words,
    reads: [...new Set(loadsOf(step).map(({ buffer }) => buffer))],
    writes: step.stores.map(({ view }) => view.buffer),
    path: step.path,
    label: step.label,
    weightBytes: 0,
  };
}

function halves(value: bigint): [number, number] {
  return [Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n))];
}

/** Collapses adjacent axes that are contiguous in every view. */
function collapsed(dims: readonly number[], views: readonly View[]): { dims: number[]; strides: number[][] } {
  const kept = dims.flatMap((dim, i) => (dim === 1 ? [] : [i]));
  const out: number[] = [];
  const strides: number[][] = views.map(() => []);
  for (const axis of kept) {
    const joins =
      out.length > 0 && views.every((view, v) => strides[v]!.at(-1) === view.strides[axis]! * dims[axis]!);
    if (joins) {
      out[out.length - 1]! *= dims[axis]!;
      for (const [v, view] of views.entries()) strides[v]![out.length - 1] = view.strides[axis]!;
    } else {
      out.push(dims[axis]!);
      for (const [v, view] of views.entries()) strides[v]!.push(view.strides[axis]!);
    }
  }
  return { dims: out, strides };
}
