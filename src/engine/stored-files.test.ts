/** Files of weights that are cut off, or change between their headers and their last byte: nothing is made of two halves. */
import { renameSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { statsOf } from '#platform';
import { DeviceError } from '../errors.js';
import { input, matmul } from '../graph/index.js';
import { float32, openDevice, type Program } from './index.js';
import { SharedMemory } from './wasm/memory.js';

const folder = await mkdtemp(join(tmpdir(), 'heddle-files-'));
afterAll(() => rm(folder, { recursive: true }));

const SIZE = 16;
let files = 0;

/** A new file of one matrix, all ones, and what multiplies with it. */
async function fresh(): Promise<{ path: string; program: Program }> {
  const path = join(folder, `${files++}.bin`);
  fill(path, 1);
  const { version } = await statsOf(path);
  const byteLength = 4 * SIZE * SIZE;
  const weight = {
    dims: [SIZE, SIZE],
    parts: [{ path, byteOffset: 0, byteLength, dtype: 'float32' as const, version }],
  };
  const x = input('x', 'float32', [1, SIZE]);
  const y = matmul(x, input('w', 'float32', [SIZE, SIZE]));
  return { path, program: { inputs: [x], outputs: { y }, weights: new Map([['w', weight]]) } };
}

function fill(path: string, value: number): void {
  writeFileSync(path, new Float32Array(SIZE * SIZE).fill(value));
}

/** Some file systems tell times in steps of some milliseconds, within which a test writes twice. */
function later(path: string): void {
  const { atime, mtimeMs } = statSync(path);
  utimesSync(path, atime, new Date(mtimeMs + 1000));
}

const changes: Readonly<Record<string, readonly [(path: string) => void, RegExp]>> = {
  'was written anew': [
    (path) => {
      fill(path, 2);
      later(path);
    },
    /was changed while it was being loaded: load the model again/,
  ],
  'was replaced by another': [
    (path) => {
      const { atime, mtime } = statSync(path);
      fill(`${path}.new`, 2);
      utimesSync(`${path}.new`, atime, mtime);
      renameSync(`${path}.new`, path);
    },
    /was changed while it was being loaded/,
  ],
  'was cut off': [(path) => truncateSync(path, 100), /has 100 bytes, but its weights go to byte 1024/],
  'is gone': [(path) => renameSync(path, `${path}.away`), /cannot be read: there is no such file/],
};

describe.each(['cpu', 'wasm'] as const)('on %s', async (name) => {
  const device = await openDevice(name, { threads: 1 });

  describe.each(Object.entries(changes))('a file that %s', (_, [change, words]) => {
    test('since its header was read is refused, and the next load succeeds', async () => {
      const { path, program } = await fresh();
      change(path);
      const attempt = device.compile(program);
      await expect(attempt).rejects.toThrow(DeviceError);
      await expect(attempt).rejects.toThrow(words);
      const again = await device.compile((await fresh()).program);
      const { y } = await again.run({ x: float32(new Float32Array(SIZE).fill(1), [1, SIZE]) });
      expect(y!.data[0]).toBe(SIZE);
      await again.dispose();
    });
  });
});

test.each(['was written anew', 'was replaced by another'])(
  'a file that %s while it is read is refused, and leaves nothing behind',
  async (name) => {
    const device = await openDevice('wasm', { threads: 1 });
    const { path, program } = await fresh();
    const allocate = vi.spyOn(SharedMemory.prototype, 'allocate');
    const released = vi.spyOn(SharedMemory.prototype, 'release');
    allocate.mockImplementationOnce(function (this: SharedMemory, bytes) {
      changes[name]![0](path);
      return this.allocate(bytes);
    });
    await expect(device.compile(program)).rejects.toThrow(/was changed while it was being loaded/);
    // The first call, in which the file changed, asked for the memory by the second.
    const [, place] = allocate.mock.results;
    expect(released).toHaveBeenCalledWith(place!.value);
    vi.restoreAllMocks();
    await device.dispose();
  },
);
