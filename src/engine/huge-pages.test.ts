import { expect, test } from 'vitest';
import { withHugePages } from './huge-pages.js';

const linux = process.platform === 'linux';

const ours = 'glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1048576';

test.runIf(linux)('glibc is asked for huge pages, beside what it is asked for already', () => {
  expect(withHugePages({ HOME: '/root' })).toEqual({ HOME: '/root', GLIBC_TUNABLES: ours });
  expect(withHugePages({ GLIBC_TUNABLES: 'glibc.malloc.arena_max=1' })).toEqual({
    GLIBC_TUNABLES: `glibc.malloc.arena_max=1:${ours}`,
  });
});

test('whoever decided otherwise is left alone, and so is every other system', () => {
  const decided = { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=0' };
  expect(withHugePages(decided)).toBe(decided);
  const once = withHugePages({});
  expect(withHugePages(once)).toBe(once);
  if (!linux) expect(once).toEqual({});
});
