/** Training runs of processes that compute together: they stop after the same step, and the first alone writes files. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Device, Executable, ProcessGroup, Program } from '../engine/index.js';
import { aheadDevice, digests, metrics, type RunOptions, stepByStep, tinyInput } from './testing/runs.js';
import { type TrainingResult, train } from './trainer.js';

let here: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-processes-'));
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

const at = (name: string): string => join(here, name);

/** Devices of so many processes. As with a collective, a run of one ends only when all have begun it. */
function together(count: number): Device[] {
  const begun: (() => void)[][] = [];
  const values = new Map<string, string>();
  const bounds = new Map<string, number>();
  return Array.from({ length: count }, (_, process): Device => {
    let runs = 0;
    const group: ProcessGroup = {
      process,
      processes: count,
      async expectSame(what, value) {
        if (!values.has(what)) values.set(what, value);
        if (values.get(what) !== value) throw new Error(`process ${process} has other ${what}`);
      },
      async atMost(what, proposal) {
        if (proposal !== undefined && !bounds.has(what)) bounds.set(what, proposal);
        return bounds.get(what) ?? Number.POSITIVE_INFINITY;
      },
    };
    const own = aheadDevice();
    return {
      ...own,
      group,
      async compile(program: Program): Promise<Executable> {
        const executable = await own.compile(program);
        return {
          newState: (...initial) => executable.newState(...initial),
          async run(feeds, rows) {
            const waiting = begun[runs] ?? [];
            begun[runs++] = waiting;
            const all = new Promise<void>((resolve) => waiting.push(resolve));
            if (waiting.length === count) for (const resolve of waiting) resolve();
            const [outputs] = await Promise.all([executable.run(feeds, rows), all]);
            return outputs;
          },
          dispose: () => executable.dispose(),
        };
      },
    };
  });
}

function run(device: Device, folder: string, interruptAt?: number, options: RunOptions = {}) {
  const interrupt = new AbortController();
  return train(
    tinyInput(folder, {
      ...options,
      device,
      signal: interrupt.signal,
      onEvent: (event) => {
        if (event.event === 'step' && event.step === interruptAt) interrupt.abort();
      },
    }),
  );
}

test('one writes what a run alone does, the others nothing', async () => {
  const [first, second] = together(2);
  await Promise.all([run(first!, at('first')), run(second!, at('second'))]);
  await train(tinyInput(at('alone'), { device: stepByStep }));
  expect(digests(at('first'))).toEqual(digests(at('alone')));
  expect(metrics(at('first')).length).toBe(metrics(at('alone')).length);
  expect(existsSync(at('second'))).toBe(false);
});

test.each([
  { who: 'the first', interrupted: [3, undefined] },
  { who: 'another', interrupted: [undefined, 6] },
  { who: 'both, one after the other,', interrupted: [5, 4] },
])('where $who is interrupted, all stop after the same step', async ({ interrupted }) => {
  const devices = together(2);
  const stopped = (await Promise.all(
    devices.map((device, i) => run(device, at(String(i)), interrupted[i])),
  )) as TrainingResult[];
  expect(stopped[0]).toMatchObject({ completed: false });
  expect(stopped[1]!.step).toBe(stopped[0]!.step);
  expect(stopped[0]!.step).toBeLessThan(12);
  const saved = metrics(at('0')).at(-1);
  expect(saved).toMatchObject({ event: 'saved', step: stopped[0]!.step });
  await Promise.all(together(2).map((device) => run(device, at('0'), undefined, { resume: true })));
  await train(tinyInput(at('alone'), { device: stepByStep }));
  expect(digests(at('0'))).toEqual(digests(at('alone')));
});

test('processes with other settings are refused', async () => {
  const [first, second] = together(2);
  const other = run(second!, at('second'), undefined, { settings: { learningRate: 0.02 } });
  const one = run(first!, at('first'));
  await expect(Promise.race([one, other])).rejects.toThrow(/has other settings or data/);
  one.catch(() => {});
  other.catch(() => {});
});
