import { expect, test } from 'vitest';
import { release } from './release.js';

test('what an array held is free at once', () => {
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 20; i++) {
    const array = new Float32Array(1e6).fill(1);
    release(array);
    expect(array.length).toBe(0);
  }
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8e6);
});

test('a part of a buffer is left to the others', () => {
  const whole = new Float32Array(8).fill(1);
  release(whole.subarray(2));
  expect(whole).toEqual(new Float32Array(8).fill(1));
});
