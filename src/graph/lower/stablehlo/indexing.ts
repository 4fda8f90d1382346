/** Gather, scatter and top-k. */
import type { StableHloBuilder } from './builder.js';
import { typeOf } from './text.js';
import { count, type Element, type Packed, type Plain, typeText, type Value } from './value.js';

/**
 * Gathers rows of a table. Rows of a parameter become activations, in their precision; of a quantized matrix only the gathered rows are
 * dequantized.
 */
export function gatherRows(builder: StableHloBuilder, table: Value, indices: Value): Plain {
  const at = builder.plain(indices);
  if (table.kind === 'plain') {
    const rows = takeRows(builder, table, at);
    return table.isWeak ? { ...builder.narrow(rows), isWeak: false } : rows;
  }
  const flat = builder.reshape(at, [count(at.dims)]);
  const columns = table.dims[1]!;
  const rows: Packed = {
    ...table,
    dims: [flat.dims[0]!, columns],
    codes: takeRows(builder, table.codes, flat),
    scales: takeRows(builder, table.scales, flat),
  };
  return { ...builder.reshape(builder.narrow(rows), [...at.dims, columns]), isWeak: false };
}

/**
 * Rows [...indices, ...row] of a table [rows, ...row]. With `batches` leading batch axes: [...batch, ...other axes of the indices, ...row] of
 * tables [...batch, rows, ...row].
 */
export function takeRows(builder: StableHloBuilder, table: Plain, indices: Plain, batches = 0): Plain {
  const row = table.dims.slice(batches + 1);
  const dims = [...indices.dims, ...row];
  const offsets = row.map((_, i) => indices.dims.length + i);
  const paired = upTo(batches).map(() => 1);
  return taken(builder, table, indices, {
    dims,
    sizes: [...paired, 1, ...row],
    numbers: `offset_dims = [${offsets.join(', ')}], collapsed_slice_dims = [${batches}], ${pairedAxes('gather', upTo(batches))}start_index_map = [${batches}]`,
  });
}

/** y[..., i, ...] = x[..., indices[..., i, ...], ...] */
export function gatherElements(builder: StableHloBuilder, value: Value, indices: Value, axis: number): Plain {
  const x = builder.plain(value);
  const at = builder.plain(indices);
  const others = upTo(at.dims.length).filter((each) => each !== axis);
  return taken(builder, x, at, {
    dims: at.dims,
    sizes: x.dims.map(() => 1),
    numbers: `collapsed_slice_dims = [${axis}], ${pairedAxes('gather', others)}start_index_map = [${axis}]`,
  });
}

/**
 * The dimension numbers of a gather or scatter that pair batch axes of the operand with those of the indices. Such axes can be sharded.
 */
function pairedAxes(what: 'gather' | 'scatter', axes: readonly number[]): string {
  if (axes.length === 0) return '';
  const [own, theirs] =
    what === 'gather'
      ? ['operand_batching_dims', 'start_indices_batching_dims']
      : ['input_batching_dims', 'scatter_indices_batching_dims'];
  return `${own} = [${axes.join(', ')}], ${theirs} = [${axes.join(', ')}], `;
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** A gather of slices of these sizes, by scalar indices. */
function taken(
  builder: StableHloBuilder,
  x: Plain,
  indices: Plain,
  { dims, sizes, numbers }: { dims: readonly number[]; sizes: readonly number[]; numbers: string },
): Plain {
  const all = `#stablehlo.gather<${numbers}, index_vector_dim = ${indices.dims.length}>`;
  const text = `"stablehlo.gather"(${x.id}, ${indices.id}) <{dimension_numbers = ${all}, indices_are_sorted = false, slice_sizes = ${sizesText(sizes)}}>`;
  return builder.emit(
    `${text} : (${typeOf(x)}, ${typeOf(indices)}) -> ${typeText(x.element, dims)}`,
    x.element,
    dims,
    x.isWeak,
  );
}

/** x with updates added at their indices along an axis. */
export function scatterElements(builder: StableHloBuilder, operands: readonly Value[], axis: number): Plain {
  const [x, updates] = builder.alike([operands[0]!, operands[2]!]) as [Plain, Plain];
  const others = upTo(x.dims.length).filter((each) => each !== axis);
  const numbers = `inserted_window_dims = [${axis}], ${pairedAxes('scatter', others)}scatter_dims_to_operand_dims = [${axis}], index_vector_dim = ${x.dims.length}`;
  return scatterAdd(builder, x, builder.plain(operands[1]!), updates, numbers);
}

/** Tables of zeros [...batch, rows, ...row] to which rows [...indices, ...row] are added at their index; the inverse of `takeRows`. */
export function scatterRows(
  builder: StableHloBuilder,
  indices: Value,
  rows: Value,
  dims: readonly number[],
  batches = 0,
): Plain {
  const at = builder.plain(indices);
  const given = builder.plain(rows);
  // Many rows may be added to one, so sums are in float32.
  const updates = given.element === 'bf16' ? builder.wide(given) : given;
  const window = dims.slice(batches + 1).map((_, i) => at.dims.length + i);
  const numbers = `update_window_dims = [${window.join(', ')}], inserted_window_dims = [${batches}], ${pairedAxes('scatter', upTo(batches))}scatter_dims_to_operand_dims = [${batches}], index_vector_dim = ${at.dims.length}`;
  return scatterAdd(builder, builder.splat(0, updates.element, dims), at, updates, numbers);
}

function scatterAdd(
  builder: StableHloBuilder,
  x: Plain,
  places: Plain,
  updates: Plain,
  numbers: string,
): Plain {
  const [a, b] = [builder.argument(x.element, []), builder.argument(x.element, [])];
  const body = builder.region(() => [builder.binary('add', a, b)]);
  return builder.emit(
    `"stablehlo.scatter"(${x.id}, ${places.id}, ${updates.id}) <{indices_are_sorted = false, scatter_dimension_numbers = #stablehlo.scatter<${numbers}>, unique_indices = false}> ({\n^bb0(${a.id}: ${typeOf(a)}, ${b.id}: ${typeOf(b)}):\n${body}}) : (${[x, places, updates].map(typeOf).join(', ')}) -> ${typeOf(x)}`,
    x.element,
    x.dims,
  );
}

/** The k largest along an axis in descending order, and their indices; lower index first among equals. */
export function topK(
  builder: StableHloBuilder,
  value: Value,
  k: number,
  axis: number,
  places: Element = 'i64',
): [Plain, Plain] {
  const x = builder.plain(value);
  const index = builder.iota(x.dims, axis, 'i32');
  if (k === 1) return largest(builder, x, index, axis, places);
  const [sorted, from] = sort(builder, [x, index], axis, ([a, b]) => builder.compare('GT', a!, b!), true) as [
    Plain,
    Plain,
  ];
  return [builder.slice(sorted, axis, 0, k), builder.as(builder.slice(from, axis, 0, k), places)];
}

/** The maximum along an axis and its first index, without a sort. */
function largest(
  builder: StableHloBuilder,
  x: Plain,
  index: Plain,
  axis: number,
  places: Element,
): [Plain, Plain] {
  const kept = x.dims.map((size, i) => (i === axis ? 1 : size));
  const top = builder.reshape(builder.reduce('maximum', x, [axis]), kept);
  // The first index is the one with the largest distance from the end.
  const end = builder.splat(x.dims[axis]! - 1, 'i32');
  const distance = builder.binary('subtract', end, index);
  const isTop = builder.compare('EQ', x, top);
  const most = builder.reduce('maximum', builder.select(isTop, distance, builder.splat(0, 'i32')), [axis]);
  return [top, builder.as(builder.reshape(builder.binary('subtract', end, most), kept), places)];
}

/**
 * Sorts operands of one shape together along an axis; `comesFirst` compares two elements of each operand.
 */
export function sort(
  builder: StableHloBuilder,
  operands: readonly Plain[],
  axis: number,
  comesFirst: (pairs: readonly Plain[]) => Plain,
  isStable = false,
): Plain[] {
  const given = operands.flatMap(({ element }) => [
    builder.argument(element, []),
    builder.argument(element, []),
  ]);
  const order = builder.region(() => [comesFirst(given)]);
  const types = operands.map(typeOf).join(', ');
  return builder.emitAll(
    `"stablehlo.sort"(${operands.map(({ id }) => id).join(', ')}) <{dimension = ${axis} : i64, is_stable = ${isStable}}> ({\n^bb0(${given.map((argument) => `${argument.id}: ${typeOf(argument)}`).join(', ')}):\n${order}}) : (${types}) -> (${types})`,
    operands,
  );
}

function sizesText(sizes: readonly number[]): string {
  return `array<i64${sizes.length > 0 ? `: ${sizes.join(', ')}` : ''}>`;
}
