/** The results of the server benchmark as text. */
import type { LoadResult, SoakResult } from './serve-section.js';
import { decimal, megabytes, milliseconds, percent, table } from './table.js';

function servedHeads(): string[] {
  return [
    'clients',
    'prompts',
    'tokens/s',
    'of one',
    'first token',
    'p99',
    'a token',
    'p99',
    'longest gap',
    'reused',
    'healthz p99',
    'memory',
  ];
}

/** A row of the table; `one` is the throughput of one client. */
function servedRow(load: LoadResult, one: number): string[] {
  return [
    String(load.clients),
    load.shared ? 'begin alike' : 'differ',
    decimal(load.tokensPerSecond),
    `${(load.tokensPerSecond / one).toFixed(2)} x`,
    milliseconds(load.firstToken.median),
    milliseconds(load.firstToken.p99),
    milliseconds(load.perToken.median),
    milliseconds(load.perToken.p99),
    milliseconds(load.longestGap.median),
    percent(load.reused),
    milliseconds(load.health.p99),
    megabytes(load.residentBytes),
  ];
}

/** A table of loads: rates, delays and memory. */
export function servedText(name: string, loads: readonly LoadResult[]): string {
  const one = loads[0]!.tokensPerSecond;
  return `serve: ${name}\n${table([servedHeads(), ...loads.map((load) => servedRow(load, one))])}`;
}

/** The speedup of a batch, compared with what its matrix products allow. */
export function gainText(loads: readonly LoadResult[], clients: number, allowed: number): string {
  const load = loads.find((each) => each.clients === clients && !each.shared)!;
  const gain = load.tokensPerSecond / loads[0]!.tokensPerSecond;
  return `${clients} clients: ${gain.toFixed(2)} x of one; 4-bit matrix products alone allow ${allowed.toFixed(2)} x, of which that is ${percent(gain / allowed)}`;
}

/** The memory during the soak test. */
export function soakText({ seconds, answers, residentBytes }: SoakResult): string {
  const memory = residentBytes.map((bytes) => decimal(bytes / 1e6)).join(', ');
  return `soak: ${answers} answers in ${decimal(seconds)} s, memory of the server beside its prefix cache, at every tenth of that: ${memory} MB`;
}
