/**
 * Quantized matrices in the layouts of other libraries. In all of them, value = (code - zero) * scale, with a scale and a zero for each
 * row and each group of columns. They differ in how the codes are packed into 32-bit words, 32 / bits codes in each:
 *
 *     compressed-tensors  words [rows, columns / n]     along a row; zeros [rows / n, groups], without them the middle
 *     GPTQ                words [columns / n, rows]     down a column of the transposed matrix; zeros [groups, rows / n], less 1
 *     AWQ                 words [columns, rows / n]     along the rows, in the order 0 2 4 6 1 3 5 7; zeros [groups, rows / n] likewise
 */
import { CheckpointError } from '../errors.js';
import { type QuantizedBlocks, quantizeBlocks } from './quantize.js';

/** A matrix [rows, columns] of integers, with a scale [rows, groups] for each row and each group of columns. */
export interface GroupedIntegers {
  readonly rows: number;
  readonly columns: number;
  /** code - zero, [rows, columns]. */
  readonly codes: Int16Array;
  /** [rows, groups] */
  readonly scales: Float32Array;
  readonly groups: number;
  /** The group of each column; without it, groups are equal parts of a row. */
  readonly groupOf?: ArrayLike<number> | undefined;
}

/** Code `index`, of `bits` bits, of the words from `start` on; the first code of a word is in its lowest bits. */
export function codeAt(words: Int32Array, start: number, index: number, bits: number): number {
  const each = 32 / bits;
  return (words[start + Math.floor(index / each)]! >>> (bits * (index % each))) & (2 ** bits - 1);
}

/** The position within a word of the code of each of eight rows in AWQ. */
const AWQ_PLACES = [0, 4, 1, 5, 2, 6, 3, 7];

/** 4-bit code `index` of the words from `start` on, in the order of AWQ. */
export function awqCodeAt(words: Int32Array, start: number, index: number): number {
  return (words[start + (index >> 3)]! >>> (4 * AWQ_PLACES[index & 7]!)) & 15;
}

function groupIn({ columns, groups, groupOf }: GroupedIntegers): (column: number) => number {
  if (groupOf) return (column) => groupOf[column]!;
  const size = Math.ceil(columns / groups);
  return (column) => Math.floor(column / size);
}

/** Dequantizes to float32 [rows, columns]. */
export function widenGrouped(integers: GroupedIntegers): Float32Array {
  const { rows, columns, codes, scales, groups } = integers;
  const group = Int32Array.from({ length: columns }, (_, column) => groupIn(integers)(column));
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const at = row * columns + column;
      values[at] = codes[at]! * scales[row * groups + group[column]!]!;
    }
  }
  return values;
}

/** The block sizes that the kernels support. */
const BLOCKS = [128, 64, 32] as const;

/** A matrix [rows, columns] in codes of 4 or 8 bits, with one scale for each `block` columns of a row. */
export type PackedMatrix = QuantizedBlocks & { readonly bits: 4 | 8; readonly block: number };

/**
 * Repacks into blocks of 4 bits, or of 8 if code - zero does not fit into 4. The result is exact if the groups consist of whole blocks;
 * otherwise it is rounded to 8 bits in blocks of 32.
 */
export function packGrouped(integers: GroupedIntegers): PackedMatrix {
  const { rows, columns, codes, scales, groups } = integers;
  const size = Math.ceil(columns / groups);
  const group = groupIn(integers);
  const inOrder = Array.from({ length: columns }, (_, column) => group(column)).every(
    (found, column) => found === Math.floor(column / size),
  );
  const block = BLOCKS.find((candidate) => size % candidate === 0 && columns % candidate === 0);
  let [least, most] = [0, 0];
  for (const code of codes) {
    if (code < least) least = code;
    if (code > most) most = code;
  }
  if (!inOrder || !block || least < -128 || most > 127) {
    return { bits: 8, block: 32, ...quantizeBlocks(widenGrouped(integers), columns, 8, 32) };
  }
  const bits = least >= -8 && most <= 7 ? 4 : 8;
  const half = 2 ** (bits - 1);
  const packed = new Uint8Array((codes.length * bits) / 8);
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i]! + half;
    if (bits === 8) packed[i] = code;
    else packed[i >> 1]! |= i & 1 ? code << 4 : code;
  }
  const blocks = columns / block;
  const own = Float32Array.from({ length: rows * blocks }, (_, i) => {
    const row = Math.floor(i / blocks);
    return scales[row * groups + Math.floor(((i % blocks) * block) / size)]!;
  });
  return { bits, block, codes: packed, scales: own };
}

/** Stacks matrices with the same number of columns, exactly: with the smallest of their block sizes and the largest of their bits. */
export function joinPacked(parts: readonly PackedMatrix[]): PackedMatrix {
  const bits = parts.some((part) => part.bits === 8) ? 8 : 4;
  const block = parts.reduce((least, part) => (part.block < least ? part.block : least), parts[0]!.block);
  const codes = new Uint8Array(parts.reduce((sum, part) => sum + (part.codes.length * bits) / part.bits, 0));
  const scales = new Float32Array(
    parts.reduce((sum, part) => sum + (part.scales.length * part.block) / block, 0),
  );
  let [code, scale] = [0, 0];
  for (const part of parts) {
    const wide = part.bits === bits ? part.codes : widerCodes(part.codes);
    codes.set(wide, code);
    code += wide.length;
    const repeats = part.block / block;
    for (let i = 0; i < part.scales.length * repeats; i++) {
      scales[scale++] = part.scales[Math.floor(i / repeats)]!;
    }
  }
  return { bits, block, codes, scales };
}

/** Widens 4-bit codes to 8 bits. */
function widerCodes(codes: Uint8Array): Uint8Array {
  return Uint8Array.from(
    { length: 2 * codes.length },
    (_, i) => (i & 1 ? codes[i >> 1]! >> 4 : codes[i >> 1]! & 15) - 8 + 128,
  );
}

/** Throws `CheckpointError`, which names the tensor, unless a stored tensor has this shape. */
export function expectShape(
  { path, shape }: { readonly path: string; readonly shape: readonly number[] },
  name: string,
  expected: readonly number[],
): void {
  if (shape.join() === expected.join()) return;
  throw new CheckpointError(
    `${path}: the tensor ${name} is [${shape}], but the tensors beside it make it [${expected}]`,
  );
}
