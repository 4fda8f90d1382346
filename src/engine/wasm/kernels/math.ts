// Elementary functions of four float32 numbers at a time, to about an ulp or two. Nothing here uses relaxed
// multiply-adds: engines with and without relaxed SIMD must give the same bits.

/** A number in all four lanes. */
// @ts-ignore: decorator
@inline
export function splat(x: f32): v128 {
  return f32x4.splat(x);
}

/** The sum of four lanes, always in the same order. */
// @ts-ignore: decorator
@inline
export function lanesSum(a: v128): f32 {
  return (
    f32x4.extract_lane(a, 0) +
    f32x4.extract_lane(a, 2) +
    (f32x4.extract_lane(a, 1) + f32x4.extract_lane(a, 3))
  );
}

/** `lanesSum` of four vectors, one result in each lane, with the same bits. */
// @ts-ignore: decorator
@inline
export function sumsOfLanes(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 1, 4, 5), v128.shuffle<f32>(a, b, 2, 3, 6, 7));
  const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 1, 4, 5), v128.shuffle<f32>(c, d, 2, 3, 6, 7));
  return f32x4.add(v128.shuffle<f32>(ab, cd, 0, 2, 4, 6), v128.shuffle<f32>(ab, cd, 1, 3, 5, 7));
}

/** The largest of four lanes. */
// @ts-ignore: decorator
@inline
export function lanesMax(a: v128): f32 {
  return max(
    max(f32x4.extract_lane(a, 0), f32x4.extract_lane(a, 1)),
    max(f32x4.extract_lane(a, 2), f32x4.extract_lane(a, 3)),
  );
}

/** exp(x): the Taylor series of degree 6 on [-ln2/2, ln2/2]. 0 below -87.3, infinite above 88.7. */
// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  // pmin and pmax return NaN if their first operand is NaN, and are one instruction each.
  const c = f32x4.pmax(f32x4.pmin(x, splat(89)), splat(-87.336));
  // Adding 1.5 * 2^23 leaves no bits for a fraction: the sum is rounded to an integer, which is in its lowest bits.
  const rounded = f32x4.add(f32x4.mul(c, splat(1.44269504)), splat(12582912));
  const n = f32x4.sub(rounded, splat(12582912));
  const f = f32x4.sub(f32x4.sub(c, f32x4.mul(n, splat(0.693359375))), f32x4.mul(n, splat(-2.12194440e-4)));
  let p = splat(0.0013888889);
  p = f32x4.add(f32x4.mul(p, f), splat(0.008333334));
  p = f32x4.add(f32x4.mul(p, f), splat(0.041666668));
  p = f32x4.add(f32x4.mul(p, f), splat(0.16666667));
  p = f32x4.add(f32x4.mul(p, f), splat(0.5));
  p = f32x4.add(f32x4.mul(p, f), splat(1));
  p = f32x4.add(f32x4.mul(p, f), splat(1));
  // 2^n is computed as 2 * 2^(n - 1), which covers the largest exponents; the smallest results become 0.
  const power = i32x4.add(i32x4.shl(rounded, 23), i32x4.splat(126 << 23));
  const y = f32x4.mul(f32x4.mul(p, splat(2)), power);
  return v128.bitselect(splat(Infinity), y, f32x4.gt(x, splat(88.7228)));
}

/** exp(x) of one number, with the bits of `exp4`. */
// @ts-ignore: decorator
@inline
export function exp1(x: f32): f32 {
  return f32x4.extract_lane(exp4(splat(x)), 0);
}

/** log(x) through 2 atanh(f / (2 + f)) on [sqrt(1/2), sqrt(2)]. */
// @ts-ignore: decorator
@inline
export function log4(x: v128): v128 {
  const big = f32x4.gt(v128.or(v128.and(x, i32x4.splat(0x007fffff)), i32x4.splat(0x3f800000)), splat(1.41421356));
  const raw = v128.or(v128.and(x, i32x4.splat(0x007fffff)), i32x4.splat(0x3f800000));
  const m = v128.bitselect(f32x4.mul(raw, splat(0.5)), raw, big);
  const exponent = i32x4.sub(i32x4.sub(i32x4.shr_u(x, 23), i32x4.splat(127)), big);
  const e = f32x4.convert_i32x4_s(exponent);
  const f = f32x4.sub(m, splat(1));
  const s = f32x4.div(f, f32x4.add(f, splat(2)));
  const z = f32x4.mul(s, s);
  let p = splat(0.22222222);
  p = f32x4.add(f32x4.mul(p, z), splat(0.2857143));
  p = f32x4.add(f32x4.mul(p, z), splat(0.4));
  p = f32x4.add(f32x4.mul(p, z), splat(0.6666667));
  p = f32x4.add(f32x4.mul(p, z), splat(2));
  let y = f32x4.add(f32x4.mul(e, splat(0.693359375)), f32x4.add(f32x4.mul(e, splat(-2.12194440e-4)), f32x4.mul(p, s)));
  y = v128.bitselect(splat(-Infinity), y, f32x4.eq(x, splat(0)));
  y = v128.bitselect(x, y, f32x4.eq(x, splat(Infinity)));
  const isNumber = f32x4.ge(x, splat(0));
  return v128.bitselect(y, splat(NaN), isNumber);
}

/** log(1 + u) for u >= 0, exact for small u too (Kahan). */
// @ts-ignore: decorator
@inline
function log1p4(u: v128): v128 {
  const w = f32x4.add(u, splat(1));
  const d = f32x4.sub(w, splat(1));
  const y = f32x4.mul(log4(w), f32x4.div(u, d));
  return v128.bitselect(u, y, f32x4.eq(d, splat(0)));
}

/** 1 / (1 + exp(-x)). */
// @ts-ignore: decorator
@inline
export function sigmoid4(x: v128): v128 {
  return f32x4.div(splat(1), f32x4.add(splat(1), exp4(f32x4.neg(x))));
}

/** x / (1 + exp(-x)). */
// @ts-ignore: decorator
@inline
export function silu4(x: v128): v128 {
  return f32x4.div(x, f32x4.add(splat(1), exp4(f32x4.neg(x))));
}

/** log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)), which does not overflow. */
// @ts-ignore: decorator
@inline
export function softplus4(x: v128): v128 {
  return f32x4.add(f32x4.max(x, splat(0)), log1p4(exp4(f32x4.neg(f32x4.abs(x)))));
}

/** tanh(x): a Taylor series below 1/4, where 1 - 2 / (exp(2x) + 1) would lose digits. */
// @ts-ignore: decorator
@inline
export function tanh4(x: v128): v128 {
  const a = f32x4.abs(x);
  const far = f32x4.sub(splat(1), f32x4.div(splat(2), f32x4.add(exp4(f32x4.add(a, a)), splat(1))));
  const signed = v128.or(far, v128.and(x, i32x4.splat(0x80000000)));
  const z = f32x4.mul(x, x);
  let p = splat(0.021869488);
  p = f32x4.add(f32x4.mul(p, z), splat(-0.053968254));
  p = f32x4.add(f32x4.mul(p, z), splat(0.13333334));
  p = f32x4.add(f32x4.mul(p, z), splat(-0.33333334));
  const near = f32x4.add(x, f32x4.mul(x, f32x4.mul(p, z)));
  return v128.bitselect(near, signed, f32x4.lt(a, splat(0.25)));
}

/** The error function: its series near 0, else Abramowitz & Stegun 7.1.26. */
// @ts-ignore: decorator
@inline
export function erf4(x: v128): v128 {
  const a = f32x4.abs(x);
  const t = f32x4.div(splat(1), f32x4.add(splat(1), f32x4.mul(a, splat(0.3275911))));
  let p = splat(1.061405429);
  p = f32x4.add(f32x4.mul(p, t), splat(-1.453152027));
  p = f32x4.add(f32x4.mul(p, t), splat(1.421413741));
  p = f32x4.add(f32x4.mul(p, t), splat(-0.284496736));
  p = f32x4.add(f32x4.mul(p, t), splat(0.254829592));
  p = f32x4.mul(f32x4.mul(p, t), exp4(f32x4.neg(f32x4.mul(x, x))));
  const far = v128.or(f32x4.sub(splat(1), p), v128.and(x, i32x4.splat(0x80000000)));
  const z = f32x4.mul(x, x);
  let s = splat(-0.00085485485);
  s = f32x4.add(f32x4.mul(s, z), splat(0.0052239776));
  s = f32x4.add(f32x4.mul(s, z), splat(-0.026866171));
  s = f32x4.add(f32x4.mul(s, z), splat(0.11283792));
  s = f32x4.add(f32x4.mul(s, z), splat(-0.37612638));
  s = f32x4.add(f32x4.mul(s, z), splat(1.1283792));
  return v128.bitselect(f32x4.mul(s, x), far, f32x4.lt(a, splat(0.5)));
}

/** bfloat16 bits of a float32, rounded to nearest, ties to even. */
// @ts-ignore: decorator
@inline
export function toBfloat16(x: f32): u16 {
  const bits = reinterpret<u32>(x);
  if (x != x) return <u16>((bits >> 16) | 0x40);
  return <u16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/** The float32 of float16 bits. */
export function fromFloat16(half: u32): f32 {
  const sign = (half & 0x8000) << 16;
  const magnitude = half & 0x7fff;
  if (magnitude >= 0x7c00) return reinterpret<f32>(sign | 0x7f800000 | ((magnitude & 0x3ff) << 13));
  // The exponent's bias differs by 112; multiplying makes subnormal halves normal.
  return reinterpret<f32>(sign | reinterpret<u32>(reinterpret<f32>(magnitude << 13) * reinterpret<f32>(0x77800000)));
}

/** float16 bits of a float32, rounded to nearest, ties to even. */
export function toFloat16(x: f32): u16 {
  const bits = reinterpret<u32>(x);
  const sign = (bits >> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return <u16>(sign | 0x7e00);
  if (magnitude >= 0x47800000) return <u16>(sign | 0x7c00);
  if (magnitude < 0x38800000) {
    // Subnormal: adding 0.5 shifts the bits into place, rounded.
    const shifted = reinterpret<u32>(reinterpret<f32>(magnitude) + <f32>0.5) - 0x3f000000;
    return <u16>(sign | shifted);
  }
  const rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return <u16>(sign | ((rounded - 0x38000000) >> 13));
}
