/**
 * HTTP requests to a hub or a package index: who gets the token, and what is retried.
 *
 * The token is sent to the source's own origin only. Large files are served by another host, to which the source
 * redirects, so redirects are followed here one by one. A failure that may be temporary (a cut connection, an overloaded server)
 * throws `Transient`, which `persist` retries; any other failure throws `HubError` at once.
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

/** An HTTP server that files are downloaded from. */
export interface Source {
  /** Its address, without a trailing slash. */
  readonly endpoint: string;
  /** The `Authorization` header. It is sent only to the endpoint's origin (scheme, host and port). */
  readonly authorization?: string;
  /** The `Accept` header; default: any type. */
  readonly accept?: string;
  /** The setting that names the endpoint, in error messages. */
  readonly setting: string;
  /** A sentence that says what else can be done if it cannot be reached. */
  readonly otherwise: string;
  /** The error for a failed response, if it says more than its status. */
  refusal(response: Response): Error | undefined;
}

const MOST_REDIRECTS = 10;

/** A successful response. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** The ETag that the source itself (not the host it redirects to) gave for the file, unparsed. */
  readonly etag: string | undefined;
  /** The host that sent the response, after redirects. */
  readonly host: string;
  /** The body's bytes. The caller must read it to its end or call `discard`. */
  readonly body: AsyncIterable<Uint8Array>;
  discard(): void;
}

/** Requests to one source. */
export class Connection {
  /** The source's name in error messages. */
  readonly host: string;
  readonly #origin: string;
  /** Whether any request has had a response. */
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
   * Repeats `attempt` while it fails with a `Transient`. `gained` returns the bytes that all attempts together have downloaded.
   *
   * @throws HubError after too many failed attempts without progress, and any other error of `attempt`
   */
  async persist<T>(attempt: () => Promise<T>, gained: () => number = () => 0): Promise<T> {
    return persist(attempt, {
      patience: this.patience,
      signal: this.signal,
      gained,
      // If no request was ever answered, the network is probably down, and a retry is useless.
      isHopeless: () => !this.#reached,
      onWait: this.onWait,
    });
  }

  /** Makes one attempt to get a text of at most `limit` bytes. Throws `Transient` or `HubError`. */
  async text(url: string, limit: number): Promise<{ text: string; headers: Headers }> {
    const answer = await this.get(url);
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of answer.body) {
      chunks.push(chunk);
      bytes += chunk.byteLength;
      if (bytes > limit) {
        throw new HubError(`${answer.host} answered with more than ${limit} bytes, which no such list has.`);
      }
    }
    return { text: Buffer.concat(chunks).toString('utf8'), headers: answer.headers };
  }

  /**
   * Makes one attempt to get a URL, whole or from byte `from` on; the response's status is then 200, 206 or 416.
   *
   * @throws Transient, HubError, or the source's `refusal`; and the signal's reason when it is aborted
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
    // undici's words for a proxy that does not open a tunnel.
    const refusal = /^Proxy response \((\d+)\)/.exec((cause?.cause as Error | undefined)?.message ?? '')?.[1];
    if (refusal !== undefined) return proxyError(at.host, Number(refusal), error);
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

/** The error for a proxy that does not connect to a host. */
function proxyError(host: string, status: number, cause: unknown): Error {
  const said = `the proxy refused to connect to ${host} (status ${status})`;
  const remedy =
    status === 407
      ? 'It asks for a name and a password: set them in HTTPS_PROXY, as in http://NAME:PASSWORD@proxy.example:3128'
      : 'Check HTTPS_PROXY, or name the host in NO_PROXY';
  const given = new HubError(`${said}. ${remedy}, and run the same command again.`, { cause });
  return isPassing(status) ? new Transient(said, given) : given;
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
