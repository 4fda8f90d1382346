/** Encodes element-wise steps for the kernel: expressions become instructions on registers. */
import { Instruction, Kernel } from './codes.js';
import { type Expression, loadsOf, type MapStep, walk } from './map.js';
import { floatBits, type Share, type Step, type Word } from './step.js';
import { count, ELEMENT_BYTES, idOf, type View } from './value.js';

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

/** The number of registers that a step uses. */
export function registersNeeded(step: MapStep): number {
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
