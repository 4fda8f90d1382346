/** A disk that fills up while a run is going: it is told, the last checkpoint is whole, and the run can go on from it. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { StorageError } from '../errors.js';
import type { TrainingEvent } from './input.js';
import { digests, metrics, tinyInput } from './testing/runs.js';
import { train } from './trainer.js';

const disk = vi.hoisted(() => ({
  /** What a file's path must match for nothing to fit into it; undefined for a disk with room. */
  full: undefined as RegExp | undefined,
}));

vi.mock('node:fs/promises', async (importOriginal) => {
  const real = await importOriginal<typeof import('node:fs/promises')>();
  const requireRoom = (path: unknown): void => {
    if (disk.full?.test(String(path))) {
      const message = 'ENOSPC: no space left on device, write';
      throw Object.assign(new Error(message), { code: 'ENOSPC', syscall: 'write' });
    }
  };
  return {
    ...real,
    async open(...operands: Parameters<typeof real.open>) {
      const handle = await real.open(...operands);
      const write = handle.write.bind(handle) as (bytes: Uint8Array) => Promise<unknown>;
      return Object.assign(handle, {
        async write(bytes: Uint8Array) {
          requireRoom(operands[0]);
          return write(bytes);
        },
      });
    },
    async appendFile(...operands: Parameters<typeof real.appendFile>) {
      requireRoom(operands[0]);
      return real.appendFile(...operands);
    },
  };
});

let here: string;
let folder: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-storage-'));
  folder = join(here, 'run');
});
afterEach(() => {
  disk.full = undefined;
  rmSync(here, { recursive: true, force: true });
});

const cases: [string, RegExp][] = [
  ['the weights', /model\.safetensors/],
  ['the optimizer state', /optimizer\.safetensors/],
  ['the step', /training\.json/],
  ['the log', /metrics\.jsonl$/],
];

describe('no room for', () => {
  for (const [name, path] of cases) {
    test(name, async () => {
      const whole = join(here, 'whole');
      await train(tinyInput(whole));
      let saved: Record<string, string> | undefined;
      const onEvent = (event: TrainingEvent): void => {
        if (event.event !== 'saved' || saved) return;
        saved = digests(folder);
        disk.full = path;
      };
      const error = await train(tinyInput(folder, { onEvent })).catch((error: Error) => error);
      expect(error).toBeInstanceOf(StorageError);
      expect((error as Error).message).toMatch(/disk is full|no space left/);
      expect(digests(folder), 'the last checkpoint').toEqual(saved);
      expect(readdirSync(folder).sort(), 'nothing half-written').toEqual(['checkpoint', 'metrics.jsonl']);

      disk.full = undefined;
      await train(tinyInput(folder, { resume: true }));
      expect(digests(folder)).toEqual(digests(whole));
      expect(metrics(folder).filter(({ event }) => event === 'step').length).toBe(24);
    });
  }

  test('a second run in the same folder, while another process trains into it', async () => {
    mkdirSync(folder);
    writeFileSync(join(folder, `lock-${process.ppid}`), '');
    const second = train(tinyInput(folder));
    await expect(second).rejects.toThrow(StorageError);
    await expect(second).rejects.toThrow(`process ${process.ppid} is training into it`);
    expect(readdirSync(folder)).toEqual([`lock-${process.ppid}`]);

    rmSync(join(folder, `lock-${process.ppid}`));
    await train(tinyInput(folder));
    expect(readdirSync(folder).sort(), 'the lock is released').toEqual(['checkpoint', 'metrics.jsonl']);
  });

  test('anything from the start', async () => {
    disk.full = /./;
    await expect(train(tinyInput(folder))).rejects.toThrow(StorageError);
    expect(readdirSync(folder), 'an empty log at most').not.toContain('checkpoint');
  });
});
