/** Training runs of processes that compute together: they stop after the same step, and the first alone writes files. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Device, Executable, ProcessGroup, Program } from '../engine/index.js';
import type { TrainingResult } from './input.js';
import { aheadDevice, digests, metrics, type RunOptions, stepByStep, tinyInput } from './testing/runs.js';
import { train } from './trainer.js';

let here: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-processes-'));
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

const at = (name: string): string => join(here, name);

/** Devices of so many processes. As with a collective, a run of one ends only when all have begun it. */
function together(count: number): Device[] {
  const begun: (() => void)[][] = [];
  const values = new Map<string, string[]>();
  const bounds = new Map<string, number>();
  let failed: string | undefined;
  let failNow: (error: Error) => void;
  const failure = new Promise<never>((_, reject) => {
    failNow = reject;
  });
  failure.catch(() => {});
  const expectNoFailure = (): void => {
    if (failed !== undefined) throw new Error(failed);
  };
  return Array.from({ length: count }, (_, process): Device => {
    let runs = 0;
    const group: ProcessGroup = {
      process,
      processes: count,
      begin() {},
      async expectSame(what, value) {
        const given = values.get(what) ?? [];
        values.set(what, given);
        given.push(value);
        while (given.length < count) {
          expectNoFailure();
          await setTimeout(5);
        }
        if (given.some((other) => other !== value)) throw new Error(`process ${process} has other ${what}`);
      },
      together: (work) => Promise.race([work, failure]),
      async fail(reason) {
        failed ??= `process ${process} has failed: ${reason}`;
        failNow(new Error(failed));
      },
      async atMost(what, proposal) {
        expectNoFailure();
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
  expect(stopped[0]!.step).toBeLessThan(24);
  const saved = metrics(at('0')).at(-1);
  expect(saved).toMatchObject({ event: 'saved', step: stopped[0]!.step });
  await Promise.all(together(2).map((device) => run(device, at('0'), undefined, { resume: true })));
  await train(tinyInput(at('alone'), { device: stepByStep }));
  expect(digests(at('0'))).toEqual(digests(at('alone')));
});

async function reasons(runs: readonly Promise<unknown>[]): Promise<string[]> {
  const settled = await Promise.allSettled(runs);
  return settled.map((run) => (run.status === 'rejected' ? (run.reason as Error).message : 'it ended well'));
}

test('processes with other settings are refused', async () => {
  const [first, second] = together(2);
  const said = await reasons([
    run(first!, at('first')),
    run(second!, at('second'), undefined, { settings: { learningRate: 0.02 } }),
  ]);
  expect(said[0]).toMatch(/other settings or data/);
  expect(said[1]).toMatch(/other settings or data/);
});

test('what one process refuses ends the others', async () => {
  mkdirSync(at('first'));
  writeFileSync(join(at('first'), 'metrics.jsonl'), '');
  const [first, second] = together(2);
  const said = await reasons([run(first!, at('first')), run(second!, at('second'))]);
  expect(said[0]).toMatch(/is there already/);
  expect(said[1]).toMatch(/process 0 has failed: .*is there already/);
});

test('a process that fails while it trains ends the others, though they wait for what it was to compute', async () => {
  const [first, second] = together(2);
  const sample = (): Promise<never> => Promise.reject(new Error('the disk is full'));
  const said = await reasons([
    run(first!, at('first'), undefined, { sample }),
    run(second!, at('second'), undefined, { sample }),
  ]);
  expect(said).toEqual(['the disk is full', 'process 0 has failed: the disk is full']);
});

test('an interrupt at the beginning of a phase whose runs are longer stops all after the same step', async () => {
  const phases = [
    { steps: 6, batch: 32, sequence: 24 },
    { steps: 40, batch: 2, sequence: 12 },
  ];
  const settings = { steps: 46, phases, evaluateEvery: 100, saveEvery: 6 };
  const devices = together(2);
  const stopped = await Promise.all([
    run(devices[0]!, at('0'), 6, { settings }),
    run(devices[1]!, at('1'), undefined, { settings }),
  ]);
  expect(stopped[0]).toMatchObject({ completed: false });
  expect(stopped[1]!.step).toBe(stopped[0]!.step);
});
