/**
 * Makes states the rows of one batch. Where most of them are rows of one already, the others take the rows that are left; otherwise the rows of
 * all are copied into a new batch.
 */
import { DeviceError } from '../../errors.js';
import { copyRows, joinRows, putRow, rowDims } from '../../graph/index.js';
import type { XlaDevice } from './device.js';
import { OutOfDeviceMemory, type PjrtBuffer } from './pjrt.js';
import { Batch, holdBatch, type KeptValue, nearlyOwnBatch, rowsLeftIn, type XlaState } from './state.js';

/** Makes these states the rows of a batch with this room, which is theirs alone. */
export async function gather(device: XlaDevice, states: readonly XlaState[], room: number): Promise<Batch> {
  const before = new Set(states.map(({ batch }) => batch));
  const nearly = nearlyOwnBatch(states);
  let whole: Batch;
  if (nearly && 2 * nearly.inPlace >= states.length && canPut(device, nearly.batch, room)) {
    whole = nearly.batch;
    before.delete(whole);
    const letGo = holdBatch(whole);
    try {
      await putInto(device, whole, states);
    } finally {
      letGo();
    }
  } else {
    whole = batchOf(states.length, room, await copied(device, states, room));
    for (const [i, state] of states.entries()) state.moveTo(whole, i);
  }
  for (const batch of before) await cutDown(device, batch);
  return whole;
}

function canPut(device: XlaDevice, { rows, room, values }: Batch, needed: number): boolean {
  return !device.mesh && rows > 1 && room >= needed && [...values.values()].every(({ row }) => row.isBatched);
}

/**
 * Makes these states the rows of a batch in which most of them are already. Others that hold a row get a copy of their own just before it is
 * written, without a wait in between: whenever a program is waited for, they may be forked.
 */
async function putInto(device: XlaDevice, batch: Batch, states: readonly XlaState[]): Promise<void> {
  const copy = await copier(device, batch, 1, batch.room);
  const clear = (row: number, state: XlaState): void => {
    const others = batch.holdersOf(row).filter((holder) => !(state.row === row && state.is(holder)));
    if (others.length === 0) return;
    const own = batchOf(1, batch.room, copy([row]));
    for (const holder of others) holder.moveTo(own, 0);
  };
  for (const [row, state] of states.entries()) {
    const { batch: from } = state;
    if (from === batch && state.row === row) {
      clear(row, state);
      continue;
    }
    const isAlone = from.rows === 1 && from.room <= batch.room;
    const values = isAlone ? [...from.values.values()] : await rowsOf(device, from, [state.row], batch.room);
    try {
      const put = await putter(device, batch, values);
      clear(row, state);
      put(row);
    } finally {
      if (!isAlone) for (const { buffers } of values) for (const buffer of buffers) buffer.dispose();
    }
    state.moveTo(batch, row);
  }
}

/** A function that writes a row with these values into a batch at once. */
async function putter(
  device: XlaDevice,
  batch: Batch,
  values: readonly KeptValue[],
): Promise<(row: number) => void> {
  const before = [...batch.values.values()];
  checkSameNames([before, values]);
  const { executable } = await device.helper('put', [...before, ...values], (rows) =>
    putRow(rows.slice(0, before.length), rows.slice(before.length)),
  );
  return (row) => {
    const number = device.upload(BigInt64Array.of(BigInt(row)), 'int64', [1], undefined);
    try {
      const results = device.runHelper(executable, [
        ...[...before, ...values].map(({ buffers }) => buffers),
        number,
      ]);
      for (const { buffers } of before) for (const buffer of buffers) buffer.dispose();
      batch.values = new Map(before.map((value, i) => [value.spec.name, { ...value, buffers: results[i]! }]));
    } finally {
      for (const buffer of number) buffer.dispose();
    }
  };
}

async function copied(device: XlaDevice, states: readonly XlaState[], room: number): Promise<KeptValue[]> {
  const { batch: first } = states[0]!;
  if (states.every(({ batch }) => batch === first)) {
    return rowsOf(
      device,
      first,
      states.map(({ row }) => row),
      room,
    );
  }
  const rows: KeptValue[][] = [];
  const copies: KeptValue[] = [];
  try {
    for (const { batch, row } of states) {
      if (batch.rows === 1 && batch.room === room) rows.push([...batch.values.values()]);
      else {
        const own = await rowsOf(device, batch, [row], room);
        copies.push(...own);
        rows.push(own);
      }
    }
    return await joined(device, rows, room);
  } finally {
    for (const { buffers } of copies) for (const buffer of buffers) buffer.dispose();
  }
}

/** Copies of rows of a batch, with this room. */
async function rowsOf(
  device: XlaDevice,
  batch: Batch,
  rows: readonly number[],
  room: number,
): Promise<KeptValue[]> {
  return (await copier(device, batch, rows.length, room))(rows);
}

/** A function that copies so many rows of a batch at once, with this room. */
async function copier(
  device: XlaDevice,
  batch: Batch,
  count: number,
  room: number,
): Promise<(rows: readonly number[]) => KeptValue[]> {
  const { executable } = await device.helper(`take ${count} ${room}`, [...batch.values.values()], (each) =>
    copyRows(each, count, room, device.mesh),
  );
  return (rows) => {
    const values = [...batch.values.values()];
    const numbers = device.upload(BigInt64Array.from(rows, BigInt), 'int64', [count], undefined);
    try {
      const results = device.runHelper(executable, [...values.map(({ buffers }) => buffers), numbers]);
      return values.map((value, i) => withRow(value, results[i]!, count, room));
    } finally {
      for (const buffer of numbers) buffer.dispose();
    }
  };
}

/** Frees a batch of which most rows are nobody's any more. The other rows become batches of their own, if there is room for that. */
async function cutDown(device: XlaDevice, batch: Batch): Promise<void> {
  const rows = rowsLeftIn(batch);
  if (rows.length === 0 || 2 * rows.length > batch.rows) return;
  // States may be disposed of while a program for the copies is compiled.
  const letGo = holdBatch(batch);
  try {
    for (const row of rows) {
      const own = batchOf(1, batch.room, await rowsOf(device, batch, [row], batch.room));
      const holders = batch.holdersOf(row);
      for (const holder of holders) holder.moveTo(own, 0);
      if (holders.length === 0) own.free();
    }
  } catch (error) {
    if (!(error instanceof OutOfDeviceMemory)) throw error;
  } finally {
    letGo();
  }
}

async function joined(
  device: XlaDevice,
  rows: readonly (readonly KeptValue[])[],
  room: number,
): Promise<KeptValue[]> {
  checkSameNames(rows);
  const { executable } = await device.helper(`join ${rows.length}`, rows[0]!, (values) =>
    joinRows(values, rows.length),
  );
  const results = device.runHelper(
    executable,
    rows.flatMap((row) => row.map(({ buffers }) => buffers)),
  );
  return rows[0]!.map((value, i) => withRow(value, results[i]!, rows.length, room));
}

function checkSameNames(rows: readonly (readonly KeptValue[])[]): void {
  const [first, ...others] = rows.map((row) => row.map(({ spec }) => spec.name).join());
  if (others.some((names) => names !== first))
    throw new DeviceError('states that run together must hold the same values');
}

function batchOf(rows: number, room: number, values: readonly KeptValue[]): Batch {
  return new Batch(rows, room, new Map(values.map((value) => [value.spec.name, value])));
}

function withRow(value: KeptValue, buffers: readonly PjrtBuffer[], rows: number, room: number): KeptValue {
  return { ...value, buffers, row: { ...value.row, dims: rowDims(value.row, rows, room) } };
}
