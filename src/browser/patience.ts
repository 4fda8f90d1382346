/** Requests of a tab, which bear with a bad line as those of Node do. */
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

/** What is asked for: what people call it, and its address. */
export interface Asked {
  readonly name: string;
  readonly url: string;
}

/** How it is asked for. */
export interface Attempts {
  /** Those of each request, which may ask for what is missing by then. */
  readonly headers: () => Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  /** How many bytes the attempts have come forward, in all. */
  readonly gained?: () => number;
}

/**
 * Asks for something until `take` has taken it from an answer, as long as what it fails with may pass: a connection that breaks off, which
 * is a `TypeError`, or a `Transient`. Throws `HubError` where it does not pass, the signal's reason, and whatever else `take` throws.
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
      // What the browser's cache holds may be older than what the host has, and what comes is kept elsewhere.
      const response = await fetch(url, { cache: 'no-store', headers: headers(), ...(signal && { signal }) });
      isReached = true;
      return await take(response);
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof TypeError)) throw error;
      const given = isReached
        ? `${name} could not be loaded from ${host}: ${error.message}. What has come is kept: load it again to go on.`
        : `${host} could not be reached for ${name}: ${error.message}. Check the connection, and whether the host lets other sites read its files (CORS).`;
      throw new Transient(error.message, new HubError(given, { cause: error }));
    }
  };
  return persist(attempt, {
    patience: PATIENCE,
    signal,
    ...(gained && { gained }),
    // Before anything has answered there is probably no network, or no permission, and no use in trying again.
    isHopeless: () => !isReached || !navigator.onLine,
  });
}

/** The error for an answer that is no success: a `Transient` for one that may pass; undefined for one that means something of its own. */
export function passing(
  { name, url }: Asked,
  { status, headers, redirected }: Response,
): Transient | undefined {
  // A link that the host gave may have run out; the next attempt gets a new one.
  if (!isPassing(status) && !(status === 403 && redirected)) return undefined;
  const { host } = new URL(url);
  const wait = askedWait(headers);
  const given = new HubError(
    `${name} could not be loaded: ${host} ${statusInWords(status)}. What has come is kept: load it again ${whenAgain(wait)}.`,
  );
  return new Transient(`${host} answered with status ${status}`, given, wait);
}
