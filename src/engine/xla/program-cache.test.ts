import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DeviceError } from '../../errors.js';
import { type CompileOptions, OutOfDeviceMemory, type PjrtExecutable } from './pjrt.js';
import { compileCached } from './program-cache.js';

let folder: string;
beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), 'heddle-programs-')), 'programs');
});
afterEach(() => rmSync(join(folder, '..'), { recursive: true }));

/** A client that writes down what it compiles; a program is serialized to its text. */
class Client {
  readonly compiled: string[] = [];
  identity = 'one GPU';
  serializes = true;
  isFull = false;

  async compile(text: string, _options?: CompileOptions): Promise<PjrtExecutable> {
    if (text === 'wrong') throw new DeviceError('refused');
    this.compiled.push(text);
    return this.executable(text);
  }

  async deserialize(bytes: Uint8Array): Promise<PjrtExecutable> {
    const text = Buffer.from(bytes).toString();
    if (text.includes('refused by the plugin')) throw new DeviceError('another version');
    if (this.isFull) throw new OutOfDeviceMemory('out of memory', undefined, undefined);
    return this.executable(text);
  }

  private executable(text: string): PjrtExecutable {
    return {
      results: text.length,
      run: () => [],
      serialize: () => {
        if (!this.serializes) throw new DeviceError('cannot');
        return Buffer.from(text);
      },
      dispose: () => {},
    };
  }
}

const files = () => readdirSync(folder).filter((name) => name.endsWith('.xla'));

test('a program is compiled once for a plugin, a device and options', async () => {
  const client = new Client();
  let compiling = 0;
  const compile = (text: string, options?: CompileOptions) =>
    compileCached(client, text, options, { folder, onCompile: () => compiling++ });
  expect((await compile('abc')).results).toBe(3);
  expect((await compile('abc')).results).toBe(3);
  expect(client.compiled).toEqual(['abc']);
  await compile('abcd');
  await compile('abc', { deterministic: true });
  await compile('abc', { flags: { a: 1, b: 2 } });
  await compile('abc', { flags: { b: 2, a: 1 } });
  client.identity = 'another GPU';
  await compile('abc');
  expect(client.compiled).toEqual(['abc', 'abcd', 'abc', 'abc', 'abc']);
  expect(compiling).toBe(5);
  expect(files()).toHaveLength(5);
});

test.each([
  ['cut off', (bytes: Buffer) => bytes.subarray(0, -1)],
  ['empty', () => Buffer.alloc(0)],
  [
    'with one other bit',
    (bytes: Buffer) => Buffer.from(bytes.map((byte, i) => (i === 40 ? byte ^ 1 : byte))),
  ],
  ['with another hash', (bytes: Buffer) => Buffer.from(bytes.map((byte, i) => (i === 0 ? byte ^ 1 : byte)))],
])('a file that is %s is compiled anew, and is right again', async (_, damage) => {
  const client = new Client();
  const text = 'a program of some length';
  await compileCached(client, text, undefined, { folder });
  const path = join(folder, files()[0]!);
  const whole = readFileSync(path);
  writeFileSync(path, damage(whole));
  expect((await compileCached(client, text, undefined, { folder })).results).toBe(text.length);
  expect(client.compiled).toHaveLength(2);
  expect(readFileSync(path)).toEqual(whole);
});

test('what the plugin does not take is compiled anew', async () => {
  const client = new Client();
  for (let turn = 0; turn < 2; turn++) {
    await compileCached(client, 'refused by the plugin', undefined, { folder });
  }
  expect(client.compiled).toHaveLength(2);
});

test('many at once, of the same program', async () => {
  const clients = Array.from({ length: 8 }, () => new Client());
  const made = await Promise.all(
    clients.map((client) => compileCached(client, 'same', undefined, { folder })),
  );
  expect(made.map(({ results }) => results)).toEqual(Array(8).fill(4));
  expect(readdirSync(folder)).toHaveLength(1);
});

test('where nothing can be written or serialized, programs are compiled all the same', async () => {
  const client = new Client();
  const file = join(folder, '..', 'file');
  writeFileSync(file, '');
  expect((await compileCached(client, 'abc', undefined, { folder: file })).results).toBe(3);
  client.serializes = false;
  expect((await compileCached(client, 'abc', undefined, { folder })).results).toBe(3);
  expect(existsSync(folder)).toBe(false);
  await expect(compileCached(client, 'wrong', undefined, { folder })).rejects.toThrow('refused');
});

test('beyond the limit those go that were not used for the longest time', async () => {
  const client = new Client();
  const cache = { folder, limit: 3 * (32 + 10) };
  const program = (name: string) => name.repeat(10);
  const old = (name: string, minutes: number) => {
    const path = join(
      folder,
      files().find((file) => readFileSync(join(folder, file)).includes(program(name)))!,
    );
    const time = new Date(Date.now() - minutes * 60_000);
    utimesSync(path, time, time);
  };
  for (const name of ['a', 'b', 'c']) await compileCached(client, program(name), undefined, cache);
  old('a', 30);
  old('b', 20);
  old('c', 10);
  // a is used again, so b is the oldest now.
  await compileCached(client, program('a'), undefined, cache);
  await compileCached(client, program('d'), undefined, cache);
  const left = files().map((file) => readFileSync(join(folder, file)).toString('latin1').at(-1));
  expect(left.sort()).toEqual(['a', 'c', 'd']);
  // One that is larger than all may be together is not kept.
  await compileCached(client, 'x'.repeat(1000), undefined, cache);
  expect(files()).toHaveLength(3);
  expect(statSync(folder).mode & 0o077).toBe(0);
});

test('what a process that is gone was writing is removed', async () => {
  const client = new Client();
  await compileCached(client, 'a', undefined, { folder });
  writeFileSync(join(folder, 'new.part'), '');
  writeFileSync(join(folder, 'old.part'), '');
  utimesSync(join(folder, 'old.part'), new Date(0), new Date(0));
  await compileCached(client, 'b', undefined, { folder });
  expect(readdirSync(folder).filter((name) => name.endsWith('.part'))).toEqual(['new.part']);
});

test('a program that cannot be loaded for want of memory is kept', async () => {
  const client = new Client();
  await compileCached(client, 'one', undefined, { folder });
  client.isFull = true;
  await expect(compileCached(client, 'one', undefined, { folder })).rejects.toThrow(OutOfDeviceMemory);
  client.isFull = false;
  await compileCached(client, 'one', undefined, { folder });
  expect(client.compiled).toEqual(['one']);
});
