/**
 * Talking to a hub over HTTP: who gets the token, what is tried again, and what a refusal means.
 *
 * The token goes to the hub's own origin (scheme, host and port) and nowhere else: large files come from another host, to
 * which the hub redirects, so redirects are followed here, one by one. What may pass (a cut connection, an overloaded server)
 * is a `Transient`, and `persist` tries again; everything else is a `HubError` at once.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { quote } from '../checkpoint/index.js';
import { HubError } from '../errors.js';
import { fetchThroughProxies } from './proxy.js';

/** A hub: the address of Hugging Face's, or of one that speaks its protocol. */
export interface Hub {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly token?: string;
}

/** How long to bear with a bad line. */
export interface Patience {
  /** Failures in a row that are borne before giving up. */
  readonly retries: number;
  /** Wait before the second attempt, in seconds; doubled for each one after it. */
  readonly backoff: number;
  /** Silence after which a connection counts as cut, in seconds. */
  readonly silence: number;
}

export const PATIENCE: Patience = { retries: 5, backoff: 1, silence: 60 };

/** A server that asks for a longer wait than this, in seconds, is not waited for. */
const LONGEST_WAIT = 300;

/** An attempt that brought this many bytes was worth it: a line that is cut once an hour does not add up to giving up. */
const WORTHWHILE = 2 ** 20;

const MOST_REDIRECTS = 10;

/** The hub of `HF_ENDPOINT` (or Hugging Face's), with the token of `HF_TOKEN` or `HUGGING_FACE_HUB_TOKEN`, if any. Throws `HubError`. */
export function hubFromEnvironment(environment: NodeJS.ProcessEnv = process.env): Hub {
  const given = environment.HF_ENDPOINT?.trim() || 'https://huggingface.co';
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new HubError(
      'HF_ENDPOINT is not the address of a hub. Expected one such as https://huggingface.co, without a name or a password in it.',
    );
  }
  const endpoint = `${url.origin}${url.pathname}`.replace(/\/+$/, '');
  const token = (environment.HF_TOKEN?.trim() || environment.HUGGING_FACE_HUB_TOKEN?.trim()) ?? '';
  // What is sent wrong would be shown in an error, so it is not sent.
  if (!/^[\x21-\x7e]*$/.test(token)) {
    throw new HubError('HF_TOKEN holds characters that no token has. Copy it again from the hub.');
  }
  return token === '' ? { endpoint } : { endpoint, token };
}

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

/** The repository has other files than it listed. */
export class Changed extends Error {}

/** The answer to a request that has succeeded. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** The checksum that the hub gave for the file on the way here, as it wrote it. */
  readonly etag: string | undefined;
  /** The host that answered at last. */
  readonly host: string;
  /** The body's bytes as they come. To be read to its end, or left by `discard`. */
  readonly body: AsyncIterable<Uint8Array>;
  discard(): void;
}

/** Requests about one revision of one repository. */
export class Connection {
  /** The hub's name, for people. */
  readonly host: string;
  readonly #origin: string;
  /** Whether anything has ever answered: before that, there is probably no network, and no use in trying again. */
  #reached = false;

  constructor(
    readonly hub: Hub,
    readonly repo: string,
    readonly revision: string,
    private readonly patience: Patience,
    private readonly signal: AbortSignal | undefined,
    private readonly onWait: (seconds: number, reason: string) => void,
  ) {
    const { host, origin } = new URL(hub.endpoint);
    this.host = host;
    this.#origin = origin;
  }

  /**
   * Repeats `attempt` while it fails with a `Transient`. `gained` is how many bytes it has come forward, in all.
   *
   * @throws HubError when it fails too often without bringing anything, and whatever else `attempt` throws
   */
  async persist<T>(attempt: () => Promise<T>, gained: () => number = () => 0): Promise<T> {
    for (let failures = 1; ; failures++) {
      const before = gained();
      try {
        return await attempt();
      } catch (error) {
        this.signal?.throwIfAborted();
        if (!(error instanceof Transient)) throw error;
        if (gained() - before >= WORTHWHILE) failures = 1;
        if (!this.#reached || failures > this.patience.retries) throw error.given;
        const seconds = error.wait ?? this.patience.backoff * 2 ** (failures - 1);
        if (seconds > LONGEST_WAIT) throw error.given;
        this.onWait(seconds, error.reason);
        await sleep(seconds * 1000, undefined, this.signal && { signal: this.signal });
      }
    }
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
   * @throws Transient, HubError, Changed; and the signal's reason when that is aborted
   */
  async get(url: string, from = 0): Promise<Answer> {
    const silence = new AbortController();
    const watch = setTimeout(() => silence.abort(), this.patience.silence * 1000);
    const signal = this.signal ? AbortSignal.any([this.signal, silence.signal]) : silence.signal;
    let at = new URL(url);
    let etag: string | undefined;
    try {
      for (let redirects = 0; ; redirects++) {
        const headers = new Headers({ accept: '*/*', 'accept-encoding': 'identity' });
        if (from > 0) headers.set('range', `bytes=${from}-`);
        const isHub = at.origin === this.#origin;
        if (isHub && this.hub.token !== undefined) headers.set('authorization', `Bearer ${this.hub.token}`);
        const send = await fetchThroughProxies();
        const response = await send(at, { headers, signal, redirect: 'manual' });
        this.#reached = true;
        watch.refresh();
        if (isHub) etag = response.headers.get('x-linked-etag') ?? etag ?? ownEtag(response);
        if (response.ok || response.status === 416) {
          const { status, headers } = response;
          const body = this.#bytesOf(response, at, watch, silence.signal);
          return { status, headers, etag, host: at.host, body, discard: () => abandon(response, watch) };
        }
        abandon(response);
        if (![301, 302, 303, 307, 308].includes(response.status)) {
          throw isHub ? this.#refusal(response) : statusError(at.host, response);
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
      `${at.host} redirects ${redirects < MOST_REDIRECTS ? 'to nowhere' : 'in circles'}. Check HF_ENDPOINT, or try again later.`,
    );
  }

  /** What the hub means by an answer that is no success. */
  #refusal(response: Response): Error {
    const { status, headers } = response;
    const { repo, host, hub } = this;
    const code = headers.get('x-error-code');
    if (code === 'EntryNotFound') return new Changed();
    if (code === 'RevisionNotFound') {
      return new HubError(
        `${repo} has no revision ${quote(this.revision)}. Name a branch, a tag or a commit of it.`,
      );
    }
    const terms = `accept its terms at ${hub.endpoint}/${repo}`;
    if (code === 'GatedRepo') {
      return new HubError(
        hub.token === undefined
          ? `${repo} is gated: ${terms}, and set HF_TOKEN to a token of your account.`
          : `${repo} is gated, and the account of HF_TOKEN has no access to it: ${terms} (some owners then decide), and check that the token may read gated models.`,
      );
    }
    if (status === 404 || code === 'RepoNotFound') {
      return new HubError(
        `${host} has no model ${repo} with a revision ${quote(this.revision)} (${status}). Check the spelling, also of upper and lower case; if it is private or gated, ${terms}, and set HF_TOKEN.`,
      );
    }
    if (status === 401 || status === 403) {
      return new HubError(
        hub.token === undefined
          ? `${host} does not give ${repo} to everyone (${status}). Check the spelling; if it is private or gated, ${terms}, and set HF_TOKEN to a token of your account.`
          : `${host} does not give ${repo} to the account of HF_TOKEN (${status}). Check the spelling and that the token is valid and may read it; if it is gated, ${terms}.`,
      );
    }
    return statusError(host, response);
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
        `${at.host} ${unreachable}. Check the network, and run the same command again. A model can also be copied by hand: put its config, tokenizer and safetensors files into a folder.`,
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

/** The error for a status that says nothing about the repository. */
function statusError(host: string, { status, headers }: Response): Error {
  const passing = status === 408 || status === 429 || status >= 500;
  const wait = passing ? (retryAfter(headers) ?? rateLimitReset(headers)) : undefined;
  const again =
    wait !== undefined && wait > LONGEST_WAIT ? `in ${Math.ceil(wait / 60)} min, as it asks` : 'later';
  const given = new HubError(
    `${host} answered with status ${status}${status === 429 ? ' (too many requests)' : ''}. What was downloaded is kept: run the same command ${again}.`,
  );
  // A link that the hub gave may have run out; the next attempt gets a new one.
  return passing || status === 403
    ? new Transient(`${host} answered with status ${status}`, given, wait)
    : given;
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

/** A redirect's own ETag is not its target's. */
function ownEtag(response: Response): string | undefined {
  return response.ok ? (response.headers.get('etag') ?? undefined) : undefined;
}

function abandon(response: Response, watch?: NodeJS.Timeout): void {
  clearTimeout(watch);
  // Where the connection is gone already, there is nothing left to cancel.
  response.body?.cancel().catch(() => {});
}
