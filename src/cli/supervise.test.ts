import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { supervise } from './supervise.js';

let scratch: string;
let said: string[];
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'heddle-supervise-'));
  said = [];
});
afterEach(() => rmSync(scratch, { recursive: true }));

/** A program that writes down each start; `then` is what it does after that, knowing how often it was started. */
const run = (then: string, options: { crashes?: number; window?: number } = {}) =>
  supervise({
    command: [
      process.execPath,
      '-e',
      `const fs = require('fs'); fs.appendFileSync(${JSON.stringify(join(scratch, 'starts'))}, 'x');
       const starts = fs.readFileSync(${JSON.stringify(join(scratch, 'starts'))}, 'utf8').length; ${then}`,
    ],
    say: (line) => said.push(line),
    delay: 1,
    ...options,
  });
const starts = () => readFileSync(join(scratch, 'starts'), 'utf8').length;

test('a command that crashes is started again, and its exit code is ours', async () => {
  expect(await run(`if (starts < 3) process.kill(process.pid, 'SIGABRT'); else process.exit(7)`)).toBe(7);
  expect(starts()).toBe(3);
  expect(said).toHaveLength(2);
  expect(said[0]).toMatch(/crashed \(SIGABRT\).*starting it again/);
});

test('one that crashes all the time is given up', async () => {
  expect(await run(`process.kill(process.pid, 'SIGSEGV')`, { crashes: 2 })).toBe(1);
  expect(starts()).toBe(3);
  expect(said.at(-1)).toMatch(/crashed 3 times \(SIGSEGV\): it is not started again/);
});

test('one that ends, well or badly, or is killed, is not', async () => {
  expect(await run(`process.exit(0)`)).toBe(0);
  expect(await run(`process.exit(1)`)).toBe(1);
  expect(await run(`process.kill(process.pid, 'SIGKILL')`)).toBe(128);
  expect(starts()).toBe(3);
  expect(said).toEqual([]);
});

test('what tells us to stop tells the command to stop', async () => {
  const ready = join(scratch, 'ready');
  const running = run(
    `process.on('SIGTERM', () => process.exit(3)); setInterval(() => {}, 1000); fs.writeFileSync(${JSON.stringify(ready)}, '')`,
  );
  while (!existsSync(ready)) await new Promise((resolve) => setTimeout(resolve, 10));
  process.emit('SIGTERM', 'SIGTERM');
  expect(await running).toBe(3);
  expect(starts()).toBe(1);
});
