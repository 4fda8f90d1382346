/**
 * Bearing with a bad line, in Node and in a browser's tab alike: what may pass (a broken connection, an overloaded server) is tried
 * again after a while, or after as long as the server asks for; anything else fails at once.
 */
import type { HubError } from '../errors.js';

/** How long to bear with a bad line. */
export interface Patience {
  /** Failures in a row that are borne before giving up. */
  readonly retries: number;
  /** Wait before the second attempt, in seconds; doubled for each one after it. */
  readonly backoff: number;
  /** Silence after which a connection counts as cut, in seconds. */
  readonly silence: number;
}

/** Five retries, the first one after a second; a host that sends nothing for 60 seconds counts as failed. */
export const PATIENCE: Patience = { retries: 5, backoff: 1, silence: 60 };

/** A server that asks for a longer wait than this, in seconds, is not waited for. */
const LONGEST_WAIT = 300;

/** An attempt that brought this many bytes was worth it: a line that is cut once an hour does not add up to giving up. */
const WORTHWHILE = 2 ** 20;

/** What may be over after a while; `given` is the error when it is not. */
export class Transient extends Error {
  constructor(
    /** What happened, as a clause. */
    readonly reason: string,
    readonly given: HubError,
    /** How long the server asks to wait, in seconds. */
    readonly wait?: number,
  ) {
    super(reason);
  }
}

/** How `persist` tries again. */
export interface Persistence {
  readonly patience: Pick<Patience, 'retries' | 'backoff'>;
  readonly signal?: AbortSignal | undefined;
  /** How many bytes the attempts have come forward, in all. */
  readonly gained?: () => number;
  /** Whether there is no use in trying again. */
  readonly isHopeless?: () => boolean;
  readonly onWait?: (seconds: number, reason: string) => void;
}

/**
 * Repeats `attempt` while it fails with a `Transient`. Throws that one's `given` when it fails too often without bringing anything, the
 * signal's reason, and whatever else `attempt` throws.
 */
export async function persist<T>(
  attempt: () => Promise<T>,
  { patience, signal, gained = () => 0, isHopeless = () => false, onWait }: Persistence,
): Promise<T> {
  for (let failures = 1; ; failures++) {
    const before = gained();
    try {
      return await attempt();
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof Transient)) throw error;
      if (gained() - before >= WORTHWHILE) failures = 1;
      if (isHopeless() || failures > patience.retries) throw error.given;
      const seconds = error.wait ?? patience.backoff * 2 ** (failures - 1);
      if (seconds > LONGEST_WAIT) throw error.given;
      onWait?.(seconds, error.reason);
      await sleep(seconds * 1000, signal);
    }
  }
}

function sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, milliseconds);
    signal?.addEventListener('abort', abort, { once: true });
  });
}

/** Whether a server that answers with this status may give what it was asked for a while later. */
export function isPassing(status: number): boolean {
  return status === 408 || status === 429 || status >= 500;
}

/** An answer's status as a clause. */
export function statusInWords(status: number): string {
  return `answered with status ${status}${status === 429 ? ' (too many requests)' : ''}`;
}

/** When to run the same again, after a wait that a server asks for: `later`, or `in 20 min, as it asks` where that is not waited for. */
export function whenAgain(wait: number | undefined): string {
  return wait !== undefined && wait > LONGEST_WAIT ? `in ${Math.ceil(wait / 60)} min, as it asks` : 'later';
}

/** How long a server asks to wait, in seconds, where its answer says so. */
export function askedWait(headers: Headers): number | undefined {
  return retryAfter(headers) ?? rateLimitReset(headers);
}

/** `Retry-After` in seconds: it is a number of them, or a date. One that has passed says nothing: clocks differ. */
function retryAfter(headers: Headers): number | undefined {
  const value = headers.get('retry-after');
  if (value === null) return undefined;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return seconds >= 0 ? seconds : undefined;
}

/**
 * What is left of a rate limit's window in seconds, as `RateLimit: "resolvers";r=0;t=55` says it (IETF draft "RateLimit
 * header fields for HTTP", and Hugging Face's hub), or `RateLimit-Reset: 55`, as earlier drafts did. Of several limits the
 * longest counts of those that are used up. The servers' seconds are whole, so a little is added.
 */
function rateLimitReset(headers: Headers): number | undefined {
  const limits = (headers.get('ratelimit') ?? '').split(',').map((limit) => {
    const value = (name: string): number | undefined => {
      const found = new RegExp(`;\\s*${name}\\s*=\\s*(\\d+)`).exec(limit)?.[1];
      return found === undefined ? undefined : Number(found);
    };
    return { left: value('r'), reset: value('t') };
  });
  const waits = limits.flatMap(({ left, reset }) => (reset === undefined || (left ?? 0) > 0 ? [] : [reset]));
  const earlier = headers.get('ratelimit-reset') ?? '';
  if (waits.length === 0 && /^\d+$/.test(earlier)) waits.push(Number(earlier));
  return waits.length === 0 ? undefined : Math.max(...waits) + 0.5;
}
