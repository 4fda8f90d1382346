/**
 * Element-wise steps, which are fused: expressions over views. A result that only the next step reads is never written to memory.
 */
import type { DType } from '../../dtype.js';
import type { Instruction, Kernel } from './codes.js';
import type { Step } from './step.js';
import type { Buffer, View } from './value.js';

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

/** Visits each distinct expression once, operands first. */
export function walk(
  expression: Expression,
  visit: (e: Expression) => void,
  seen = new Set<Expression>(),
): void {
  if (seen.has(expression)) return;
  seen.add(expression);
  if (expression.kind === 'compute') for (const operand of expression.operands) walk(operand, visit, seen);
  visit(expression);
}
