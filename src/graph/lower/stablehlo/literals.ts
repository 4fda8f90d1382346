/** Literals in MLIR's syntax. */
import type { TensorData } from '../../dtype.js';
import { bfloat16ToFloat32, float16ToFloat32 } from '../../half.js';
import { count, type Element, isFloat } from './value.js';

/** The lowest number of a type, the initial value of a maximum. */
export function lowest(element: Element): number {
  if (isFloat(element)) return Number.NEGATIVE_INFINITY;
  if (element === 'i64') return Number.MIN_SAFE_INTEGER;
  return element === 'i32' ? -(2 ** 31) : element === 'i8' ? -128 : 0;
}

/** A number in MLIR's syntax for this element type. */
export function literalText(value: number, element: Element): string {
  if (element === 'i1') return value === 0 ? 'false' : 'true';
  if (!isFloat(element)) return String(value);
  if (Number.isFinite(value)) return floatText(value);
  // MLIR writes NaN and infinities as hexadecimal bits.
  const isWide = element === 'f32';
  const [infinity, negative, notANumber] = isWide
    ? ['0x7F800000', '0xFF800000', '0x7FC00000']
    : element === 'bf16'
      ? ['0x7F80', '0xFF80', '0x7FC0']
      : ['0x7C00', '0xFC00', '0x7E00'];
  if (Number.isNaN(value)) return notANumber!;
  return value > 0 ? infinity! : negative!;
}

/** A decimal with a point, which MLIR requires. */
function floatText(value: number): string {
  const text = Object.is(value, -0) ? '-0' : String(value);
  const [mantissa, exponent] = text.split('e') as [string, string | undefined];
  const pointed = mantissa.includes('.') ? mantissa : `${mantissa}.0`;
  return exponent === undefined ? pointed : `${pointed}e${exponent}`;
}

/** The elements of an array as JavaScript numbers; int64 is rounded to doubles. */
export function numbersOf(data: TensorData, element: Element): number[] {
  if (element === 'bf16') return Array.from(bfloat16ToFloat32(data as Uint16Array));
  if (element === 'f16') return Array.from(float16ToFloat32(data as Uint16Array));
  return Array.from(data as ArrayLike<number | bigint>, Number);
}

/** `[[1, 2], [3, 4]]` */
export function nested(items: readonly string[], dims: readonly number[]): string {
  if (dims.length === 0) return items[0]!;
  if (items.length === 0) return '';
  const size = count(dims.slice(1));
  const parts = Array.from({ length: dims[0]! }, (_, i) =>
    nested(items.slice(i * size, (i + 1) * size), dims.slice(1)),
  );
  return `[${parts.join(', ')}]`;
}
