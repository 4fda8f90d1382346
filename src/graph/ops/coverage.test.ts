/** No operator goes unproved: whoever adds one adds a case. */
import { expect, test } from 'vitest';
import { isDifferentiable, operators } from '../index.js';
import { casesOf } from './testing/index.js';

/** What has no value of its own to prove, or a test of its own. */
const ELSEWHERE = ['input', 'detach', 'loop'];
/** What is nothing but another operator's gradient, and is proved as that. */
const GRADIENTS = [
  'selectiveScanGradient',
  'linearRecurrenceGradient',
  'crossEntropyGradient',
  'rmsNormGradient',
  'rmsNormWeightGradient',
];

test('every operator is proved by a case', () => {
  const missing = [...operators().keys()].filter((name) => casesOf(name).length === 0);
  expect(missing.filter((name) => ![...ELSEWHERE, ...GRADIENTS].includes(name))).toEqual([]);
});

test('no operator with a gradient is excused', () => {
  for (const name of ELSEWHERE) {
    expect(isDifferentiable(operators().get(name)!), name).toBe(false);
  }
});
