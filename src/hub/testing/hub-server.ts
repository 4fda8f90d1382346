/**
 * A hub on this machine that serves one repository like Hugging Face does. Small files are served by the hub's own port, large
 * (LFS) ones by a redirect to a second port, the "CDN"; the list of files has pages.
 *
 * `requests` records every request, and a test can answer requests itself with `onRequest`.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request that the server received. */
export interface Seen {
  readonly host: 'hub' | 'cdn';
  readonly path: string;
  /** The requested file; empty for the list. */
  readonly file: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

/** A file of the served repository; `lfs` says whether it is listed with a SHA-256 and served by the CDN. */
export interface StoredFile {
  readonly bytes: Buffer;
  readonly lfs: boolean;
}

/** Returns true if it handles the request. */
export type OnRequest = (seen: Seen, response: ServerResponse) => boolean;

/** The servers of the hub and its CDN, which a test can make misbehave. */
export class HubServer {
  readonly repo = 'weavers/loom-1b';
  readonly files = new Map<string, StoredFile>();
  /** Additional entries of the list. */
  readonly extraEntries: object[] = [];
  readonly requests: Seen[] = [];
  pageSize = 3;
  onRequest: OnRequest = () => false;
  /** Whether the "CDN" and the hub support Range. */
  ranges = true;
  commit = 'a'.repeat(40);

  private constructor(
    private readonly hub: Server,
    private readonly cdn: Server,
  ) {
    hub.on('request', (request, response) => this.#answer('hub', request, response));
    cdn.on('request', (request, response) => this.#answer('cdn', request, response));
  }

  static async start(): Promise<HubServer> {
    const servers = [createServer(), createServer()] as const;
    for (const server of servers) {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    }
    return new HubServer(...servers);
  }

  async stop(): Promise<void> {
    for (const server of [this.hub, this.cdn]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.hub.address() as AddressInfo).port}`;
  }

  get cdnOrigin(): string {
    return `http://127.0.0.1:${(this.cdn.address() as AddressInfo).port}`;
  }

  put(name: string, content: string | Buffer, lfs = name.endsWith('.safetensors')): void {
    this.files.set(name, { bytes: Buffer.from(content), lfs });
  }

  /** A small model in one file of `weightBytes`. */
  putModel(weightBytes = 300_000): void {
    this.put('config.json', '{"model_type": "loom"}\n');
    this.put('tokenizer.json', `{"padding": "${'x'.repeat(5000)}"}`);
    this.put('tokenizer_config.json', '{}');
    this.put('README.md', '# Loom\n');
    this.put('model.safetensors', noise(weightBytes, 1));
  }

  /** The requested files in order, each as `hub:NAME` or `cdn:NAME`. */
  fetched(): string[] {
    return this.requests.filter(({ file }) => file !== '').map(({ host, file }) => `${host}:${file}`);
  }

  /** A file's entry in the list. */
  entryOf(path: string, { bytes, lfs }: StoredFile): object {
    const size = bytes.length;
    if (!lfs) return { type: 'file', path, oid: gitSum(bytes), size };
    const pointer = Buffer.from(`oid sha256:${sha256(bytes)}\nsize ${size}\n`);
    const stored = { oid: sha256(bytes), size, pointerSize: pointer.length };
    return { type: 'file', path, oid: gitSum(pointer), size, lfs: stored };
  }

  /** Sends a page of the list, starting at entry `from`. */
  #list(from: number, revision: string, response: ServerResponse): void {
    const entries = [...this.files].map(([path, file]) => this.entryOf(path, file));
    const all = [...entries, ...this.extraEntries];
    const next = from + this.pageSize;
    response.setHeader('content-type', 'application/json; charset=utf-8');
    if (next < all.length) {
      const url = `${this.endpoint}/api/models/${this.repo}/tree/${revision}?recursive=false&expand=false&cursor=${next}`;
      response.setHeader('link', `<${url}>; rel="next"`);
    }
    response.end(JSON.stringify(all.slice(from, next)));
  }

  #answer(host: 'hub' | 'cdn', request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url!, 'http://here');
    const { range, authorization } = request.headers;
    const api = new RegExp(`^/api/models/${this.repo}/tree/([^/]+)$`).exec(url.pathname);
    const resolve = new RegExp(`^/${this.repo}/resolve/([^/]+)/([^/]+)$`).exec(url.pathname);
    const file = host === 'cdn' ? url.pathname.slice(1) : decodeURIComponent(resolve?.[2] ?? '');
    const seen: Seen = { host, path: request.url!, file, range, authorization };
    this.requests.push(seen);
    if (this.onRequest(seen, response)) return;
    const stored = this.files.get(file);
    const revision = api?.[1] ?? resolve?.[1] ?? 'main';
    if (host === 'hub' && api === null && resolve === null) {
      refuse(response, 401, 'RepoNotFound');
    } else if (revision !== 'main') {
      refuse(response, 404, 'RevisionNotFound');
    } else if (api !== null) {
      this.#list(Number(url.searchParams.get('cursor') ?? 0), revision, response);
    } else if (stored === undefined) {
      refuse(response, 404, 'EntryNotFound');
    } else if (host === 'hub' && stored.lfs) {
      response.writeHead(302, {
        location: `${this.cdnOrigin}/${file}?signature=abc`,
        'x-linked-etag': `"${sha256(stored.bytes)}"`,
        'x-linked-size': stored.bytes.length,
        'x-repo-commit': this.commit,
      });
      response.end('Found. Redirecting');
    } else {
      if (host === 'hub') response.setHeader('x-repo-commit', this.commit);
      // As in reality, the CDN's ETag is not a checksum.
      response.setHeader('etag', host === 'hub' ? `"${gitSum(stored.bytes)}"` : '"0123456789abcdef"');
      this.send(response, stored.bytes, range);
    }
  }

  /** Sends a file, or the requested range of it. */
  send(response: ServerResponse, bytes: Buffer, range: string | undefined): void {
    const begin = this.begin(response, bytes, range);
    response.end(bytes.subarray(begin));
  }

  /** Sends the head of a response; returns the byte at which its body has to start. */
  begin(response: ServerResponse, bytes: Buffer, range: string | undefined): number {
    const begin = this.ranges && range !== undefined ? Number(/^bytes=(\d+)-$/.exec(range)![1]) : 0;
    const headers = { 'content-type': 'application/octet-stream', 'content-length': bytes.length - begin };
    if (begin === 0) {
      response.writeHead(200, headers);
    } else {
      response.writeHead(206, {
        ...headers,
        'content-range': `bytes ${begin}-${bytes.length - 1}/${bytes.length}`,
      });
    }
    return begin;
  }
}

/** Sends a refusal in the hub's format. */
export function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'x-error-code': code, 'content-type': 'application/json' });
  response.end('{"error":"no"}');
}

/** Pseudorandom bytes of a seed. */
export function noise(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed >>> 0;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** SHA-256 in lower-case hexadecimal. */
export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The git id of a file with these bytes. */
function gitSum(bytes: Buffer): string {
  return createHash('sha1')
    .update(Buffer.concat([Buffer.from(`blob ${bytes.length}\0`), bytes]))
    .digest('hex');
}
