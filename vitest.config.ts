import { defineConfig } from 'vitest/config';
import { NODE } from './scripts/platforms.mjs';

export default defineConfig({
  resolve: { alias: NODE },
  test: {
    include: ['src/**/*.test.ts', 'studio/src/**/*.test.ts', 'test/**/*.test.ts'],
    globalSetup: ['scripts/kernels.mjs', 'test/testing/run.ts'],
    // Machines differ by an order of magnitude: a test fails on a wrong answer, never on a slow one.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    // The engine computes on two threads of its own; more workers only get in each other's way.
    maxWorkers: 2,
  },
});
