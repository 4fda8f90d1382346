/**
 * Memory in huge pages. Weights and states are read from one end to the other for every token, and in pages of 4 kB much of
 * that time goes to finding the pages. Where Linux gives huge ones to those who ask (as most distributions have it), glibc
 * asks if a process was begun with this in its environment. What has more than 1 MiB is mapped for itself: else, where the
 * heap cannot grow because something stands behind it, each matrix takes up whole huge pages.
 */
const TUNABLES = { 'glibc.malloc.hugetlb': 1, 'glibc.malloc.mmap_threshold': 2 ** 20 };

/** The environment with that asked for, or itself where it says something of it already, or this is not Linux. */
export function withHugePages(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { GLIBC_TUNABLES: others = '' } = environment;
  if (process.platform !== 'linux' || Object.keys(TUNABLES).some((name) => others.includes(name))) {
    return environment;
  }
  const settings = Object.entries(TUNABLES).map(([name, value]) => `${name}=${value}`);
  return { ...environment, GLIBC_TUNABLES: [...(others ? [others] : []), ...settings].join(':') };
}
