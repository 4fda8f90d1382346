/** Programs that move states between batches: copying rows, and joining rows. */
import { StableHloBuilder } from './builder.js';
import { type LoweredToHlo, type Mesh, moduleOf, type Parameter, type Result } from './lower.js';
import { type Element, type Plain, replaced } from './value.js';

/** A state's value for the rows of a batch. */
export interface RowValue {
  readonly name: string;
  readonly element: Element;
  /** With rows as axis 0 if it `isBatched`. */
  readonly dims: readonly number[];
  readonly isBatched: boolean;
  /** The growing axis. */
  readonly grows: number | undefined;
}

/** Copies rows of each value, by their indices (i64 [count], the last argument), padded or cut to this room. */
export function copyRows(
  values: readonly RowValue[],
  count: number,
  room: number,
  mesh?: Mesh,
): LoweredToHlo {
  const { builder, parameters, argument } = begin(mesh);
  const given = values.map((value) => argument(value, value.dims));
  const numbers = builder.argument('i64', [count], false, `%arg${parameters.length}`);
  parameters.push({ id: numbers.id, name: 'rows', kind: 'input', element: 'i64', dims: [count] });
  const starts = Array.from({ length: count }, (_, i) =>
    builder.reshape(builder.slice(numbers, 0, i, i + 1), []),
  );
  const results = values.map((value, i): Result => {
    const rows = value.isBatched
      ? builder.concat(
          starts.map((start) => builder.dynamicSlice(given[i]!, 0, start, 1)),
          0,
        )
      : given[i]!;
    return resultOf(value, withRoom(builder, rows, value.grows, room), parameters[i]!.axis);
  });
  return moduleOf(builder, parameters, results, new Map(), mesh);
}

/** Joins rows into a batch. The arguments are all values of the first row, then those of the second, and so on. */
export function joinRows(values: readonly RowValue[], rows: number): LoweredToHlo {
  const { builder, parameters, argument } = begin(undefined);
  const given = Array.from({ length: rows }, () => values.map((value) => argument(value, value.dims)));
  const results = values.map((value, i) => {
    const parts = given.map((row) => row[i]!);
    return resultOf(value, builder.concat(parts, 0), undefined);
  });
  return moduleOf(builder, parameters, results, new Map(), undefined);
}

/** Writes a row of each value into a batch, at an index (i64 [1], the last argument). The batch is donated; the row may have less room. */
export function putRow(values: readonly RowValue[], rows: readonly RowValue[]): LoweredToHlo {
  const { builder, parameters, argument, number } = begin(undefined);
  const given = values.map((value) => argument(value, value.dims));
  // Under names of their own, since arguments are donated by name.
  const parts = rows.map((row) => argument({ ...row, name: `${row.name}, the row` }, row.dims));
  const at = number('row');
  const results = values.map((value, i) => {
    const room = value.grows === undefined ? 0 : value.dims[value.grows]!;
    const part = withRoom(builder, parts[i]!, value.grows, room);
    return resultOf(value, builder.dynamicUpdateSlice(given[i]!, part, 0, at), undefined);
  });
  const donated = new Map(values.map(({ name }, i) => [name, i]));
  return moduleOf(builder, parameters, results, donated, undefined);
}

/**
 * Copies one row of each value, by its index (i64 [1], the last argument), cut to so many entries. The first values are put together: one
 * vector for each element type, with these values one after the other. The others are results of their own.
 */
export function packRow(values: readonly RowValue[], packed: number, entries: number): LoweredToHlo {
  const { builder, parameters, argument, number } = begin(undefined);
  const given = values.map((value) => argument(value, value.dims));
  const at = number('row');
  const vectors = new Map<Element, Plain[]>();
  const alone: Result[] = [];
  for (const [i, value] of values.entries()) {
    const row = value.isBatched ? builder.dynamicSlice(given[i]!, 0, at, 1) : given[i]!;
    const cut = withRoom(builder, row, value.grows, entries);
    if (i < packed) {
      const vector = builder.reshape(cut, [cut.dims.reduce((a, b) => a * b, 1)]);
      vectors.set(value.element, [...(vectors.get(value.element) ?? []), vector]);
    } else alone.push(resultOf(value, cut, undefined));
  }
  const put = Array.from(vectors, ([element, parts]) =>
    resultOf({ name: element, element }, builder.concat(parts, 0), undefined),
  );
  return moduleOf(builder, parameters, [...put, ...alone], new Map(), undefined);
}

/** Replicates each sharded value on every device of a mesh. */
export function wholeRows(values: readonly RowValue[], mesh: Mesh): LoweredToHlo {
  const { builder, parameters, argument } = begin(mesh);
  const results = values.map((value) => resultOf(value, argument(value, value.dims), undefined));
  return moduleOf(builder, parameters, results, new Map(), mesh);
}

function begin(mesh: Mesh | undefined) {
  const builder = new StableHloBuilder(() => 0, 'float32');
  const parameters: Parameter[] = [];
  const argument = ({ name, element }: RowValue, dims: readonly number[]): Plain => {
    const id = `%arg${parameters.length}`;
    const axis = mesh?.axisOf(name, dims);
    parameters.push({ id, name, kind: 'state', element, dims, ...(axis !== undefined && { axis }) });
    return builder.argument(element, dims, false, id);
  };
  /** An index, i64 [1]. */
  const number = (name: string): Plain => {
    const id = `%arg${parameters.length}`;
    parameters.push({ id, name, kind: 'input', element: 'i64', dims: [1] });
    return builder.reshape(builder.argument('i64', [1], false, id), []);
  };
  return { builder, parameters, argument, number };
}

function resultOf(
  { name, element }: Pick<RowValue, 'name' | 'element'>,
  value: Plain,
  axis: number | undefined,
): Result {
  return { name, kind: 'state', element, dims: value.dims, value, axis };
}

function withRoom(builder: StableHloBuilder, x: Plain, axis: number | undefined, room: number): Plain {
  if (axis === undefined) return x;
  const size = x.dims[axis]!;
  return room > size ? builder.pad(x, axis, 0, room - size) : builder.slice(x, axis, 0, room);
}

/** The dimensions of a value of a state with this many rows and this room. */
export function rowDims({ dims, isBatched, grows }: RowValue, rows: number, room: number): number[] {
  const own = isBatched ? replaced(dims, 0, rows) : [...dims];
  return grows === undefined ? own : replaced(own, grows, room);
}
