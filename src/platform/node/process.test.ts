/** What memory there is at most, by what systems answer. */
import { totalmem } from 'node:os';
import { afterEach, expect, test, vi } from 'vitest';
import { mostMemory } from './process.js';

afterEach(() => void vi.restoreAllMocks());

test.each([
  ['a container of less', 2 ** 20, 2 ** 20],
  ['no limit, as 0', 0, totalmem()],
  ['no limit, as the largest number', 2 ** 64, totalmem()],
  ['a system that does not say', undefined as unknown as number, totalmem()],
])('%s', (_, allowed, most) => {
  vi.spyOn(process, 'constrainedMemory').mockReturnValue(allowed);
  // What is free at the moment is not asked.
  vi.spyOn(process, 'availableMemory').mockReturnValue(0);
  expect(mostMemory()).toBe(most);
});
