/**
 * Float16 and bfloat16, to and from float32.
 *
 * JavaScript on Node 20 has no Float16Array, so halves are stored as 16-bit patterns in a `Uint16Array`. The conversions operate on bit
 * patterns: no tables, and no float arithmetic that could round twice. Widening is exact; narrowing rounds to nearest, ties to even, as
 * IEEE 754 and all accelerators do. A NaN keeps the payload bits that fit, so that narrowing after widening returns the same 16 bits.
 */

/**
 * Widens IEEE 754 binary16 to float32, exactly.
 *
 * @param bits the halves, 16 bits each
 * @param values where the result goes, as long as `bits`; a new array when absent
 * @returns `values`
 * @throws RangeError when the lengths differ
 */
export function float16ToFloat32(
  bits: Uint16Array,
  values: Float32Array = new Float32Array(bits.length),
): Float32Array {
  requireSameLength(bits, values);
  const words = wordsOf(values);
  for (let i = 0; i < bits.length; i++) {
    const half = bits[i]!;
    const sign = (half & 0x8000) << 16;
    const magnitude = half & 0x7fff;
    if (magnitude >= 0x7c00) {
      words[i] = sign | 0x7f800000 | ((magnitude & 0x3ff) << 13);
    } else if (magnitude >= 0x0400) {
      // The exponent's bias changes from 15 to 127.
      words[i] = sign | ((magnitude << 13) + (112 << 23));
    } else if (magnitude === 0) {
      words[i] = sign;
    } else {
      // A subnormal half is magnitude x 2^-24, which is a normal float32: its highest bit becomes the implied one.
      const shift = Math.clz32(magnitude) - 8;
      words[i] = sign | (((126 - shift) << 23) | ((magnitude << shift) & 0x7fffff));
    }
  }
  return values;
}

/**
 * Narrows float32 to IEEE 754 binary16: to nearest, ties to even. From 65,520 on it is infinity; up to 2^-25 it is zero.
 *
 * @param values the numbers
 * @param bits where the result goes, as long as `values`; a new array when absent
 * @returns `bits`
 * @throws RangeError when the lengths differ
 */
export function float32ToFloat16(
  values: Float32Array,
  bits: Uint16Array = new Uint16Array(values.length),
): Uint16Array {
  requireSameLength(values, bits);
  const words = wordsOf(values);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const sign = (word >>> 16) & 0x8000;
    const magnitude = word & 0x7fffffff;
    if (magnitude > 0x7f800000) {
      const payload = (magnitude >>> 13) & 0x3ff;
      // If all payload bits were dropped, the NaN would become infinity.
      bits[i] = sign | 0x7c00 | (payload === 0 ? 0x200 : payload);
    } else if (magnitude >= 0x47800000) {
      bits[i] = sign | 0x7c00;
    } else if (magnitude >= 0x38800000) {
      // A carry out of the mantissa increments the exponent, up to infinity, which is the correct rounding.
      bits[i] = sign | roundOff(magnitude - (112 << 23), 13);
    } else if (magnitude >= 0x33000000) {
      // A subnormal half is a multiple of 2^-24: the mantissa with its implied bit, shifted by the exponent.
      bits[i] = sign | roundOff((magnitude & 0x7fffff) | 0x800000, 126 - (magnitude >>> 23));
    } else {
      bits[i] = sign;
    }
  }
  return bits;
}

/**
 * Widens bfloat16 to float32, exactly: a bfloat16 is the upper half of a float32.
 *
 * @param bits the bfloat16s, 16 bits each
 * @param values where the result goes, as long as `bits`; a new array when absent
 * @returns `values`
 * @throws RangeError when the lengths differ
 */
export function bfloat16ToFloat32(
  bits: Uint16Array,
  values: Float32Array = new Float32Array(bits.length),
): Float32Array {
  requireSameLength(bits, values);
  const words = wordsOf(values);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
  return values;
}

/**
 * Narrows float32 to bfloat16: to nearest, ties to even. The largest float32s round up to infinity.
 *
 * @param values the numbers
 * @param bits where the result goes, as long as `values`; a new array when absent
 * @returns `bits`
 * @throws RangeError when the lengths differ
 */
export function float32ToBfloat16(
  values: Float32Array,
  bits: Uint16Array = new Uint16Array(values.length),
): Uint16Array {
  requireSameLength(values, bits);
  const words = wordsOf(values);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const sign = (word >>> 16) & 0x8000;
    const magnitude = word & 0x7fffffff;
    if (magnitude > 0x7f800000) {
      const payload = (magnitude >>> 16) & 0x7f;
      bits[i] = sign | 0x7f80 | (payload === 0 ? 0x40 : payload);
    } else {
      bits[i] = sign | roundOff(magnitude, 16);
    }
  }
  return bits;
}

/** `value` without its lowest `count` bits, rounded to nearest, ties to even. */
function roundOff(value: number, count: number): number {
  const kept = value >>> count;
  return (value + (1 << (count - 1)) - 1 + (kept & 1)) >>> count;
}

/** The bit patterns of float32s. Reading them as numbers could change the bits of a NaN. */
function wordsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

function requireSameLength(from: ArrayLike<number>, into: ArrayLike<number>): void {
  if (from.length !== into.length) {
    throw new RangeError(`${from.length} values do not convert into an array of ${into.length}.`);
  }
}
