/** The learning rate over a run. */
import { expect, test } from 'vitest';
import { learningRateAt } from './schedule.js';

const schedule = { learningRate: 0.02, warmupSteps: 10, steps: 110 };

test('rises in a line to the highest at the end of the warm-up', () => {
  expect(learningRateAt(schedule, 1)).toBeCloseTo(0.002, 12);
  expect(learningRateAt(schedule, 5)).toBeCloseTo(0.01, 12);
  expect(learningRateAt(schedule, 10)).toBeCloseTo(0.02, 12);
});

test('falls along half a cosine to a tenth at the last step, and stays there', () => {
  expect(learningRateAt(schedule, 60)).toBeCloseTo(0.02 * 0.55, 12);
  expect(learningRateAt(schedule, 35)).toBeCloseTo(0.02 * (0.1 + (0.9 * (1 + Math.SQRT1_2)) / 2), 12);
  expect(learningRateAt(schedule, 110)).toBeCloseTo(0.002, 12);
  expect(learningRateAt(schedule, 500)).toBeCloseTo(0.002, 12);
  for (let step = 11; step <= 110; step++) {
    expect(learningRateAt(schedule, step)).toBeLessThan(learningRateAt(schedule, step - 1));
  }
});

test('without a warm-up begins near the highest', () => {
  const rate = learningRateAt({ ...schedule, warmupSteps: 0 }, 1);
  expect(rate).toBeLessThan(0.02);
  expect(rate).toBeGreaterThan(0.0199);
});

test('a warm-up as long as the run, or longer, only rises', () => {
  for (const warmupSteps of [110, 220]) {
    const rates = Array.from({ length: 110 }, (_, i) => learningRateAt({ ...schedule, warmupSteps }, i + 1));
    expect(rates.every((rate, i) => rate > 0 && rate > (rates[i - 1] ?? 0))).toBe(true);
    expect(rates.at(-1)).toBeCloseTo((0.02 * 110) / warmupSteps, 12);
  }
});

test('a run of one step has a rate', () => {
  for (const warmupSteps of [0, 1, 5]) {
    expect(learningRateAt({ learningRate: 1, warmupSteps, steps: 1 }, 1)).toBeGreaterThan(0);
  }
});
