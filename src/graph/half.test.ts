import { describe, expect, test } from 'vitest';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from './half.js';

const everyPattern = Uint16Array.from({ length: 65_536 }, (_, pattern) => pattern);

/** The number that a pattern stands for, straight from the definition of the format, in float64. */
function meaning(pattern: number, exponentBits: number): number {
  const mantissaBits = 15 - exponentBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = pattern & 0x8000 ? -1 : 1;
  const exponent = (pattern & 0x7fff) >> mantissaBits;
  const fraction = (pattern & (2 ** mantissaBits - 1)) / 2 ** mantissaBits;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

/** The float32 one step further from zero (+1) or nearer to it (-1). */
function neighbour(value: number, step: 1 | -1): number {
  const values = Float32Array.of(value);
  new Uint32Array(values.buffer)[0]! += step;
  return values[0]!;
}

/** Float32s from their bit patterns, so that a NaN keeps its payload. */
const fromWords = (...words: number[]) => new Float32Array(Uint32Array.from(words).buffer);

describe.each([
  { format: 'float16', exponentBits: 5, infinity: 0x7c00, widen: float16ToFloat32, narrow: float32ToFloat16 },
  {
    format: 'bfloat16',
    exponentBits: 8,
    infinity: 0x7f80,
    widen: bfloat16ToFloat32,
    narrow: float32ToBfloat16,
  },
])('$format', ({ exponentBits, infinity, widen, narrow }) => {
  test('widening gives what every one of the 65,536 patterns means', () => {
    const values = widen(everyPattern);
    const wrong = everyPattern.filter(
      (pattern) => !Object.is(values[pattern], meaning(pattern, exponentBits)),
    );
    expect([...wrong]).toEqual([]);
  });

  test('narrowing undoes widening for every pattern, NaN payloads and signed zeros included', () => {
    const back = narrow(widen(everyPattern));
    expect([...everyPattern.filter((pattern) => back[pattern] !== pattern)]).toEqual([]);
  });

  test('between any two neighbours a tie goes to the even one, and a float32 step off the tie decides it', () => {
    for (const sign of [0, 0x8000]) {
      const inputs: number[] = [];
      const expected: number[] = [];
      for (let lower = sign; lower < sign + infinity; lower++) {
        const from = meaning(lower, exponentBits);
        const upper = lower + 1;
        // The largest finite value is followed by a step of the same size, where infinity begins.
        const gap =
          upper === sign + infinity
            ? from - meaning(lower - 1, exponentBits)
            : meaning(upper, exponentBits) - from;
        const tie = from + gap / 2;
        inputs.push(neighbour(tie, -1), tie, neighbour(tie, 1));
        expected.push(lower, lower % 2 === 0 ? lower : upper, upper);
      }
      expect(inputs.filter((input) => Math.fround(input) !== input)).toEqual([]);
      const bits = narrow(Float32Array.from(inputs));
      expect(inputs.filter((_, i) => bits[i] !== expected[i])).toEqual([]);
    }
  });

  test('what is too large or too small becomes infinity or zero, with its sign', () => {
    const largest = 3.4028234663852886e38;
    const smallest = 2 ** -149;
    expect([...narrow(Float32Array.of(Infinity, -Infinity, largest, -largest))]).toEqual([
      infinity,
      infinity | 0x8000,
      infinity,
      infinity | 0x8000,
    ]);
    expect([...narrow(Float32Array.of(0, -0, smallest, -smallest))]).toEqual([0, 0x8000, 0, 0x8000]);
  });

  test('a NaN whose payload lies in the dropped bits stays a NaN', () => {
    for (const pattern of narrow(fromWords(0x7f800001, 0xff800001, 0x7fc00000))) {
      expect(pattern & 0x7fff).toBeGreaterThan(infinity);
    }
  });

  test('converts into a part of a larger array, and refuses one of another length', () => {
    const values = new Float32Array(4);
    widen(narrow(Float32Array.of(1, -2)), values.subarray(1, 3));
    expect([...values]).toEqual([0, 1, -2, 0]);
    expect(() => widen(new Uint16Array(2), new Float32Array(3))).toThrow(RangeError);
    expect(() => narrow(new Float32Array(2), new Uint16Array(1))).toThrow(RangeError);
  });
});
