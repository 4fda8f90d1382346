/** A Python package index on this machine, with wheels. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { ZipFile } from 'yazl';
import { sha256 } from './hub-server.js';

/** A request that the server received. */
export interface Asked {
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

/** The bytes of a wheel (a zip archive) with these files. */
export async function wheelOf(files: Readonly<Record<string, string | Buffer>>): Promise<Buffer> {
  const zip = new ZipFile();
  for (const [name, content] of Object.entries(files)) {
    zip.addBuffer(Buffer.from(content), name, { mode: name.includes('/bin/') ? 0o100755 : 0o100644 });
  }
  zip.end();
  return buffer(zip.outputStream as NodeJS.ReadableStream);
}

/** An HTTP server on this machine that answers as a Python package index does. */
export class PackageServer {
  /** Files by name; the part before the first hyphen is the package's name. */
  readonly files = new Map<string, Buffer>();
  readonly asked: Asked[] = [];
  /** Format of the pages: JSON with or without sizes (PEP 700), or HTML. */
  style: 'json' | 'json without sizes' | 'html' = 'json';
  /** Returns true if it handles the request itself. */
  onRequest: (asked: Asked, response: ServerResponse) => boolean = () => false;
  /** Checksums that the pages list instead of the files' own. */
  readonly sums = new Map<string, string>();

  private constructor(private readonly server: Server) {
    server.on('request', (request, response) => this.#answer(request, response));
  }

  static async start(): Promise<PackageServer> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new PackageServer(server);
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  get index(): string {
    return `http://127.0.0.1:${this.port}/simple`;
  }

  /** The requested files. */
  downloads(): string[] {
    return this.asked.flatMap(({ path }) => (path.startsWith('/files/') ? [path.slice(7)] : []));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent(request.url!);
    const { range, authorization } = request.headers;
    const asked = { path, range, authorization };
    this.asked.push(asked);
    if (this.onRequest(asked, response)) return;
    const page = /^\/simple\/([a-z0-9-]+)\/$/.exec(path);
    if (page) {
      this.#page(page[1]!, response);
      return;
    }
    const bytes = this.files.get(path.replace('/files/', ''));
    if (!bytes) {
      response.writeHead(404).end('no such file');
      return;
    }
    const from = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200, {
      'content-length': bytes.length - from,
      ...(from > 0 ? { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
    });
    response.end(bytes.subarray(from));
  }

  #page(name: string, response: ServerResponse): void {
    const files = [...this.files].filter(
      ([file]) => file.split('-')[0]!.toLowerCase().replace(/[_.]+/g, '-') === name,
    );
    if (files.length === 0) {
      response.writeHead(404).end('no such package');
      return;
    }
    const sum = (file: string, bytes: Buffer) => this.sums.get(file) ?? sha256(bytes);
    if (this.style === 'html') {
      const links = files.map(
        ([file, bytes]) => `<a href="../../files/${file}#sha256=${sum(file, bytes)}">${file}</a><br/>`,
      );
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end(`<!DOCTYPE html><html><body><h1>Links</h1>${links.join('\n')}</body></html>`);
      return;
    }
    response.writeHead(200, { 'content-type': 'application/vnd.pypi.simple.v1+json' });
    response.end(
      JSON.stringify({
        meta: { 'api-version': '1.1' },
        name,
        files: files.map(([filename, bytes]) => ({
          filename,
          url: `../../files/${filename}`,
          hashes: { sha256: sum(filename, bytes) },
          ...(this.style === 'json' ? { size: bytes.length } : {}),
          yanked: false,
        })),
      }),
    );
  }
}
