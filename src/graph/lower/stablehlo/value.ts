/** The values of this target: named results of instructions, with their types. */
import { DTYPES, type DType } from '../../dtype.js';

/** The type of an element, by its name in StableHLO. */
export type Element = (typeof DTYPES)[DType]['stablehlo'];

/** A result of an instruction, or an argument. */
export interface Plain {
  readonly kind: 'plain';
  /** Its name in the text. */
  readonly id: string;
  /** May be narrower than the graph's type: see `Precision`. */
  readonly element: Element;
  readonly dims: readonly number[];
  /**
   * Whether its type is ignored in type promotion, as of JAX's weak types: literals and parameters are in float32, and are converted to the
   * precision of the activations.
   */
  readonly isWeak: boolean;
  /** The value of all elements, if it is a literal. */
  readonly literal?: number;
}

/** Block-quantized matrices [..., rows, columns], which are dequantized where they are used. */
export interface Packed {
  readonly kind: 'packed';
  readonly dims: readonly number[];
  readonly bits: 4 | 8;
  readonly block: number;
  /** ui8 [all rows, bytes] */
  readonly codes: Plain;
  /** f32 [all rows, blocks] */
  readonly scales: Plain;
}

/** A value of the function: an array, or a quantized matrix. */
export type Value = Plain | Packed;

/** The precision of activations and products; products accumulate in float32. */
export type Precision = 'float32' | 'bfloat16';

/** StableHLO's name of a dtype. */
export function elementOf(dtype: DType): Element {
  return DTYPES[dtype].stablehlo;
}

/** Whether elements are floating-point numbers. */
export function isFloat(element: Element): boolean {
  return element === 'f32' || element === 'bf16' || element === 'f16';
}

/** `tensor<2x3xf32>` */
export function typeText(element: Element, dims: readonly number[]): string {
  return `tensor<${dims.map((dim) => `${dim}x`).join('')}${element}>`;
}

/** The number of elements. */
export function count(dims: readonly number[]): number {
  return dims.reduce((a, b) => a * b, 1);
}

/** Dims with the size of one axis replaced. */
export function replaced(dims: readonly number[], axis: number, size: number): number[] {
  return dims.map((dim, i) => (i === axis ? size : dim));
}
