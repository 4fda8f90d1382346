/** Matrix products over the last two axes, with broadcasting of leading axes. */
import type { StableHloBuilder, StableHloLowering } from './builder.js';
import { count, type Element, type Packed, type Plain, type Value } from './value.js';

interface MatmulAttributes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly wide?: boolean;
}

/** Lowers a matrix product: in float32 if it is `wide`, otherwise in the builder's precision. */
export const hloMatmul: StableHloLowering<MatmulAttributes> = (builder, [a, b], { attributes }) => {
  const special = halvesProduct(builder, a!, b!, attributes) ?? rowProduct(builder, a!, b!, attributes);
  if (special) return [special];
  const of = (x: typeof a): Plain => (attributes.wide ? builder.wide(x!) : builder.narrow(x!));
  return [matmul(builder, of(a), of(b), attributes)];
};

/** A product of operands of one type, which the result has, too. */
export function matmul(
  builder: StableHloBuilder,
  a: Plain,
  b: Plain,
  { transposeA = false, transposeB = false, wide = false }: Partial<MatmulAttributes> = {},
): Plain {
  const rank = Math.max(a.dims.length, b.dims.length);
  const lead = rank - 2;
  // A leading axis is a batch axis if both operands have it, and free if the other has size 1 or none.
  const sizeOf = (x: Plain, axis: number): number => x.dims[x.dims.length - rank + axis] ?? 1;
  const axisOf = (x: Plain, axis: number): number | undefined => {
    const own = x.dims.length - rank + axis;
    return own < 0 || x.dims[own] === 1 ? undefined : own;
  };
  const dims = Array.from({ length: lead }, (_, axis) =>
    sizeOf(a, axis) === 1 ? sizeOf(b, axis) : sizeOf(a, axis),
  );
  // Axes of size 1 are removed first, so that every other leading axis is a batch axis or belongs to one operand.
  const [x, y] = [a, b].map((operand) => {
    const rows = operand.dims.slice(0, -2).filter((size) => size !== 1);
    return builder.reshape(operand, [...rows, ...operand.dims.slice(-2)]);
  }) as [Plain, Plain];
  const squeezed = (operand: Plain, axis: number): number | undefined => {
    const own = axisOf(operand, axis);
    return own === undefined ? undefined : operand.dims.slice(0, own).filter((size) => size !== 1).length;
  };
  const axes = Array.from({ length: lead }, (_, axis) => [squeezed(a, axis), squeezed(b, axis)] as const);
  const batch = axes.flatMap(([i, j]) => (i !== undefined && j !== undefined ? [[i, j] as const] : []));
  const [xLead, yLead] = [x.dims.length - 2, y.dims.length - 2];
  const contract = [[xLead + (transposeA ? 0 : 1), yLead + (transposeB ? 1 : 0)] as const];
  const product = builder.dot(x, y, { batch, contract }, a.element, wide || builder.precision === 'float32');
  // The axes of the result: batch axes, a's own axes and rows, b's own axes and columns.
  const pairs = axes.flatMap(([i, j], axis) => (i !== undefined && j !== undefined ? [axis] : []));
  const ownA = axes.flatMap(([i, j], axis) => (i !== undefined && j === undefined ? [axis] : []));
  const ownB = axes.flatMap(([i, j], axis) => (i === undefined && j !== undefined ? [axis] : []));
  const made = [...pairs, ...ownA, 'rows', ...ownB, 'columns'];
  const wanted = [...pairs, ...ownA, ...ownB].sort((m, n) => m - n);
  const order = [...wanted, 'rows', 'columns'].map((axis) => made.indexOf(axis));
  const [rows, columns] = [x.dims[xLead + (transposeA ? 1 : 0)]!, y.dims[yLead + (transposeB ? 0 : 1)]!];
  return builder.reshape(builder.transpose(product, order), [...dims, rows, columns]);
}

/**
 * x W^T for one row of x, as a sum over products: XLA compiles it to one reduction that reads W once, with the conversions and additions around
 * it. A `dot_general` of one row becomes a matrix kernel, often one that splits the columns and needs a second kernel for their sums.
 * Undefined for other operands.
 */
function rowProduct(
  builder: StableHloBuilder,
  a: Value,
  b: Value,
  { transposeA, transposeB, wide }: MatmulAttributes,
): Plain | undefined {
  if (a.kind !== 'plain' || b.kind !== 'plain' || transposeA || !transposeB || wide) return undefined;
  const lead = a.dims.slice(0, -1);
  if (b.dims.length !== 2 || count(lead) !== 1) return undefined;
  const given = builder.narrow(a);
  const row = builder.reshape(builder.wide(given), [1, b.dims[1]!]);
  const products = builder.binary('multiply', builder.wide(builder.narrow(b)), row);
  return builder.as(
    builder.reshape(builder.reduce('add', products, [1]), [...lead, b.dims[0]!]),
    given.element,
  );
}

/** The most rows of x for which products with 4-bit matrices are split into even and odd columns. */
const FEW_ROWS = 32;

/**
 * x W^T for few rows of x and a 4-bit W with two codes a byte: even and odd columns are multiplied separately, since interleaving them would
 * require writing the dequantized matrix to memory. Undefined for other forms.
 */
function halvesProduct(
  builder: StableHloBuilder,
  a: Value,
  b: Value,
  { transposeA, transposeB, wide }: MatmulAttributes,
): Plain | undefined {
  if (b.kind !== 'packed' || b.bits !== 4 || b.dims.length !== 2) return undefined;
  if (a.kind !== 'plain' || transposeA || !transposeB || wide) return undefined;
  const lead = a.dims.slice(0, -1);
  const given = builder.narrow(a);
  if (count(lead) > FEW_ROWS) return undefined;
  const [rows, columns] = b.dims as [number, number];
  const stored = b.codes.dims[1]!;
  const flat = builder.reshape(given, [count(lead), columns]);
  const pairs = builder.reshape(builder.pad(flat, 1, 0, 2 * stored - columns), [count(lead), stored, 2]);
  const ofX = (which: number): Plain =>
    builder.reshape(builder.slice(pairs, 2, which, which + 1), [count(lead), stored]);
  const product =
    count(lead) === 1
      ? summedHalves(builder, b, ofX)
      : builder.binary(
          'add',
          ...([0, 1].map((which) =>
            builder.dot(
              ofX(which),
              halfOf(builder, b, which, given.element),
              { batch: [], contract: [[1, 1]] },
              'f32',
            ),
          ) as [Plain, Plain]),
        );
  return builder.as(builder.reshape(product, [...lead, rows]), given.element);
}

/** f32 [rows] for one row of x: multiplies and reduces in one pass over the codes. */
function summedHalves(builder: StableHloBuilder, b: Packed, ofX: (which: number) => Plain): Plain {
  const terms = [0, 1].map((which) =>
    builder.binary('multiply', halfOf(builder, b, which, 'f32'), builder.wide(ofX(which))),
  ) as [Plain, Plain];
  return builder.reduce('add', builder.binary('add', ...terms), [1]);
}

/** [rows, bytes]: the dequantized even or odd columns. */
function halfOf(
  builder: StableHloBuilder,
  { bits, codes, scales }: Packed,
  which: number,
  element: Element,
): Plain {
  const half =
    which === 0
      ? builder.binary('and', codes, builder.splat(15, 'ui8'))
      : builder.binary('shift_right_logical', codes, builder.splat(4, 'ui8'));
  const [rows, stored] = codes.dims as [number, number];
  const blocks = scales.dims[1]!;
  const shifted = builder.binary(
    'subtract',
    builder.as(half, element),
    builder.splat(2 ** (bits - 1), element),
  );
  const byBlock = builder.reshape(shifted, [rows, blocks, stored / blocks]);
  const scale = builder.reshape(builder.as(scales, element), [rows, blocks, 1]);
  return builder.reshape(builder.binary('multiply', byBlock, scale), [rows, stored]);
}
