/**
 * The block formats of GGUF tensors (ggml-common.h of llama.cpp). A row consists of blocks, each with its own scales; all is
 * little-endian, and f16 is a float16.
 *
 *     Q8_0   32 values   d f16, q int8 x 32                                            d q
 *     Q4_0   32          d f16, 16 bytes: the low halves are values 0-15, the high 16-31   d (q - 8)
 *     Q4_1   32          d, m f16, as Q4_0                                             d q + m
 *     Q5_0, Q5_1         the same with a fifth bit of each value in a uint32 before the bytes
 *     Q4_K   256         d, m f16, 8 scales and 8 minima in 6 bits, 128 bytes           d s q - m t, 32 values a scale
 *     Q5_K   256         the same with 32 bytes of fifth bits
 *     Q6_K   256         128 bytes of 4 bits, 64 of 2 bits, 16 scales int8, d f16      d s (q - 32), 16 values a scale
 */
import { CheckpointError } from '../errors.js';
import { bfloat16ToFloat32, float16ToFloat32 } from '../graph/index.js';
import type { QuantizedBlocks } from './quantize.js';

interface Format {
  /** Values in a block, and the size of a block in bytes. */
  readonly values: number;
  readonly bytes: number;
  /** Writes the values of the block at `at` to `out` from `to` on. */
  readonly widen: (block: DataView, at: number, out: Float32Array, to: number) => void;
}

function half(view: DataView, at: number): number {
  const bits = view.getUint16(at, true);
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size =
    exponent === 0
      ? fraction * 2 ** -24
      : exponent === 31
        ? fraction === 0
          ? Number.POSITIVE_INFINITY
          : Number.NaN
        : (1024 + fraction) * 2 ** (exponent - 25);
  return bits & 0x8000 ? -size : size;
}

/** A decoder of 32 values of 4 bits at offset `codes`, with a fifth bit of each at offset `high` if that is given. */
function nibbles(value: (code: number) => number, codes: number, high?: number) {
  return (view: DataView, at: number, out: Float32Array, to: number): void => {
    const fifth = high === undefined ? 0 : view.getUint32(at + high, true);
    for (let i = 0; i < 16; i++) {
      const byte = view.getUint8(at + codes + i);
      out[to + i] = value((byte & 15) | (((fifth >>> i) & 1) << 4));
      out[to + 16 + i] = value((byte >> 4) | (((fifth >>> (i + 16)) & 1) << 4));
    }
  };
}

/** The 6-bit scale and minimum of group `i` (32 values) of a K block, whose 12 bytes of scales are at `at`. */
function scaleAndMinimum(view: DataView, at: number, i: number): [number, number] {
  const byte = (j: number): number => view.getUint8(at + j);
  if (i < 4) return [byte(i) & 63, byte(i + 4) & 63];
  return [(byte(i + 4) & 15) | ((byte(i - 4) >> 6) << 4), (byte(i + 4) >> 4) | ((byte(i) >> 6) << 4)];
}

function kBlocks(codes: number, high?: number) {
  return (view: DataView, at: number, out: Float32Array, to: number): void => {
    const [d, m] = [half(view, at), half(view, at + 2)];
    for (let i = 0; i < 8; i++) {
      const [scale, minimum] = scaleAndMinimum(view, at + 4, i);
      const [factor, offset] = [Math.fround(d * scale), Math.fround(m * minimum)];
      for (let j = 0; j < 32; j++) {
        const byte = view.getUint8(at + codes + (i >> 1) * 32 + j);
        const fifth = high === undefined ? 0 : (view.getUint8(at + high + j) >> i) & 1;
        const code = (i & 1 ? byte >> 4 : byte & 15) | (fifth << 4);
        out[to + i * 32 + j] = Math.fround(factor * code) - offset;
      }
    }
  };
}

const FORMATS: Readonly<Record<string, Format>> = {
  Q8_0: {
    values: 32,
    bytes: 34,
    widen(view, at, out, to) {
      const d = half(view, at);
      for (let i = 0; i < 32; i++) out[to + i] = d * view.getInt8(at + 2 + i);
    },
  },
  Q4_0: {
    values: 32,
    bytes: 18,
    widen(view, at, out, to) {
      const d = half(view, at);
      nibbles((code) => d * (code - 8), 2)(view, at, out, to);
    },
  },
  Q4_1: {
    values: 32,
    bytes: 20,
    widen(view, at, out, to) {
      const [d, m] = [half(view, at), half(view, at + 2)];
      nibbles((code) => d * code + m, 4)(view, at, out, to);
    },
  },
  Q5_0: {
    values: 32,
    bytes: 22,
    widen(view, at, out, to) {
      const d = half(view, at);
      nibbles((code) => d * (code - 16), 6, 2)(view, at, out, to);
    },
  },
  Q5_1: {
    values: 32,
    bytes: 24,
    widen(view, at, out, to) {
      const [d, m] = [half(view, at), half(view, at + 2)];
      nibbles((code) => d * code + m, 8, 4)(view, at, out, to);
    },
  },
  Q4_K: { values: 256, bytes: 144, widen: kBlocks(16) },
  Q5_K: { values: 256, bytes: 176, widen: kBlocks(48, 16) },
  Q6_K: {
    values: 256,
    bytes: 210,
    widen(view, at, out, to) {
      const d = half(view, at + 208);
      for (let i = 0; i < 256; i++) {
        // A block has two parts of 128 values; in each, four runs of 32 share bytes of low and of high bits.
        const [part, run, j] = [i >> 7, (i >> 5) & 3, i & 31];
        const low = view.getUint8(at + part * 64 + (run & 1) * 32 + j);
        const bits = (view.getUint8(at + 128 + part * 32 + j) >> (2 * run)) & 3;
        const code = (run < 2 ? low & 15 : low >> 4) | (bits << 4);
        out[to + i] = Math.fround(d * view.getInt8(at + 192 + (i >> 4))) * (code - 32);
      }
    },
  },
};

/** Unquantized formats, and the bytes of a number. */
const PLAIN: Readonly<Record<string, number>> = { F32: 4, F16: 2, BF16: 2 };

/** Whether a format is a block format. */
export function isBlocks(type: string): boolean {
  return Object.hasOwn(FORMATS, type);
}

/** Size of a row in bytes. Throws `CheckpointError`, which names the tensor, for an unknown format, or if `columns` is no multiple of its block. */
export function ggufRowBytes(type: string, columns: number, tensor: string): number {
  const plain = PLAIN[type];
  if (plain) return plain * columns;
  const format = FORMATS[type];
  if (!format) {
    throw new CheckpointError(
      `${tensor} is in ${type}, which is not read: take the model in one of ${Object.keys({ ...PLAIN, ...FORMATS }).join(', ')}, such as a file called Q4_K_M or Q8_0`,
    );
  }
  if (columns % format.values !== 0) {
    throw new CheckpointError(
      `${tensor} has rows of ${columns} values, which blocks of ${format.values} (${type}) do not fill: the file is damaged`,
    );
  }
  return (columns / format.values) * format.bytes;
}

/** Dequantizes rows to float32. */
export function widenGguf(type: string, bytes: Uint8Array<ArrayBuffer>): Float32Array {
  const { buffer, byteOffset, byteLength } = bytes;
  if (type === 'F32') return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
  if (type === 'F16' || type === 'BF16') {
    const halves = new Uint16Array(buffer.slice(byteOffset, byteOffset + byteLength));
    return type === 'F16' ? float16ToFloat32(halves) : bfloat16ToFloat32(halves);
  }
  const format = FORMATS[type]!;
  const count = byteLength / format.bytes;
  const values = new Float32Array(count * format.values);
  const view = new DataView(buffer, byteOffset, byteLength);
  for (let i = 0; i < count; i++) format.widen(view, i * format.bytes, values, i * format.values);
  return values;
}

/** The block size of the formats that stay quantized. */
export const GGUF_BLOCK = 32;

/** Bits of the formats that stay quantized: their blocks have the same codes and scales as ours, in another order. */
export const GGUF_PACKED: Readonly<Record<string, 4 | 8>> = { Q4_0: 4, Q8_0: 8 };

/** Converts the blocks to `QuantizedBlocks`: 4-bit codes are reordered, and 128 is added to 8-bit codes. */
export function repackGguf(type: string, bytes: Uint8Array<ArrayBuffer>): QuantizedBlocks {
  const bits = GGUF_PACKED[type]!;
  const size = FORMATS[type]!.bytes;
  const count = bytes.byteLength / size;
  const codes = new Uint8Array((count * GGUF_BLOCK * bits) / 8);
  const scales = new Float32Array(count);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let block = 0; block < count; block++) {
    scales[block] = half(view, block * size);
    const from = block * size + 2;
    if (bits === 8) {
      for (let i = 0; i < 32; i++) codes[block * 32 + i] = bytes[from + i]! ^ 0x80;
      continue;
    }
    for (let i = 0; i < 16; i += 2) {
      const [a, b] = [bytes[from + i]!, bytes[from + i + 1]!];
      codes[block * 16 + i / 2] = (a & 15) | ((b & 15) << 4);
      codes[block * 16 + 8 + i / 2] = (a >> 4) | (b & 0xf0);
    }
  }
  return { codes, scales };
}
