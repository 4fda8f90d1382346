/** Binary files of token ids, in the formats of NumPy, nanoGPT and llm.c. */
import { open } from 'node:fs/promises';
import { DataError } from '../errors.js';
import { roomForIds } from './id-array.js';

/** Token ids are int32 in memory. */
export const HIGHEST_ID = 2 ** 31 - 1;

/** Bytes per read, a multiple of all number sizes. */
const CHUNK = 2 ** 22;

interface NumberForm {
  readonly bytes: number;
  readonly at: (view: DataView, place: number) => number | bigint;
}

const NUMBERS: Readonly<Record<string, NumberForm>> = {
  u1: { bytes: 1, at: (view, place) => view.getUint8(place) },
  i1: { bytes: 1, at: (view, place) => view.getInt8(place) },
  u2: { bytes: 2, at: (view, place) => view.getUint16(place, true) },
  i2: { bytes: 2, at: (view, place) => view.getInt16(place, true) },
  u4: { bytes: 4, at: (view, place) => view.getUint32(place, true) },
  i4: { bytes: 4, at: (view, place) => view.getInt32(place, true) },
  u8: { bytes: 8, at: (view, place) => view.getBigUint64(place, true) },
  i8: { bytes: 8, at: (view, place) => view.getBigInt64(place, true) },
};

/** Reads the bytes of a file from an offset on as ids. Throws `DataError` for numbers that are not ids. */
async function readFrom(path: string, start: number, { bytes, at }: NumberForm): Promise<Int32Array> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    if ((size - start) % bytes !== 0)
      throw new DataError(
        `${path} has ${size - start} bytes of ids, which is no whole number of them at ${bytes} bytes each: it was cut off, or its numbers have another size`,
      );
    const count = (size - start) / bytes;
    if (count >= 2 ** 31) throw new DataError(`${path} has ${count} ids, more than 2^31: use several files`);
    const ids = roomForIds(count, path);
    const chunk = Buffer.alloc(Math.min(CHUNK, size - start));
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    for (let done = 0; done < count; ) {
      const { bytesRead } = await file.read(chunk, 0, chunk.length, start + done * bytes);
      if (bytesRead < bytes) throw new DataError(`${path} became shorter while it was read`);
      for (let place = 0; place + bytes <= bytesRead; place += bytes) {
        const id = at(view, place);
        if (id < 0 || id > HIGHEST_ID)
          throw new DataError(
            `${path} has ${id} at place ${done}: token ids are whole numbers from 0 to ${HIGHEST_ID}`,
          );
        ids[done++] = Number(id);
      }
    }
    return ids;
  } finally {
    await file.close();
  }
}

/** The header of llm.c: 256 numbers of 4 bytes, the first of which is the format's magic number. */
const LLM_C_HEADER = 1024;
const LLM_C: Readonly<Record<number, 'uint16' | 'uint32'>> = { 20240520: 'uint16', 20240801: 'uint32' };

/**
 * Reads a file of plain numbers, as nanoGPT writes it, or with the header of llm.c, which gives the number size. Without a header the default is
 * 2 bytes. Throws `DataError` if that guess looks wrong and no format was given.
 */
export async function readBinary(path: string, said?: 'uint16' | 'uint32'): Promise<Int32Array> {
  const head = await readHead(path, LLM_C_HEADER);
  const headed = head.length >= LLM_C_HEADER ? LLM_C[head.readUInt32LE(0)] : undefined;
  const ids = await readFrom(
    path,
    headed ? LLM_C_HEADER : 0,
    NUMBERS[(headed ?? said) === 'uint32' ? 'u4' : 'u2']!,
  );
  if (headed && ids.length !== head.readUInt32LE(8))
    throw new DataError(
      `${path} says that it has ${head.readUInt32LE(8)} ids, and has ${ids.length}: it was cut off`,
    );
  if (!headed && !said && looksWider(ids))
    throw new DataError(
      `${path} was read as uint16, and every other number is 0 or small, as if its ids had 4 bytes each: give --ids uint32 for that, or --ids uint16 if it is so`,
    );
  return ids;
}

/** The largest vocabulary that is considered possible, in units of 2^16 tokens. */
const MOST_UPPER_HALF = 15;

/** Whether 2-byte numbers look like halves of 4-byte ids, whose upper halves are small. */
function looksWider(ids: Int32Array): boolean {
  if (ids.length < 8 || ids.length % 2 !== 0) return false;
  let [highestUpper, highestLower] = [0, 0];
  for (let i = 0; i < ids.length; i += 2) {
    highestLower = Math.max(highestLower, ids[i]!);
    highestUpper = Math.max(highestUpper, ids[i + 1]!);
  }
  return highestUpper === 0 || (highestUpper <= MOST_UPPER_HALF && highestLower >= 256);
}

async function readHead(path: string, bytes: number): Promise<Buffer> {
  const file = await open(path);
  try {
    const head = Buffer.alloc(bytes);
    const { bytesRead } = await file.read(head, 0, bytes, 0);
    return head.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

const NPY_MAGIC = '\x93NUMPY';
/** Upper bound of a header's length in bytes. */
const MOST_HEADER = 2 ** 16;

/** Reads a file of NumPy (numpy.lib.format): a vector of ids, or a matrix with a document in each row. */
export async function readArray(path: string): Promise<Int32Array[]> {
  const head = await readHead(path, MOST_HEADER);
  if (head.length < 12 || head.toString('latin1', 0, 6) !== NPY_MAGIC)
    throw new DataError(`${path} is no file of NumPy, though it is called so`);
  const isLong = head[6]! > 1;
  const begin = isLong ? 12 : 10;
  const length = isLong ? head.readUInt32LE(8) : head.readUInt16LE(8);
  const text = head.toString('latin1', begin, begin + length);
  const type = /'descr':\s*'([^']*)'/.exec(text)?.[1];
  const shape = /'shape':\s*\(([^)]*)\)/.exec(text)?.[1]?.match(/\d+/g)?.map(Number);
  if (type === undefined || !shape || begin + length > head.length)
    throw new DataError(`${path} is damaged: its header cannot be read`);
  const form = /^[<|]/.test(type) ? NUMBERS[type.slice(1)] : undefined;
  if (!form)
    throw new DataError(
      `${path} has numbers of the type ${type}: save ids as whole numbers, as in np.save(path, ids.astype(np.uint32))`,
    );
  if (shape.length < 1 || shape.length > 2)
    throw new DataError(
      `${path} has the shape (${shape.join(', ')}): expected one row of ids, or a matrix with a document in each row`,
    );
  if (shape.length === 2 && /'fortran_order':\s*True/.test(text))
    throw new DataError(
      `${path} holds its matrix by columns: save it by rows, as in np.save(path, np.ascontiguousarray(ids))`,
    );
  const ids = await readFrom(path, begin + length, form);
  const count = shape.reduce((a, b) => a * b, 1);
  if (ids.length !== count)
    throw new DataError(`${path} says that it has ${count} ids, and has ${ids.length}: it is damaged`);
  const [width] = shape.slice(-1) as [number];
  if (shape.length === 1) return [ids];
  return Array.from({ length: shape[0]! }, (_, i) => ids.subarray(i * width, (i + 1) * width));
}
