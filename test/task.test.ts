/** `heddle task` on the command line: the list, a run that ends with a test, and refusals. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { build, heddle } from './testing/heddle.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-task-command-'));
beforeAll(build);
afterAll(() => rmSync(here, { recursive: true, force: true }));
const at = (name: string): string => join(here, name);

test('lists the tasks with the score of guessing', async () => {
  const { stdout, code } = await heddle(['task', 'list']);
  expect(stdout).toMatch(/^ +task +score of guessing +learned from +tested on/);
  expect(stdout).toMatch(
    /induction +6\.3 % accuracy +256 tokens +256 \| 4,096 \| 65,536 tokens +what stood behind a mark/,
  );
  expect(stdout).toMatch(/mnist +10\.0 % accuracy +49 patches +49 patches/);
  for (const line of stdout.trimEnd().split('\n').slice(1))
    expect(line).toMatch(
      /\d (tokens|bytes|patches|positions) .*\d (tokens|bytes|patches|positions|rows ahead) /,
    );
  expect(code).toBe(0);
});

test('the evidence lists its work, and refuses an unknown section', async () => {
  const { stdout, code } = await heddle([
    'evidence',
    '--list',
    '--section',
    'memory',
    '--only',
    'ssm',
    '--device',
    'cuda',
  ]);
  expect(stdout).toBe('memory/ssm\n');
  expect(code).toBe(0);
  const refused = await heddle(['evidence', '--section', 'speed', '--out', at('none')]);
  expect(refused.stderr).toMatch(/there is no section 'speed'; there are memory, time, energy/);
  expect(refused.code).toBe(1);
  expect(existsSync(at('none'))).toBe(false);
});

/** A task that is trained in seconds. */
const PARITY = ['task', 'run', 'parity', '--length', '6', '--pattern', 'M-', '--threads', '1'];

test('trains, tests, and prints both results', async () => {
  const args = [...PARITY, '--steps', '30', '--examples', '8'];
  const { stdout, stderr, code } = await heddle([...args, '--out', at('run')]);
  expect(stderr).toMatch(/model +M-, .* parameters/);
  expect(stderr).toMatch(/done: \d+\.\d % of the answers right, model in /);
  expect(stdout).toMatch(/tested on +accuracy +chance +published\n +6 tokens +\d+\.\d % +50\.0 %/);
  expect(stdout).toMatch(/ 256 tokens +\d+\.\d % +50\.0 %/);
  expect(code).toBe(0);
});

test('a signal ends the test of a trained model', async () => {
  const { code, stdout } = await heddle(
    [...PARITY, '--steps', '0', '--examples', '20000', '--out', at('stopped')],
    (stderr, child) => {
      if (stderr.includes('done: ')) child.kill('SIGTERM');
    },
  );
  // Between the training and the test a signal ends the process by itself.
  expect([130, null]).toContain(code);
  expect(stdout).toBe('');
});

test.each([
  [['chess'], /there is no task 'chess'; there are mqar-8/],
  [['mqar-16', '--length', '20'], /mqar-16 needs 64 tokens at least, and 20 were asked for/],
  [['parity', '--pattern', 'Mx'], /letter 'x'/],
  [['parity', '--set', 'hidden_sise=8'], /unknown keys: hidden_sise/],
  [['parity', '--set', 'hidden_size'], /expected a key and a value/],
])('run %j is refused, and writes nothing', async (args, message) => {
  const { code, stderr } = await heddle(['task', 'run', ...args, '--out', at('none')]);
  expect(stderr.trim().split('\n').at(-1)).toMatch(message);
  expect(code).toBe(1);
  expect(existsSync(at('none'))).toBe(false);
});
