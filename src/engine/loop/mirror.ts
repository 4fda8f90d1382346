/**
 * What grows lies in JavaScript's memory, where memories share it. A GPU would have all of it brought for each run; so each run
 * also leaves there what the next one will see.
 */
import {
  and,
  type Dim,
  dimension,
  gather,
  input,
  inputName,
  iota,
  less,
  lessOrEqual,
  reshape,
  subtract,
  type Tensor,
  topologicalOrder,
  transpose,
  where,
} from '../../graph/index.js';
import type { Carry } from './device.js';

/** The name of an input: how many entries the memory holds, int64 []. */
export const MEMORY_LENGTH = 'memory/length';

/** By name, what each appended value of a program is after a run, room and all: as far as the program looks at it. */
export function mirrorsOf(
  values: Readonly<Record<string, Tensor>>,
  carried: Readonly<Record<string, Carry>>,
): Map<string, Tensor> {
  const entries = input(MEMORY_LENGTH, 'int64', []);
  const tensors = topologicalOrder(Object.values(values)).map(({ outputs }) => outputs[0]!);
  const mirrors = new Map<string, Tensor>();
  for (const tensor of tensors) {
    const name = inputName(tensor);
    const carry = name === undefined ? undefined : carried[name];
    if (carry?.kind === 'append') mirrors.set(name!, inserted(tensor, carry.rows, carry.axis, entries));
  }
  return mirrors;
}

/** `buffer` with `rows` from `entries` on along `axis`, where there is room for them. */
function inserted(buffer: Tensor, rows: Tensor, axis: number, entries: Tensor): Tensor {
  const room = buffer.shape[axis]!;
  const count = rows.shape[axis]!;
  const place = subtract(iota(room), entries);
  const isNew = and(lessOrEqual(0, place), less(place, dimension(count)));
  const rest = buffer.shape.map((_, i) => i).filter((i) => i !== axis);
  const front = [axis, ...rest];
  const back = front.map((_, i) => front.indexOf(i));
  const spread = gather(transpose(rows, front), where(isNew, place, 0));
  const along = buffer.shape.map((_, i): Dim => (i === axis ? room : 1));
  return where(reshape(isNew, along), transpose(spread, back), buffer);
}
