/** The memory limit for several answers of the system; and digests of more bytes than Node takes in one call. */
import { createHash } from 'node:crypto';
import { totalmem } from 'node:os';
import { afterEach, expect, test, vi } from 'vitest';
import { mostMemory, sha256 } from './process.js';

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

test('a digest in pieces is that of the whole', () => {
  const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);
  const whole = createHash('sha256').update('a').update(bytes).digest('hex');
  for (const most of [1, 7, 999, 1000, 5000])
    expect(sha256(most).update('a').update(bytes).digest('hex')).toBe(whole);
});
