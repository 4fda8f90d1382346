/**
 * Transparent huge pages. Every token streams all weights and states through the processor, and with pages of 4 kB much of that time goes
 * to TLB misses. Where Linux grants huge pages on `madvise` (the default of most distributions), glibc requests them if the process was
 * started with these tunables. Allocations above 1 MiB are mapped separately: otherwise, when the heap cannot grow in place, each matrix
 * is rounded up to whole huge pages.
 */
const TUNABLES = { 'glibc.malloc.hugetlb': 1, 'glibc.malloc.mmap_threshold': 2 ** 20 };

/** The environment with these tunables; unchanged if it sets one of them already, or if this is not Linux. */
export function withHugePages(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { GLIBC_TUNABLES: others = '' } = environment;
  if (process.platform !== 'linux' || Object.keys(TUNABLES).some((name) => others.includes(name))) {
    return environment;
  }
  const settings = Object.entries(TUNABLES).map(([name, value]) => `${name}=${value}`);
  return { ...environment, GLIBC_TUNABLES: [...(others ? [others] : []), ...settings].join(':') };
}
