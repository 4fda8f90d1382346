/** Requests of a tab, with the same retries as in Node. */
import { HubError } from '../errors.js';
import {
  askedWait,
  isPassing,
  PATIENCE,
  persist,
  statusInWords,
  Transient,
  whenAgain,
} from '../hub/patience.js';

/** What is requested: its name in error messages, and its address. */
export interface Asked {
  readonly name: string;
  readonly url: string;
}

/** Options of `ask`. */
export interface Attempts {
  /** The headers of the next request; a `Range` may depend on the bytes received by then. */
  readonly headers: () => Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  /** Bytes that all attempts together have received. */
  readonly gained?: () => number;
}

/**
 * Requests something until `take` has processed a response, with retries after a broken connection (a `TypeError`) or a `Transient`.
 * Throws `HubError` when no retry is left, the signal's reason when it is aborted, and any other error of `take`.
 */
export function ask<T>(
  { name, url }: Asked,
  { headers, signal, gained }: Attempts,
  take: (response: Response) => Promise<T>,
): Promise<T> {
  const { host } = new URL(url);
  let isReached = false;
  const attempt = async (): Promise<T> => {
    signal?.throwIfAborted();
    try {
      // The browser's HTTP cache may be outdated, and the files are stored elsewhere anyway.
      const response = await fetch(url, { cache: 'no-store', headers: headers(), ...(signal && { signal }) });
      isReached = true;
      return await take(response);
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof TypeError)) throw error;
      const given = isReached
        ? `${name} could not be loaded from ${host}: ${error.message}. What was received is kept: load it again to resume.`
        : `${host} could not be reached for ${name}: ${error.message}. Check the connection, and whether the host lets other sites read its files (CORS).`;
      throw new Transient(error.message, new HubError(given, { cause: error }));
    }
  };
  return persist(attempt, {
    patience: PATIENCE,
    signal,
    ...(gained && { gained }),
    // If no request was ever answered, the network or a permission is probably missing, and a retry is useless.
    isHopeless: () => !isReached || !navigator.onLine,
  });
}

/** The error for a failed response: a `Transient` if a retry may succeed; undefined for a status that the caller must interpret. */
export function passing(
  { name, url }: Asked,
  { status, headers, redirected }: Response,
): Transient | undefined {
  // A signed link that the host redirected to may have expired; the next attempt gets a new one.
  if (!isPassing(status) && !(status === 403 && redirected)) return undefined;
  const { host } = new URL(url);
  const wait = askedWait(headers);
  const given = new HubError(
    `${name} could not be loaded: ${host} ${statusInWords(status)}. What was received is kept: load it again ${whenAgain(wait)}.`,
  );
  return new Transient(`${host} answered with status ${status}`, given, wait);
}
