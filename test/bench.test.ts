/** `npm run bench -- stream` on a short stream: that it measures what it says, never how fast this machine is. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { build } from './testing/heddle.js';

beforeAll(() => build());

test('a state stays as large as it is, and one that keeps every token grows', () => {
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
