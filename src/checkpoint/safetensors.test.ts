import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { CheckpointError, StorageError } from '../errors.js';
import { float32ToBfloat16, float32ToFloat16 } from '../graph/index.js';
import { openSafetensors, type TensorToWrite, writeSafetensors } from './safetensors.js';

let here: string;
let path: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-safetensors-'));
  path = join(here, 'model.safetensors');
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
  rmSync(here, { recursive: true, force: true });
});

/** Writes a file with this header, valid or not, and this many bytes after it. */
function writeRaw(header: string | Uint8Array, dataBytes: number, announced?: bigint): void {
  const json = typeof header === 'string' ? Buffer.from(header) : header;
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(announced ?? BigInt(json.byteLength));
  writeFileSync(path, Buffer.concat([length, json, new Uint8Array(dataBytes)]));
}

/** Opens the file for as long as `use` runs. */
async function opened<T>(use: (file: Awaited<ReturnType<typeof openSafetensors>>) => Promise<T>): Promise<T> {
  const file = await openSafetensors(path);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

/** The prototype of all file handles, so that a test can observe or break its methods. */
async function handlePrototype(): Promise<FileHandle> {
  const handle = await open(process.execPath, 'r');
  await handle.close();
  return Object.getPrototypeOf(handle) as FileHandle;
}

const sequence = (length: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin(i) * 2 ** ((i % 40) - 25));

const oneOfEach: TensorToWrite[] = [
  { name: 'f64', dtype: 'F64', shape: [2], data: Float64Array.of(Math.PI, -0) },
  { name: 'f32', dtype: 'F32', shape: [1, 3], data: Float32Array.of(1.5, NaN, -Infinity) },
  { name: 'f16', dtype: 'F16', shape: [3], data: Uint16Array.of(0x3c00, 0x8001, 0x7e01) },
  { name: 'bf16', dtype: 'BF16', shape: [3, 1], data: Uint16Array.of(0x3f80, 0x0001, 0xff81) },
  { name: 'i64', dtype: 'I64', shape: [2], data: BigInt64Array.of(-(2n ** 63n), 5n) },
  { name: 'i32', dtype: 'I32', shape: [1], data: Int32Array.of(-(2 ** 31)) },
  { name: 'i16', dtype: 'I16', shape: [1], data: Int16Array.of(-(2 ** 15)) },
  { name: 'i8', dtype: 'I8', shape: [3], data: Int8Array.of(-128, 0, 127) },
  { name: 'u64', dtype: 'U64', shape: [1], data: BigUint64Array.of(2n ** 64n - 1n) },
  { name: 'u32', dtype: 'U32', shape: [1], data: Uint32Array.of(2 ** 32 - 1) },
  { name: 'u16', dtype: 'U16', shape: [1], data: Uint16Array.of(2 ** 16 - 1) },
  { name: 'u8', dtype: 'U8', shape: [1], data: Uint8Array.of(255) },
  { name: 'bool', dtype: 'BOOL', shape: [2, 1], data: Uint8Array.of(1, 0) },
  { name: 'scalar', dtype: 'F32', shape: [], data: Float32Array.of(7) },
  { name: 'empty', dtype: 'F32', shape: [4, 0], data: new Float32Array(0) },
];

describe('the format', () => {
  // Written by hand from the specification: length, JSON padded to 8 bytes, data. F32 1 and -2, then U8 7.
  const json =
    '{"__metadata__":{"format":"pt"},' +
    '"b":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},' +
    '"a":{"dtype":"U8","shape":[1],"data_offsets":[8,9]}}';
  const padding = ' '.repeat(5);
  const exact = Uint8Array.of(
    ...[0x90, 0, 0, 0, 0, 0, 0, 0],
    ...Buffer.from(json + padding),
    ...[0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x00, 0xc0],
    7,
  );

  test('is read', async () => {
    writeFileSync(path, exact);
    await opened(async (file) => {
      expect(file.metadata).toEqual({ format: 'pt' });
      expect([...file.tensors]).toEqual([
        ['b', { dtype: 'F32', shape: [2, 1], byteOffset: 152, byteLength: 8 }],
        ['a', { dtype: 'U8', shape: [1], byteOffset: 160, byteLength: 1 }],
      ]);
      expect(await file.read('a')).toEqual({ dtype: 'U8', shape: [1], data: Uint8Array.of(7) });
      expect(await file.readFloat32('b')).toEqual(Float32Array.of(1, -2));
    });
  });

  test('is written byte for byte', async () => {
    await writeSafetensors(
      path,
      [
        { name: 'a', dtype: 'U8', shape: [1], data: Uint8Array.of(7) },
        { name: 'b', dtype: 'F32', shape: [2, 1], data: Float32Array.of(1, -2) },
      ],
      { format: 'pt' },
    );
    expect([...readFileSync(path)]).toEqual([...exact]);
  });
});

describe('round trips', () => {
  test('every dtype comes back as it was', async () => {
    await writeSafetensors(path, oneOfEach);
    await opened(async (file) => {
      expect(file.tensors.size).toBe(oneOfEach.length);
      for (const { name, dtype, shape, data } of oneOfEach) {
        expect(await file.read(name)).toEqual({ dtype, shape, data });
      }
    });
  });

  test('the order in which tensors and metadata are given makes no difference, and every tensor is aligned', async () => {
    await writeSafetensors(path, oneOfEach, { a: '1', b: '2' });
    const bytes = readFileSync(path);
    await writeSafetensors(path, [...oneOfEach].reverse(), { b: '2', a: '1' });
    expect(readFileSync(path).equals(bytes)).toBe(true);
    await opened(async (file) => {
      for (const { name, data } of oneOfEach) {
        const { byteOffset } = file.tensors.get(name)!;
        expect(byteOffset % (data as Uint8Array).BYTES_PER_ELEMENT).toBe(0);
      }
    });
  });

  test('any names and metadata are allowed, and a file may have no tensors', async () => {
    const names = ['__proto__', 'constructor', '10', '9', '', 'größe', '"\\\u0000\n', '層.0'];
    const metadata = Object.fromEntries(names.map((name) => [name, name]));
    const tensors = names.map((name, i) => ({
      name,
      dtype: 'U8' as const,
      shape: [1],
      data: Uint8Array.of(i),
    }));
    await writeSafetensors(path, tensors, metadata);
    await opened(async (file) => {
      expect(Object.entries(file.metadata).sort()).toEqual(Object.entries(metadata).sort());
      for (const { name, data } of tensors) expect((await file.read(name)).data).toEqual(data);
    });
    await writeSafetensors(path, []);
    await opened(async (file) => expect(file.tensors.size).toBe(0));
  });

  test('a view of a larger array is written without the rest', async () => {
    await writeSafetensors(path, [
      { name: 'part', dtype: 'F32', shape: [2], data: Float32Array.of(1, 2, 3, 4).subarray(1, 3) },
    ]);
    await opened(async (file) => expect(await file.readFloat32('part')).toEqual(Float32Array.of(2, 3)));
  });

  test('functions that give data are called one at a time, each after the previous tensor is written', async () => {
    const prototype = await handlePrototype();
    const events: string[] = [];
    const write = prototype.write;
    vi.spyOn(prototype, 'write').mockImplementation(function (this: FileHandle, ...operands: unknown[]) {
      events.push(`write ${(operands[0] as Uint8Array).byteLength}`);
      return Reflect.apply(write, this, operands);
    } as typeof write);
    const lazy = (name: string, length: number): TensorToWrite => ({
      name,
      dtype: 'F32',
      shape: [length],
      data: async () => {
        events.push(`make ${name}`);
        return new Float32Array(length).fill(length);
      },
    });
    await writeSafetensors(path, [lazy('b', 2), lazy('a', 1)]);
    expect(events.slice(1)).toEqual(['make a', 'write 4', 'make b', 'write 8']);
    await opened(async (file) => expect(await file.readFloat32('b')).toEqual(Float32Array.of(2, 2)));
  });
});

describe('conversion', () => {
  // More than one chunk for every dtype, and not a whole number of chunks.
  const values = sequence(2 ** 19 + 2 ** 18 + 7);

  test.each([
    ['F16', float32ToFloat16],
    ['BF16', float32ToBfloat16],
  ] as const)('float32 is written as %s and read back, in chunks', async (dtype, narrow) => {
    await writeSafetensors(path, [{ name: 'x', dtype, shape: [values.length], data: values }]);
    await opened(async (file) => {
      const bits = narrow(values);
      const stored = await file.read('x');
      expect(stored.dtype).toBe(dtype);
      expect(Buffer.from(stored.data.buffer).equals(Buffer.from(bits.buffer))).toBe(true);
      const widened = await file.readFloat32('x');
      expect(widened.length).toBe(values.length);
      // A bfloat16 keeps 8 bits of the fraction, a float16 11, or steps of 2^-24.
      const bad = widened.findIndex(
        (value, i) => Math.abs(value - values[i]!) > Math.abs(values[i]! / 256) + 2 ** -25,
      );
      expect(bad).toBe(-1);
      expect(narrow(widened).findIndex((pattern, i) => pattern !== bits[i])).toBe(-1);
    });
  });

  test('float64 is rounded to float32, in chunks', async () => {
    const doubles = Float64Array.from(values, (value) => value + 2 ** -40);
    await writeSafetensors(path, [{ name: 'x', dtype: 'F64', shape: [doubles.length], data: doubles }]);
    const read = await opened((file) => file.readFloat32('x'));
    expect(read.findIndex((value, i) => value !== Math.fround(doubles[i]!))).toBe(-1);
  });

  test.each(['F64', 'F32', 'F16', 'BF16'] as const)(
    '%s is read into a part of a larger array, and nothing beside it changes',
    async (dtype) => {
      const data = dtype === 'F64' ? Float64Array.from(values) : values;
      await writeSafetensors(path, [{ name: 'x', dtype, shape: [values.length], data }]);
      await opened(async (file) => {
        const around = new Float32Array(values.length + 2).fill(7);
        await file.readFloat32Into('x', around.subarray(1, -1));
        expect([around[0], around.at(-1)]).toEqual([7, 7]);
        const alone = await file.readFloat32('x');
        expect(Buffer.from(around.buffer, 4, alone.byteLength).equals(Buffer.from(alone.buffer))).toBe(true);
      });
    },
  );

  test('a tensor is not read into an array of another size', async () => {
    await writeSafetensors(path, oneOfEach);
    await opened(async (file) => {
      const target = new Float32Array(4).fill(7);
      for (const size of [0, 2, 4]) {
        const filling = file.readFloat32Into('f16', target.subarray(0, size));
        await expect(filling).rejects.toThrow(/tensor "f16" has 3 elements, but the target array has \d/);
        await expect(filling).rejects.toBeInstanceOf(CheckpointError);
      }
      await expect(file.readFloat32Into('u8', target.subarray(0, 1))).rejects.toThrow(
        /is U8, expected a floating/,
      );
      await file.readFloat32Into('empty', target.subarray(0, 0));
      expect([...target]).toEqual([7, 7, 7, 7]);
    });
  });

  test('integers and booleans are not read as floating-point numbers', async () => {
    await writeSafetensors(path, oneOfEach);
    await opened(async (file) => {
      for (const name of ['i64', 'u8', 'bool']) {
        await expect(file.readFloat32(name)).rejects.toThrow(CheckpointError);
      }
      expect(await file.readFloat32('empty')).toEqual(new Float32Array(0));
    });
  });
});

describe('memory and reads', () => {
  test('opening reads only the header, a tensor only its bytes, and conversion uses a small buffer', async () => {
    const elements = 2 ** 20;
    await writeSafetensors(path, [
      { name: 'large', dtype: 'BF16', shape: [elements], data: new Uint16Array(elements) },
      { name: 'small', dtype: 'BF16', shape: [3], data: new Uint16Array(3) },
    ]);
    const prototype = await handlePrototype();
    const read = prototype.read as (...operands: unknown[]) => Promise<{ bytesRead: number }>;
    let sizes: number[] = [];
    vi.spyOn(prototype, 'read').mockImplementation(async function (this: FileHandle, ...operands: unknown[]) {
      sizes.push((operands[0] as Uint8Array).byteLength);
      return Reflect.apply(read, this, operands);
    } as unknown as typeof prototype.read);
    const bytesOf = async (use: () => Promise<unknown>) => {
      sizes = [];
      await use();
      return sizes.reduce((sum, size) => sum + size, 0);
    };
    const headerBytes = readFileSync(path).readUInt32LE(0);
    expect(await bytesOf(() => opened(async () => {}))).toBe(8 + headerBytes);
    await opened(async (file) => {
      expect(await bytesOf(() => file.read('small'))).toBe(6);
      expect(await bytesOf(() => file.readFloat32('large'))).toBe(2 * elements);
      expect(Math.max(...sizes)).toBeLessThanOrEqual(2 ** 20);
    });
  });

  test('a short read is continued', async () => {
    await writeSafetensors(path, oneOfEach);
    const prototype = await handlePrototype();
    const read = prototype.read as (...operands: unknown[]) => Promise<{ bytesRead: number }>;
    vi.spyOn(prototype, 'read').mockImplementation(async function (this: FileHandle, ...operands: unknown[]) {
      const [bytes, offset, length, position] = operands as [Uint8Array, number, number, number];
      return Reflect.apply(read, this, [bytes, offset, Math.min(length, 3), position]);
    } as unknown as typeof prototype.read);
    await opened(async (file) => {
      for (const { name, data } of oneOfEach) expect((await file.read(name)).data).toEqual(data);
    });
  });
});

describe('an invalid file', () => {
  const entry = (dtype: unknown, shape: unknown, offsets: unknown) => ({
    dtype,
    shape,
    data_offsets: offsets,
  });
  const x = (dtype: unknown, shape: unknown, offsets: unknown) =>
    JSON.stringify({ x: entry(dtype, shape, offsets) });
  const good = x('F32', [2], [0, 8]);

  test.each<[string, string | Uint8Array, number, RegExp, bigint?]>([
    ['a header longer than the file', good, 8, /ends inside its header/, 1000n],
    ['a header over 100 MB', good, 8, /header of 100000001 bytes/, 100_000_001n],
    ['a header of 2^64 - 1 bytes', good, 8, /header of 18446744073709551615 bytes/, 2n ** 64n - 1n],
    ['no header', '', 0, /does not begin with "\{"/],
    ['a list for a header', '[]', 0, /does not begin with "\{"/],
    ['space before the header', ` ${good}`, 8, /does not begin with "\{"/],
    ['broken JSON', '{"x":', 0, /not JSON/],
    ['a broken string in a key', '{"\\u00":1}', 0, /not JSON/],
    ['a string without an end', '{"x', 0, /not JSON/],
    [
      'bytes that are not UTF-8',
      Buffer.from('{"__metadata__":{"a":"\xff"}}', 'latin1'),
      0,
      /not JSON in UTF-8/,
    ],
    ['a byte order mark', `\ufeff${good}`, 8, /does not begin with "\{"/],
    ['a million brackets', `{"x":${'['.repeat(1_000_000)}`, 0, /nested more than 3 deep/],
    ['a tensor twice', `${good.slice(0, -1)},${good.slice(1)}`, 8, /key "x" occurs twice/],
    ['a tensor twice, spelled otherwise', `${good.slice(0, -1)},"\\u0078":{}}`, 8, /key "x" occurs twice/],
    ['a field twice', good.replace('"shape"', '"dtype":"F32","shape"'), 8, /key "dtype" occurs twice/],
    ['metadata twice', '{"__metadata__":{},"__metadata__":{}}', 0, /"__metadata__" occurs twice/],
    [
      'metadata that are no strings',
      '{"__metadata__":{"format":1}}',
      0,
      /__metadata__ is not an object of strings/,
    ],
    ['metadata that are no object', '{"__metadata__":["pt"]}', 0, /__metadata__ is not an object of strings/],
    ['a tensor that is no object', '{"x":[]}', 0, /tensor "x" is not described/],
    ['a tensor that is null', '{"x":null}', 0, /tensor "x" is not described/],
    ['no dtype', '{"x":{"shape":[2],"data_offsets":[0,8]}}', 8, /tensor "x" has the dtype nothing/],
    [
      'an unknown dtype',
      x('F8_E8M0', [8], [0, 8]),
      8,
      /tensor "x" has the dtype "F8_E8M0", expected one of F64, F32/,
    ],
    ['a dtype every object has', x('constructor', [8], [0, 8]), 8, /tensor "x" has the dtype "constructor"/],
    ['no shape', '{"x":{"dtype":"F32","data_offsets":[0,8]}}', 8, /tensor "x" has the shape nothing/],
    [
      'a size of minus zero',
      x('F32', [2], [0, 8]).replace('[2]', '[-0]'),
      8,
      /tensor "x" has the shape \[0\]/,
    ],
    ['a negative size', x('F32', [-2, -1], [0, 8]), 8, /tensor "x" has the shape \[-2,-1\]/],
    ['a broken size', x('F32', [0.5, 4], [0, 8]), 8, /tensor "x" has the shape/],
    ['a size in words', x('F32', ['2'], [0, 8]), 8, /tensor "x" has the shape/],
    ['a shape too large to count', x('F32', [2 ** 40, 2 ** 40], [0, 8]), 8, /tensor "x" has the shape/],
    [
      'a shape that wraps around to its size',
      x('F32', [2 ** 32, 2 ** 32, 0], [0, 0]),
      0,
      /tensor "x" has the shape/,
    ],
    ['no offsets', '{"x":{"dtype":"F32","shape":[2]}}', 8, /tensor "x" has the data_offsets nothing/],
    ['one offset', x('F32', [2], [8]), 8, /tensor "x" has the data_offsets \[8\]/],
    ['a negative offset', x('F32', [2], [-8, 0]), 8, /tensor "x" has the data_offsets \[-8,0\]/],
    ['offsets in reverse', x('F32', [2], [8, 0]), 8, /tensor "x" has 8 bytes by its shape .* and -8/],
    [
      'a range other than the shape',
      x('F32', [3], [0, 8]),
      8,
      /tensor "x" has 12 bytes by its shape .* and 8/,
    ],
    ['offsets beyond the file', x('F32', [2], [2 ** 50, 2 ** 50 + 8]), 8, /tensor "x" leaves a hole/],
    [
      'a hole at the start',
      x('F32', [2], [4, 12]),
      12,
      /tensor "x" leaves a hole of 4 bytes after the header/,
    ],
    [
      'a hole between tensors',
      JSON.stringify({ a: entry('U8', [2], [0, 2]), b: entry('U8', [2], [3, 5]) }),
      5,
      /tensor "b" leaves a hole of 1 byte after tensor "a"/,
    ],
    [
      'an overlap',
      JSON.stringify({ b: entry('U8', [3], [1, 4]), a: entry('U8', [2], [0, 2]) }),
      4,
      /tensor "b" overlaps tensor "a" by 1 byte/,
    ],
    [
      'two tensors in one place',
      JSON.stringify({ a: entry('U8', [2], [0, 2]), b: entry('U8', [2], [0, 2]) }),
      2,
      /tensor "b" overlaps tensor "a" by 2 bytes/,
    ],
    ['a tensor cut off', good, 7, /truncated: tensor "x" should end at byte \d+/],
    ['bytes of no tensor', good, 9, /1 byte after tensor "x" that belong to no tensor/],
    ['bytes and no tensor', '{}', 3, /3 bytes after the header/],
  ])('%s', async (_, header, dataBytes, message, announced) => {
    writeRaw(header, dataBytes, announced);
    const failure = await openSafetensors(path).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(CheckpointError);
    expect((failure as Error).message).toMatch(message);
    expect((failure as Error).message).toContain(path);
  });

  test('a tensor without elements may lie between two others, not inside one', async () => {
    const around = { a: entry('U8', [2], [0, 2]), b: entry('U8', [2], [2, 4]) };
    writeRaw(JSON.stringify({ ...around, none: entry('F32', [0], [2, 2]) }), 4);
    await opened(async (file) => expect([...file.tensors.keys()]).toEqual(['a', 'none', 'b']));
    writeRaw(JSON.stringify({ ...around, none: entry('F32', [0], [1, 1]) }), 4);
    await expect(openSafetensors(path)).rejects.toThrow(/tensor "none" overlaps tensor "a" by 1 byte/);
  });

  test('any name is shown on one short line in errors', async () => {
    writeRaw(JSON.stringify({ [`\u001b[2J\n${'x'.repeat(100_000)}`]: entry('F32', [2], [0, 4]) }), 4);
    const failure = (await openSafetensors(path).catch((error: unknown) => error)) as Error;
    expect(failure.message).toMatch(/tensor "\\u001b\[2J\\nxxx/);
    expect(failure.message.length).toBeLessThan(1000);
  });

  test('a header of a gigabyte in a file of that size is refused', async () => {
    writeRaw(good, 8, 2n ** 30n);
    truncateSync(path, 2 ** 31);
    await expect(openSafetensors(path)).rejects.toThrow(
      /header of 1073741824 bytes, expected at most 100000000/,
    );
  });

  test('a missing file, a folder, a few bytes, and a Git LFS pointer are refused', async () => {
    await expect(openSafetensors(path)).rejects.toThrow(/does not exist/);
    await expect(openSafetensors(here)).rejects.toThrow(/is not a file/);
    await expect(openSafetensors(join(process.execPath, 'x'))).rejects.toThrow(/cannot be opened/);
    writeFileSync(path, 'abc');
    await expect(openSafetensors(path)).rejects.toThrow(/it has 3 bytes, expected at least 8/);
    writeFileSync(path, 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n');
    await expect(openSafetensors(path)).rejects.toThrow(/git lfs pull/);
    for (const failing of [path, here, join(here, 'none')]) {
      await expect(openSafetensors(failing)).rejects.toBeInstanceOf(CheckpointError);
    }
  });

  test.skipIf(!existsSync('/proc/self/fd'))('is closed', async () => {
    const isOpen = () =>
      readdirSync('/proc/self/fd').some((number) => {
        const link = join('/proc/self/fd', number);
        return existsSync(link) && readlinkSync(link) === path;
      });
    writeRaw(good, 8);
    await opened(async () => expect(isOpen()).toBe(true));
    writeRaw('[]', 0);
    await expect(openSafetensors(path)).rejects.toThrow(CheckpointError);
    expect(isOpen()).toBe(false);
  });

  test('a missing tensor, a file truncated while open, and a closed file are errors', async () => {
    await writeSafetensors(path, oneOfEach);
    const file = await openSafetensors(path);
    await expect(file.read('f99')).rejects.toThrow(
      /no tensor "f99" among its 15 \("f64", "i64", "u64", ...\)/,
    );
    truncateSync(path, readFileSync(path).length - 1);
    await expect(file.read('u8')).rejects.toThrow(/cut off while it was open/);
    await file.close();
    const failure = await file.read('f32').catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(CheckpointError);
  });

  test('a tensor larger than the memory is an error', async () => {
    await writeSafetensors(path, oneOfEach);
    await opened(async (file) => {
      vi.stubGlobal('ArrayBuffer', function allocate() {
        throw new RangeError('Array buffer allocation failed');
      });
      for (const reading of [file.read('f32'), file.readFloat32('f16')]) {
        await expect(reading).rejects.toThrow(/needs 12 contiguous bytes of memory/);
      }
    });
  });
});

describe('a file that cannot be written', () => {
  const u8 = (
    name: string,
    shape: number[],
    data: TensorToWrite['data'] = new Uint8Array(2),
  ): TensorToWrite => ({
    name,
    dtype: 'U8',
    shape,
    data,
  });

  test.each<[string, TensorToWrite[], RegExp]>([
    ['two tensors of one name', [u8('x', [2]), u8('x', [2])], /two tensors are called "x"/],
    ['a tensor called __metadata__', [u8('__metadata__', [2])], /no tensor may be called __metadata__/],
    ['a shape that is none', [u8('x', [-2])], /"x" has the shape \[-2\]/],
    ['a shape other than the data', [u8('x', [3])], /"x" has 2 elements, expected 3 by its shape \[3\]/],
    [
      'data of another type',
      [u8('x', [2], new Int8Array(2))],
      /"x" is U8, expected a Uint8Array, got a Int8Array/,
    ],
    ['float32 data for integers', [u8('x', [2], new Float32Array(2))], /got a Float32Array/],
    [
      'data that turns out wrong at its turn',
      [u8('a', [2]), u8('x', [2], () => new Uint8Array(3))],
      /"x" has 3 elements/,
    ],
  ])('%s', async (_, tensors, message) => {
    const failure = await writeSafetensors(path, tensors).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(CheckpointError);
    expect((failure as Error).message).toMatch(message);
    expect(readdirSync(here)).toEqual([]);
  });

  test('has a header longer than readers accept', async () => {
    const writing = writeSafetensors(path, [], { notes: ' '.repeat(100_000_000) });
    await expect(writing).rejects.toThrow(/would have a header of 1000000\d\d bytes/);
    await expect(writing).rejects.toBeInstanceOf(CheckpointError);
    expect(readdirSync(here)).toEqual([]);
  });

  test.skipIf(!existsSync('/dev/full'))('is on a disk that fills up while tensors are written', async () => {
    await writeSafetensors(path, [u8('old', [2])]);
    const full = await open('/dev/full', 'w');
    const prototype = await handlePrototype();
    const write = prototype.write;
    let writes = 0;
    vi.spyOn(prototype, 'write').mockImplementation(function (this: FileHandle, ...operands: unknown[]) {
      return Reflect.apply(write, ++writes < 3 ? this : full, operands);
    } as typeof write);
    const failure = await writeSafetensors(path, oneOfEach).catch((error: unknown) => error);
    await full.close();
    expect(failure).toBeInstanceOf(StorageError);
    expect((failure as Error).message).toMatch(/disk is full/);
    expect(readdirSync(here)).toEqual(['model.safetensors']);
    await opened(async (file) => expect([...file.tensors.keys()]).toEqual(['old']));
  });
});
