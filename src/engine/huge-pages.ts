/**
 * Memory in huge pages. Weights and states are read from one end to the other for every token, and in pages of 4 kB much of
 * that time goes to finding the pages. Where Linux gives huge ones to those who ask (as most distributions have it), glibc
 * asks if a process was begun with this in its environment.
 */
const TUNABLE = 'glibc.malloc.hugetlb';

/** The environment with that asked for, or itself where it says something of it already, or this is not Linux. */
export function withHugePages(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { GLIBC_TUNABLES: others } = environment;
  if (process.platform !== 'linux' || others?.includes(TUNABLE)) return environment;
  return { ...environment, GLIBC_TUNABLES: `${others ? `${others}:` : ''}${TUNABLE}=1` };
}
