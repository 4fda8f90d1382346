import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { beforeAll, describe, expect, test } from 'vitest';
import { DeviceError } from '../../errors.js';
import { DTYPES, type DType, literal } from '../../graph/dtype.js';
import { compileOptions } from './pjrt/options.js';
import { OutOfDeviceMemory, openClient, type PjrtBuffer, type PjrtClient } from './pjrt.js';
import { buildPlugin, canBuild } from './testing/fake-plugin.js';

const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
const KINDS = ['errors', 'events', 'clients', 'buffers', 'loaded', 'executables', 'serialized'];

/** What a plugin has made and not freed, by kind; and how much it made in all. */
function leaks(path: string): { left: Record<string, number>; made: number } {
  const counts = new BigInt64Array(2 * KINDS.length);
  koffi.load(path).func('void fake_counts(void *out)')(counts);
  const left: Record<string, number> = {};
  for (const [kind, name] of KINDS.entries()) {
    const alive = Number(counts[kind]! - counts[KINDS.length + kind]!);
    if (alive !== 0) left[name] = alive;
  }
  return { left, made: Number(counts.slice(0, KINDS.length).reduce((all, one) => all + one, 0n)) };
}

async function failure(work: Promise<unknown> | (() => unknown)): Promise<Error> {
  try {
    await (typeof work === 'function' ? work() : work);
  } catch (error) {
    return error as Error;
  }
  throw new Error('nothing failed');
}

describe.skipIf(!canBuild)('a PJRT plugin', () => {
  let path: string;
  let client: PjrtClient;

  const upload = (...values: number[]) =>
    client.upload(Float32Array.from(values), 'float32', [values.length]);
  const values = async (buffer: ReturnType<typeof upload>, length: number) => {
    const into = new Float32Array(length);
    await buffer.download(into);
    return Array.from(into);
  };

  /** Holds what is `held`, and lets go of it later: waits for it fail unless JavaScript goes on in the meantime. */
  const holdForATurn = () => {
    const held = koffi.load(path).func('void fake_held(int is)');
    held(1);
    setImmediate(() => held(0));
  };

  beforeAll(async () => {
    path = buildPlugin();
    client = await openClient(path, { memoryFraction: 0.5, preallocate: false });
  });

  test('says what it is, which devices it has and what memory they have', () => {
    expect(client.platform).toBe('fake');
    expect(client.version).toBe('fake 13000, PJRT 0.94');
    expect(client.identity).toContain('"stablehlo_current_version":"1.14.2"');
    expect(client.devices.map(({ index, kind }) => [index, kind])).toEqual([
      [0, 'Fake GPU'],
      [1, 'Fake GPU'],
    ]);
    const before = client.devices[0]!.memory()!;
    expect(before.limit).toBe(1e9);
    const buffer = upload(1, 2, 3);
    expect(client.devices[0]!.memory()!.inUse).toBe(before.inUse + 12);
    buffer.dispose();
    // The plugin does not tell for the second.
    expect(client.devices[1]!.memory()).toBeUndefined();
  });

  test.each(Object.keys(DTYPES) as DType[])('takes and gives %s', async (dtype) => {
    const array = DTYPES[dtype].array;
    const one = literal(1, dtype)[0]!;
    const data = new array(6);
    for (const place of [0, 2, 3, 5]) data[place] = one;
    const buffer = client.upload(data, dtype, [2, 3]);
    const before = data.slice();
    data[0] = data[1]!;
    expect(buffer.bytes).toBe(6 * DTYPES[dtype].bytes);
    const into = new array(6);
    await buffer.download(into);
    expect(into).toEqual(before);
    buffer.dispose();
  });

  test('takes a number, an empty array, and memory that is shared', async () => {
    const number = client.upload(Float32Array.of(7), 'float32', []);
    expect(await values(number, 1)).toEqual([7]);
    const empty = client.upload(new Float32Array(), 'float32', [0, 4]);
    expect(await values(empty, 0)).toEqual([]);
    const shared = new Float32Array(new SharedArrayBuffer(8));
    shared.set([3, 4]);
    const third = client.upload(shared, 'float32', [2]);
    expect(await values(third, 2)).toEqual([3, 4]);
    for (const buffer of [number, empty, third]) buffer.dispose();
  });

  test('refuses arrays that are not what they are said to be', async () => {
    expect((await failure(() => client.upload(new Float32Array(3), 'float32', [2, 2]))).message).toMatch(
      /float32 \[2,2\] needs 4 elements in a Float32Array, not 3 in a Float32Array/,
    );
    expect((await failure(() => client.upload(new Int32Array(4), 'float32', [2, 2]))).message).toMatch(
      /not 4 in a Int32Array/,
    );
    const buffer = upload(1, 2);
    expect((await failure(buffer.download(new Float32Array(3)))).message).toMatch(/has 2 elements/);
    buffer.dispose();
    expect(await failure(buffer.download(new Float32Array(2)))).toBeInstanceOf(DeviceError);
    expect((await failure(() => buffer.bytes)).message).toMatch(/disposed/);
  });

  test('runs programs, one list of arguments for each device', async () => {
    const program = await client.compile('results 2');
    expect(program.results).toBe(2);
    const [left, right] = [upload(1, 2), upload(10, 20)];
    const onSecond = client.upload(Float32Array.of(5, 5), 'float32', [2], client.devices[1]);
    const [first, second] = program.run([
      [left, right],
      [onSecond, onSecond],
    ]);
    expect(first).toHaveLength(2);
    expect(await values(first![1]!, 2)).toEqual([11, 22]);
    expect(await values(second![0]!, 2)).toEqual([10, 10]);
    expect((await failure(() => program.run([[left], []]))).message).toMatch(/one list of arguments/);
    expect((await failure(() => program.run([]))).message).toMatch(/one list of arguments/);
    for (const buffer of [left, right, onSecond, ...first!, ...second!]) buffer.dispose();
    program.dispose();
    program.dispose();
    expect((await failure(() => program.run([[]]))).message).toMatch(/program .* was disposed/);
  });

  test('donated arguments cannot be used again, and may be disposed of', async () => {
    const program = await client.compile('donate 1');
    const [kept, given] = [upload(1), upload(2)];
    const [[sum]] = program.run([[kept, given]]) as [[typeof kept]];
    expect(await values(sum, 1)).toEqual([3]);
    expect((await failure(() => program.run([[kept, given]]))).message).toMatch(/deleted or donated/);
    expect((await failure(given.download(new Float32Array(1)))).message).toMatch(/deleted or donated/);
    for (const buffer of [kept, given, given, sum]) buffer.dispose();
    program.dispose();
  });

  test('waits without stopping JavaScript, for many at once', async () => {
    const program = await client.compile('held\nresults 6');
    const argument = upload(1);
    holdForATurn();
    const [results] = program.run([[argument]]);
    await Promise.all(results!.map((result) => result.ready()));
    for (const buffer of [argument, ...results!]) buffer.dispose();
    program.dispose();
  });

  test('compiles without stopping JavaScript', async () => {
    holdForATurn();
    const program = await client.compile('compile held');
    program.dispose();
  });

  test('every failure has the plugin’s words', async () => {
    const rejected = await failure(client.compile('reject unknown op "stablehlo.knit"'));
    expect(rejected).toBeInstanceOf(DeviceError);
    expect(rejected.message).toBe(
      'the cuda device failed while compiling: unknown op "stablehlo.knit" (INVALID_ARGUMENT)',
    );
    const argument = upload(1);
    const failing = await client.compile('fail the driver is gone');
    expect((await failure(() => failing.run([[argument]]))).message).toMatch(
      /running a program: the driver is gone \(INTERNAL\)/,
    );
    const late = await client.compile('slow 20\nlate an illegal address');
    const [[result]] = late.run([[argument]]) as [[typeof argument]];
    expect((await failure(result.ready())).message).toMatch(/an illegal address \(INTERNAL\)/);
    expect((await failure(result.download(new Float32Array(1)))).message).toMatch(/an illegal address/);
    const garbage = await failure(client.deserialize(new TextEncoder().encode('garbage')));
    expect(garbage.message).toMatch(/loading a compiled program: this is no executable/);
    for (const one of [argument, result, failing, late]) one.dispose();
  });

  test('running out of memory says what was needed and what there is, and keeps the arguments', async () => {
    const program = await client.compile('donate 0\nmemory 5000000000');
    const argument = upload(1);
    const error = (await failure(() => program.run([[argument]]))) as OutOfDeviceMemory;
    expect(error).toBeInstanceOf(OutOfDeviceMemory);
    expect(error.needed).toBe(5e9);
    expect(error.memory?.limit).toBe(1e9);
    expect(error.message).toMatch(/needed 5\.00 GB more, and of its 1\.00 GB are .* in use/);
    expect(error.message).not.toMatch(/BufferAssignment/);
    expect(await values(argument, 1)).toEqual([1]);
    const late = await client.compile(
      'late Failed to allocate request for 176.00MiB (184549376B) on device ordinal 0',
    );
    const [[result]] = late.run([[argument]]) as [[typeof argument]];
    expect(((await failure(result.ready())) as OutOfDeviceMemory).needed).toBe(184549376);
    const rounded = await client.compile(
      'late Out of memory while trying to allocate 462.50MiB with allocator GPU_0_bfc on device 0.',
    );
    const [[other]] = rounded.run([[argument]]) as [[typeof argument]];
    expect(((await failure(other.ready())) as OutOfDeviceMemory).needed).toBe(462.5 * 2 ** 20);
    const large = await failure(() => client.upload(new Float32Array(666), 'float32', [666]));
    expect((large as OutOfDeviceMemory).needed).toBe(2664);
    for (const one of [argument, program, late, result, rounded, other]) one.dispose();
  });

  test('a run that does not fit is refused before it is started, and runs when there is room', async () => {
    // Its memory is its own: a byte that another test left behind would not fit beside it.
    const own = await openClient(buildPlugin());
    const program = await own.compile('donate 0\ntakes 999999990');
    const [argument, other] = [1, 2].map((value) => own.upload(Float32Array.of(value), 'float32', [1])) as [
      PjrtBuffer,
      PjrtBuffer,
    ];
    const error = (await failure(() => program.run([[argument]]))) as OutOfDeviceMemory;
    expect(error).toBeInstanceOf(OutOfDeviceMemory);
    expect(error.needed).toBe(999999994);
    expect(error.message).toMatch(
      /while running a program: it needed 1\.00 GB more, and of its 1\.00 GB are .* in use/,
    );
    expect(await values(argument, 1)).toEqual([1]);
    other.dispose();
    const [[result]] = program.run([[argument]]) as [[typeof argument]];
    expect(await values(result, 1)).toEqual([1]);
    own.dispose();
  });

  test('an array that does not fit is refused before it is copied, also where there is room in pieces alone', async () => {
    const [full, cut] = await Promise.all([
      openClient(buildPlugin('LIMIT=1000')),
      openClient(buildPlugin('LIMIT=1000', 'LARGEST=100')),
    ]);
    const error = (await failure(() =>
      full.upload(new Float32Array(251), 'float32', [251]),
    )) as OutOfDeviceMemory;
    expect(error).toBeInstanceOf(OutOfDeviceMemory);
    expect(error.needed).toBe(1004);
    expect(error.message).toMatch(/while copying float32 \[251\] to it: it needed 0\.00100 MB more/);
    full.upload(new Float32Array(250), 'float32', [250]).dispose();
    expect(error.message).not.toMatch(/in pieces/);
    const inPieces = await failure(() => cut.upload(new Float32Array(26), 'float32', [26]));
    expect(inPieces).toBeInstanceOf(OutOfDeviceMemory);
    expect(inPieces.message).toMatch(
      /0\.00100 MB are 0\.00 MB in use\. The free memory is in pieces, of which the largest has 0\.000100 MB: start the process again/,
    );
    cut.upload(new Float32Array(25), 'float32', [25]).dispose();
    full.dispose();
    cut.dispose();
  });

  test('a compiled program is serialized and loaded', async () => {
    const program = await client.compile('results 3');
    const bytes = program.serialize();
    program.dispose();
    const again = await client.deserialize(bytes);
    expect(again.results).toBe(3);
    again.dispose();
  });

  test('a second client of the plugin is the first one', async () => {
    const second = await openClient(path);
    expect(second.devices).toBe(client.devices);
    second.dispose();
    second.dispose();
    const buffer = upload(4);
    expect(await values(buffer, 1)).toEqual([4]);
    buffer.dispose();
    expect((await failure(second.compile(''))).message).toMatch(/was disposed/);
  });

  test('nothing is left when the client is disposed, whatever was forgotten', async () => {
    const program = await client.compile('slow 30\nresults 2');
    const argument = upload(1, 2, 3);
    const [[result]] = program.run([[argument]]) as [[typeof argument]];
    const into = new Float32Array(3);
    const copying = result.download(into);
    const compiling = client.compile('compile 40');
    client.dispose();
    // What had begun comes to its end.
    await copying;
    expect(Array.from(into)).toEqual([1, 2, 3]);
    const late = await compiling;
    expect((await failure(() => late.run([[]]))).message).toMatch(/was disposed/);
    expect((await failure(() => upload(1))).message).toMatch(/was disposed/);
    argument.dispose();
    expect(leaks(path).left).toEqual({});
    expect(leaks(path).made).toBeGreaterThan(50);
    const next = await openClient(path);
    next.dispose();
    expect(leaks(path).left).toEqual({});
  });
});

describe.skipIf(!canBuild)('other versions of the C API', () => {
  test('a newer plugin gets the larger structs that it asks for', async () => {
    const path = buildPlugin('MINOR=140', 'GROWN');
    const client = await openClient(path);
    expect(client.version).toContain('PJRT 0.140');
    const program = await client.compile('slow 10');
    const argument = client.upload(Float32Array.of(1, 2), 'float32', [2]);
    for (let turn = 0; turn < 3; turn++) {
      const [[result]] = program.run([[argument]]) as [[typeof argument]];
      const into = new Float32Array(2);
      await result.download(into);
      expect(Array.from(into)).toEqual([1, 2]);
      result.dispose();
    }
    client.dispose();
    expect(leaks(path).left).toEqual({});
  });

  test.each([
    ['MINOR=40', '0.40'],
    ['MAJOR=1', '1.94'],
  ])('a plugin with %s is refused with both versions', async (definition, version) => {
    const error = await failure(openClient(buildPlugin(definition)));
    expect(error).toBeInstanceOf(DeviceError);
    expect(error.message).toContain(`version ${version} of the PJRT C API, and Heddle versions 0.57 to 0.95`);
  });

  test('a file that is no plugin is refused, and so is one that is not there', async () => {
    const path = buildPlugin();
    writeFileSync(path, 'not a library');
    expect((await failure(openClient(path))).message).toMatch(/cannot be loaded as a PJRT plugin/);
    expect((await failure(openClient('/nowhere/plugin.so'))).message).toMatch(/cannot be loaded/);
    const libc = await failure(openClient('libc.so.6'));
    expect(libc.message).toMatch(/GetPjrtApi/);
  });
});

test('what is dropped without being disposed of is freed', async ({ skip }) => {
  if (!canBuild) skip();
  const { setFlagsFromString } = await import('node:v8');
  const { runInNewContext } = await import('node:vm');
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const path = buildPlugin();
  const client = await openClient(path);
  await (async () => {
    await client.compile('');
    for (let i = 0; i < 10; i++) client.upload(Float32Array.of(i), 'float32', [1]);
  })();
  expect(leaks(path).left).toEqual({ buffers: 10, clients: 1, executables: 1, loaded: 1 });
  for (let turn = 0; turn < 50 && Object.keys(leaks(path).left).length > 1; turn++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  expect(leaks(path).left).toEqual({ clients: 1 });
  client.dispose();
  expect(leaks(path).left).toEqual({});
});

describe('compile options', () => {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

  test('for one device', () => {
    expect(hex(compileOptions())).toBe('1a0420012801');
  });

  test('for four devices: partitions by Shardy, and which device runs which', () => {
    expect(hex(compileOptions({ partitions: 4 }))).toBe(
      `${[
        '1a23',
        '2001',
        '2804',
        '3001',
        '4a18',
        '0801',
        '1004',
        '1a030a0100',
        '1a030a0101',
        '1a030a0102',
        '1a030a0103',
      ].join('')}980101`,
    );
  });

  test('with XLA’s flags of every type', () => {
    expect(hex(compileOptions({ deterministic: true, flags: { a: 2, b: 'x', c: 0.5 } }))).toBe(
      [
        '1a0420012801',
        '3a070a016112021802',
        '3a080a016212030a0178',
        '3a0e0a0163120921000000000000e03f',
        `3a1f0a19${Buffer.from('xla_gpu_deterministic_ops').toString('hex')}12021001`,
      ].join(''),
    );
  });

  test('no number of devices', () => {
    for (const partitions of [0, 1.5, Number.NaN]) {
      expect(() => compileOptions({ partitions })).toThrow(DeviceError);
    }
  });
});
