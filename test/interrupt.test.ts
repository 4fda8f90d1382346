/** Ctrl-C and other signals that end a process; a second Ctrl-C ends it also while a native call runs in one of its threads. */
import { spawn } from 'node:child_process';
import { setTimeout } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import { build } from './testing/heddle.js';

beforeAll(() => build());

const module = JSON.stringify(new URL('../dist/cli/interrupt.js', import.meta.url).href);

/** Runs a script until it says `ready`: the process, how it ends, and what it has said so far. */
async function ready(script: string) {
  const child = spawn(process.execPath, ['--input-type=module', '-e', script]);
  const text: string[] = [];
  const ended = new Promise<{ code: number | null; signal: string | null }>((resolve) =>
    child.on('close', (code, signal) => resolve({ code, signal })),
  );
  for (const output of [child.stdout, child.stderr]) output.on('data', (part) => text.push(String(part)));
  const said = (): string => text.join('');
  while (!said().includes('ready') && child.exitCode === null) await setTimeout(20);
  return { child, ended, said };
}

test('the second Ctrl-C ends work that cannot be stopped', async () => {
  const koffi = new URL('../node_modules/koffi/index.js', import.meta.url).href;
  const script = `
    import koffi from ${JSON.stringify(koffi)};
    import { savingAtCtrlC } from ${module};
    koffi.load(null).func('int sleep(int seconds)').async(100_000, () => {});
    process.on('exit', () => console.log('exit listener'));
    savingAtCtrlC(() => new Promise(() => {}), () => console.log('saving'));
    console.log('ready');`;
  const { child, ended, said } = await ready(script);
  child.kill('SIGINT');
  // Two signals in one second count as one.
  await setTimeout(1200);
  child.kill('SIGINT');
  expect((await ended).signal).toBe('SIGINT');
  expect(said()).toBe('ready\nsaving\nexit listener\n');
});

test('after the work that saves its result, a signal ends the process as usual', async () => {
  const script = `
    import { savingAtCtrlC } from ${module};
    setInterval(() => {}, 1000);
    await savingAtCtrlC(async () => {}, () => console.log('saving'));
    console.log('ready');`;
  const { child, ended, said } = await ready(script);
  child.kill('SIGTERM');
  expect((await ended).signal).toBe('SIGTERM');
  expect(said()).toBe('ready\n');
});

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('after %s work saves its result', async (signal) => {
  const script = `
    import { abortedByPerson } from ${module};
    const stop = abortedByPerson();
    const wait = setInterval(() => {}, 1000);
    stop.addEventListener('abort', () => setTimeout(() => (clearInterval(wait), console.log('saved')), 50));
    console.log('ready');`;
  const { child, ended, said } = await ready(script);
  child.kill(signal);
  expect(await ended).toEqual({ code: 0, signal: null });
  expect(said()).toBe('ready\nsaved\n');
});
