/**
 * Retries for unreliable connections, in Node and in browsers. A failure that may be temporary (a broken connection, an overloaded
 * server) is retried after a wait, which the server may set; any other error is thrown at once.
 */
import type { HubError } from '../errors.js';

/** Limits of the retries. */
export interface Patience {
  /** Consecutive failed attempts before giving up. */
  readonly retries: number;
  /** Wait before the second attempt, in seconds; doubled for each further attempt. */
  readonly backoff: number;
  /** Seconds without data after which a connection counts as failed. */
  readonly silence: number;
}

/** Five retries, the first one after a second; a host that sends nothing for 60 seconds counts as failed. */
export const PATIENCE: Patience = { retries: 5, backoff: 1, silence: 60 };

/** The longest wait, in seconds, that a server may ask for; after a request for more, the download fails. */
const LONGEST_WAIT = 300;

/** Bytes that an attempt must bring to reset the count of failures, so that a long download survives an occasional cut. */
const WORTHWHILE = 2 ** 20;

/** A failure that may be temporary; `given` is the error to throw when no retry is left. */
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

/** Options of `persist`. */
export interface Persistence {
  readonly patience: Pick<Patience, 'retries' | 'backoff'>;
  readonly signal?: AbortSignal | undefined;
  /** Bytes that all attempts together have downloaded. */
  readonly gained?: () => number;
  /** Whether a retry cannot succeed. */
  readonly isHopeless?: () => boolean;
  readonly onWait?: (seconds: number, reason: string) => void;
}

/**
 * Repeats `attempt` while it fails with a `Transient`. Throws that error's `given` after too many failed attempts without progress;
 * throws the signal's reason when it is aborted, and any other error of `attempt` unchanged.
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

/** Whether a response with this status may succeed when the request is repeated later. */
export function isPassing(status: number): boolean {
  return status === 408 || status === 429 || status >= 500;
}

/** The status of a response as a clause of an error message. */
export function statusInWords(status: number): string {
  return `answered with status ${status}${status === 429 ? ' (too many requests)' : ''}`;
}

/** When to repeat a command: `later`, or `in 20 min, as it asks` if the server asked for a wait longer than `LONGEST_WAIT`. */
export function whenAgain(wait: number | undefined): string {
  return wait !== undefined && wait > LONGEST_WAIT ? `in ${Math.ceil(wait / 60)} min, as it asks` : 'later';
}

/** The wait that a server asks for in its headers, in seconds; undefined if it asks for none. */
export function askedWait(headers: Headers): number | undefined {
  return retryAfter(headers) ?? rateLimitReset(headers);
}

/** `Retry-After` in seconds, given as a number or a date. A date in the past is ignored, since clocks differ. */
function retryAfter(headers: Headers): number | undefined {
  const value = headers.get('retry-after');
  if (value === null) return undefined;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return seconds >= 0 ? seconds : undefined;
}

/**
 * Seconds until a rate limit's window ends, from `RateLimit: "resolvers";r=0;t=55` (IETF draft "RateLimit header fields for
 * HTTP", and Hugging Face's hub) or `RateLimit-Reset: 55` (earlier drafts). Of several exhausted limits the longest
 * counts. The header gives whole seconds, so a little is added.
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
