/**
 * Talking to a hub or a package index over HTTP: who gets the token, and what is tried again.
 *
 * The token goes to the source's own origin and nowhere else: large files come from another host, to which the source
 * redirects, so redirects are followed here, one by one. What may pass (a cut connection, an overloaded server) is a
 * `Transient`, and `persist` tries again; everything else is a `HubError` at once.
 */
import { HubError } from '../errors.js';
import {
  askedWait,
  isPassing,
  type Patience,
  persist,
  statusInWords,
  Transient,
  whenAgain,
} from './patience.js';
import { fetchThroughProxies } from './proxy.js';

/** Where things come from over HTTP. */
export interface Source {
  /** Its address, without a slash at its end. */
  readonly endpoint: string;
  /** The header that lets us in. It goes to the endpoint's origin (scheme, host and port) and nowhere else. */
  readonly authorization?: string;
  /** What is asked for (`Accept`), if not anything. */
  readonly accept?: string;
  /** The setting that names the endpoint, for people. */
  readonly setting: string;
  /** What else can be done where it cannot be reached, as a sentence. */
  readonly otherwise: string;
  /** What it means by an answer that is no success, if that is more than its status says. */
  refusal(response: Response): Error | undefined;
}

const MOST_REDIRECTS = 10;

/** The answer to a request that has succeeded. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** The checksum that the source gave for the file on the way here, as it wrote it. */
  readonly etag: string | undefined;
  /** The host that answered at last. */
  readonly host: string;
  /** The body's bytes as they come. To be read to its end, or left by `discard`. */
  readonly body: AsyncIterable<Uint8Array>;
  discard(): void;
}

/** Requests to one source. */
export class Connection {
  /** The source's name, for people. */
  readonly host: string;
  readonly #origin: string;
  /** Whether anything has ever answered. */
  #reached = false;

  constructor(
    private readonly source: Source,
    private readonly patience: Patience,
    private readonly signal: AbortSignal | undefined,
    private readonly onWait: (seconds: number, reason: string) => void,
  ) {
    const { host, origin } = new URL(source.endpoint);
    this.host = host;
    this.#origin = origin;
  }

  /**
   * Repeats `attempt` while it fails with a `Transient`. `gained` is how many bytes it has come forward, in all.
   *
   * @throws HubError when it fails too often without bringing anything, and whatever else `attempt` throws
   */
  async persist<T>(attempt: () => Promise<T>, gained: () => number = () => 0): Promise<T> {
    return persist(attempt, {
      patience: this.patience,
      signal: this.signal,
      gained,
      // Before anything has answered there is probably no network, and no use in trying again.
      isHopeless: () => !this.#reached,
      onWait: this.onWait,
    });
  }

  /** One attempt to get a text of at most `limit` bytes. Throws `Transient`, `HubError`. */
  async text(url: string, limit: number): Promise<{ text: string; headers: Headers }> {
    const answer = await this.get(url);
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of answer.body) {
      chunks.push(chunk);
      bytes += chunk.byteLength;
      if (bytes > limit) {
        throw new HubError(`${answer.host} answered with more than ${limit} bytes, which cannot be right.`);
      }
    }
    return { text: Buffer.concat(chunks).toString('utf8'), headers: answer.headers };
  }

  /**
   * One attempt to get a URL, whole or from byte `from` on; the answer's status is then 200, 206 or 416.
   *
   * @throws Transient, HubError, what the source's `refusal` gives; and the signal's reason when that is aborted
   */
  async get(url: string, from = 0): Promise<Answer> {
    const silence = new AbortController();
    const watch = setTimeout(() => silence.abort(), this.patience.silence * 1000);
    const signal = this.signal ? AbortSignal.any([this.signal, silence.signal]) : silence.signal;
    let at = new URL(url);
    let etag: string | undefined;
    try {
      for (let redirects = 0; ; redirects++) {
        const headers = new Headers({ accept: this.source.accept ?? '*/*', 'accept-encoding': 'identity' });
        if (from > 0) headers.set('range', `bytes=${from}-`);
        const isSource = at.origin === this.#origin;
        const { authorization } = this.source;
        if (isSource && authorization !== undefined) headers.set('authorization', authorization);
        const send = await fetchThroughProxies();
        const response = await send(at, { headers, signal, redirect: 'manual' });
        this.#reached = true;
        watch.refresh();
        if (isSource) etag = response.headers.get('x-linked-etag') ?? etag ?? ownEtag(response);
        if (response.ok || response.status === 416) {
          const { status, headers } = response;
          const body = this.#bytesOf(response, at, watch, silence.signal);
          return { status, headers, etag, host: at.host, body, discard: () => abandon(response, watch) };
        }
        abandon(response);
        if (![301, 302, 303, 307, 308].includes(response.status)) {
          throw (isSource ? this.source.refusal(response) : undefined) ?? statusError(at.host, response);
        }
        at = this.#redirected(at, response, redirects);
      }
    } catch (error) {
      clearTimeout(watch);
      throw this.#inWords(error, at, silence.signal);
    }
  }

  async *#bytesOf(
    response: Response,
    at: URL,
    watch: NodeJS.Timeout,
    silence: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of response.body ?? []) {
        watch.refresh();
        yield chunk as Uint8Array;
      }
    } catch (error) {
      throw this.#inWords(error, at, silence);
    } finally {
      clearTimeout(watch);
    }
  }

  #redirected(at: URL, response: Response, redirects: number): URL {
    const location = response.headers.get('location') ?? '';
    const next = URL.canParse(location, at.href) ? new URL(location, at) : undefined;
    const fine = next !== undefined && /^https?:$/.test(next.protocol) && redirects < MOST_REDIRECTS;
    if (fine) return next;
    throw new HubError(
      `${at.host} redirects ${redirects < MOST_REDIRECTS ? 'to nowhere' : 'in circles'}. Check ${this.source.setting}, or try again later.`,
    );
  }

  #inWords(error: unknown, at: URL, silence: AbortSignal): unknown {
    this.signal?.throwIfAborted();
    if (silence.aborted) return cut(at.host, `sent nothing for ${this.patience.silence} s`, error);
    if (!(error instanceof TypeError)) return error;
    const cause = error.cause as NodeJS.ErrnoException | undefined;
    const detail = cause?.code ?? cause?.message ?? error.message;
    if (error.message !== 'fetch failed') return cut(at.host, `cut the connection (${detail})`, error);
    const unreachable = `could not be reached (${detail})`;
    if (this.#reached) return cut(at.host, unreachable, error);
    return new Transient(
      `${at.host} ${unreachable}`,
      new HubError(
        `${at.host} ${unreachable}. Check the network, and run the same command again. ${this.source.otherwise}`,
        { cause: error },
      ),
    );
  }
}

function cut(host: string, what: string, cause: unknown): Transient {
  return new Transient(
    `${host} ${what}`,
    new HubError(
      `${host} ${what}, again and again. What was downloaded is kept: run the same command later to go on.`,
      { cause },
    ),
  );
}

/** The error for a status that says nothing more. */
function statusError(host: string, response: Response): Error {
  const { status } = response;
  const wait = isPassing(status) ? askedWait(response.headers) : undefined;
  const given = new HubError(
    `${host} ${statusInWords(status)}. What was downloaded is kept: run the same command ${whenAgain(wait)}.`,
  );
  // A link that the source gave may have run out; the next attempt gets a new one.
  return isPassing(status) || status === 403
    ? new Transient(`${host} answered with status ${status}`, given, wait)
    : given;
}

/** A redirect's own ETag is not its target's. */
function ownEtag(response: Response): string | undefined {
  return response.ok ? (response.headers.get('etag') ?? undefined) : undefined;
}

function abandon(response: Response, watch?: NodeJS.Timeout): void {
  clearTimeout(watch);
  // Where the connection is gone already, there is nothing left to cancel.
  response.body?.cancel().catch(() => {});
}
