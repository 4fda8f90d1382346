/** Benchmarks on small models: they measure what they claim. The speed of this machine is not tested. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { build, heddle } from './testing/heddle.js';

beforeAll(() => build());

test('a fixed state keeps its size, and a state of every token grows', () => {
  const script = fileURLToPath(new URL('../dist/bench/main.js', import.meta.url));
  const args = [script, 'stream', '--tokens', '2000', '--stretch', '400', '--threads', '1'];
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  const [hybrid, transformer] = stdout.split('transformer, tokens') as [string, string];
  const states = (text: string): string[] =>
    [...text.matchAll(/^\s+([\d,]+)\s+[\d.,]+\s+█+\s+([\d.]+ MB)/gm)].map(
      ([, tokens, state]) => `${tokens}: ${state}`,
    );
  expect(states(hybrid)).toEqual(['400: 1.6 MB', '800: 1.6 MB', '2,000: 1.6 MB']);
  // Keys and values of ten layers of 256 numbers, with the room behind them: it grows by 20 kB a token.
  const sizes = states(transformer).map((line) => Number(line.split(' ')[1]));
  expect(sizes).toHaveLength(3);
  expect(sizes[2]! / sizes[0]!).toBeGreaterThan(2);
});

test.each([[], ['gpu']])(
  'a result that could not be written is refused before the work: bench %s',
  (...command) => {
    const script = fileURLToPath(new URL('../dist/bench/main.js', import.meta.url));
    const args = [script, ...command, '--json', 'none/result.json'];
    const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/Could not write none\/result\.json/);
  },
);

test('bench ops prints the steps of a token, and their times add up', async () => {
  const { code, stdout, stderr } = await heddle([
    'bench',
    'ops',
    'sotu-hybrid',
    '--rounds',
    '2',
    '--threads',
    '1',
  ]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const [, count, sum] = /sotu-hybrid: ([\d,]+) steps .* all steps is ([\d.,]+) ms/.exec(stdout)!;
  const rows = [...stdout.matchAll(/^ {2}(\S.*?) {2,}(\d+) +([\d.]+) +[\d.]+ %/gm)];
  const total = (column: number): number => rows.reduce((all, row) => all + Number(row[column]), 0);
  expect(total(2)).toBe(Number(count));
  expect(Math.abs(total(3) - Number(sum))).toBeLessThan(0.1 + 0.01 * Number(sum));
  // The shipped model's eight Mamba-2 layers have a step each.
  expect(rows.find(([, label]) => label === 'recurrence')?.[2]).toBe('8');
});

test('bench ops refuses a folder without a model before it measures', async () => {
  const { code, stdout, stderr } = await heddle(['bench', 'ops', 'nosuch']);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/^heddle: nosuch is not a model: there is no such folder/);
});

test('bench gpu --devices tells which form could not be measured, and why', () => {
  const script = fileURLToPath(new URL('../dist/bench/main.js', import.meta.url));
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [script, 'gpu', '--devices', '2', '--quick'],
    {
      encoding: 'utf8',
      env: { ...process.env, HEDDLE_PJRT_PLUGIN: '/nosuch.so' },
    },
  );
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  expect(stderr).toMatch(/^bench: 2 GPUs, full ended early: .*HEDDLE_PJRT_PLUGIN is \/nosuch\.so/);
});
