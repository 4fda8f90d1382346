/** Matrix products over the last two axes, with leading axes that broadcast. */
import type { StableHloBuilder, StableHloLowering } from './builder.js';
import type { Element, Plain } from './value.js';

interface MatmulAttributes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly wide?: boolean;
}

export const hloMatmul: StableHloLowering<MatmulAttributes> = (builder, [a, b], { attributes }) => {
  const of = (x: typeof a): Plain => (attributes.wide ? builder.wide(x!) : builder.narrow(x!));
  return [matmul(builder, of(a), of(b), attributes)];
};

/** Of operands in one type. `element` is that of the result, by default theirs. */
export function matmul(
  builder: StableHloBuilder,
  a: Plain,
  b: Plain,
  { transposeA = false, transposeB = false, wide = false }: Partial<MatmulAttributes> = {},
  element: Element = a.element,
): Plain {
  const rank = Math.max(a.dims.length, b.dims.length);
  const lead = rank - 2;
  // Leading axes: paired where both have them, free where the other has 1 or none.
  const sizeOf = (x: Plain, axis: number): number => x.dims[x.dims.length - rank + axis] ?? 1;
  const axisOf = (x: Plain, axis: number): number | undefined => {
    const own = x.dims.length - rank + axis;
    return own < 0 || x.dims[own] === 1 ? undefined : own;
  };
  const dims = Array.from({ length: lead }, (_, axis) =>
    sizeOf(a, axis) === 1 ? sizeOf(b, axis) : sizeOf(a, axis),
  );
  // Axes of size 1 go first, so that every other leading axis is a pair or one operand's own.
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
  const product = builder.dot(x, y, { batch, contract }, element, wide || builder.precision === 'float32');
  // Its axes: the pairs, a's own and rows, b's own and columns.
  const pairs = axes.flatMap(([i, j], axis) => (i !== undefined && j !== undefined ? [axis] : []));
  const ownA = axes.flatMap(([i, j], axis) => (i !== undefined && j === undefined ? [axis] : []));
  const ownB = axes.flatMap(([i, j], axis) => (i === undefined && j !== undefined ? [axis] : []));
  const made = [...pairs, ...ownA, 'rows', ...ownB, 'columns'];
  const wanted = [...pairs, ...ownA, ...ownB].sort((m, n) => m - n);
  const order = [...wanted, 'rows', 'columns'].map((axis) => made.indexOf(axis));
  const [rows, columns] = [x.dims[xLead + (transposeA ? 1 : 0)]!, y.dims[yLead + (transposeB ? 0 : 1)]!];
  return builder.reshape(builder.transpose(product, order), [...dims, rows, columns]);
}
