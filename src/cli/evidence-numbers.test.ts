/** Each number that is told of a finding has its unit. */
import { expect, test } from 'vitest';
import type { Finding } from '../evidence/index.js';
import { numbersTold } from './evidence-numbers.js';

const told = (numbers: Finding['numbers'], stages?: string): string =>
  numbersTold({ key: 'ability/x/y/seed 1', settings: { ...(stages && { stages }) }, numbers } as Finding);

test('shares, errors, sizes, times and counts are told with their units', () => {
  expect(
    told(
      {
        ...{ loss: 0.0245149, accuracy: 0.998, tokens: 58_327_040, parameters: 585_197 },
        ...{ 'score: 512 tokens': 0.9978, 'answers: 512 tokens': 4096 },
      },
      'mqar-64: 700 x 256',
    ),
  ).toBe(
    'loss 0.02451 nats, accuracy 99.8 %, 58.3M tokens, 585k parameters, 512 tokens: 99.8 %, 4,096 answers',
  );
  expect(
    told({ loss: 0.118, 'score: 28 values': 0.11809, 'baseline: linear': 0.1184 }, 'births: 400 x 64'),
  ).toBe('loss 0.118, 28 values: 0.118, linear: 0.118');
  expect(told({ 'bytes at 65536': 69_316_608, 'peak bytes': 8.2e9, 'state bytes': 2e6 })).toBe(
    '69.3 MB at 65536, peak 8.20 GB, state 2.00 MB',
  );
  expect(
    told({
      context: 8192,
      seconds: 2.52661,
      watts: 380.51,
      'tokens/s': 134554.8,
      'joules for 1,000 tokens': 2.83,
    }),
  ).toBe('behind 8,192 tokens, 2.527 s, 380.5 W, 134,555 tokens/s, 2.83 J for 1,000 tokens');
  expect(told({ loss: 0.2965 }, 'heartbeat: 500 x 16')).toBe('loss 0.2965');
});
