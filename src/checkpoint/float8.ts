/**
 * 8-bit floating-point numbers: E4M3 (OCP 8-bit floating point, the variant without infinities, as torch's float8_e4m3fn), and
 * E5M2, whose bits are the upper 8 bits of a float16.
 */
import { float16ToFloat32 } from '../graph/index.js';

/** The two 8-bit floating-point formats of safetensors: four bits of exponent and three of mantissa, or five and two. */
export type Float8 = 'F8_E4M3' | 'F8_E5M2';

function e4m3(bits: number): number {
  const [exponent, fraction] = [(bits >> 3) & 15, bits & 7];
  if (exponent === 15 && fraction === 7) return Number.NaN;
  const size = exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10);
  return bits & 0x80 ? -size : size;
}

/** The value of each byte. */
const TABLES: Readonly<Record<Float8, Float32Array>> = {
  F8_E4M3: Float32Array.from({ length: 256 }, (_, bits) => e4m3(bits)),
  F8_E5M2: float16ToFloat32(Uint16Array.from({ length: 256 }, (_, bits) => bits << 8)),
};

/** Whether a dtype of safetensors is one of the 8-bit floating-point formats. */
export function isFloat8(dtype: string): dtype is Float8 {
  return Object.hasOwn(TABLES, dtype);
}

/** Converts to float32, exactly. */
export function widenFloat8(dtype: Float8, bytes: Uint8Array): Float32Array {
  const table = TABLES[dtype];
  return Float32Array.from(bytes, (bits) => table[bits]!);
}
