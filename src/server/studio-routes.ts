/**
 * The studio over HTTP: its pages, which `npm run build` leaves in `dist/studio`, and what only the studio asks for. Nothing
 * on a page comes from elsewhere, and its content security policy says so.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Context, Hono } from 'hono';
import { secureHeaders } from 'hono/secure-headers';
import { ConfigError } from '../errors.js';
import { findRuns, readRunLog } from './training-runs.js';

export interface StudioDependencies {
  /** Folders in which training runs are looked for. */
  readonly runs: readonly string[];
  /** Where the built pages are, if not where the build leaves them. */
  readonly pages?: string;
  /** Answers `POST /studio/api/trace`. */
  readonly trace: (context: Context) => Response | Promise<Response>;
}

const BUILT_PAGES = fileURLToPath(new URL('../../dist/studio', import.meta.url));
const INDEX = '/index.html';
/** The build names what is in here by its content. */
const ASSETS = '/assets/';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  '.woff2': 'font/woff2',
};

/** Throws `ConfigError` where the pages were not built. */
export function studioRoutes({ runs, pages = BUILT_PAGES, trace }: StudioDependencies): Hono {
  const app = new Hono();
  app.get('/studio/api/runs', async (c) => c.json({ object: 'list', data: await findRuns(runs) }));
  app.get('/studio/api/runs/:id', async (c) => {
    const log = await readRunLog(runs, c.req.param('id'), c.req.query('from'));
    if (log) return c.json(log);
    const message = 'there is no such training run: its folder may have been moved';
    return c.json({ error: { message, type: 'invalid_request_error', param: 'id', code: 'not_found' } }, 404);
  });
  app.post('/studio/api/trace', trace);

  const none = ["'none'"];
  const own = ["'self'"];
  const secured = secureHeaders({
    contentSecurityPolicy: {
      defaultSrc: none,
      scriptSrc: own,
      styleSrc: own,
      fontSrc: own,
      imgSrc: [...own, 'data:'],
      connectSrc: own,
      baseUri: none,
      formAction: none,
      frameAncestors: none,
    },
    referrerPolicy: 'no-referrer',
    // Loopback is not encrypted.
    strictTransportSecurity: false,
  });
  for (const [path, page] of readPages(pages)) {
    const send = (c: Context): Response => {
      c.header('cache-control', path.startsWith(ASSETS) ? 'public, max-age=31536000, immutable' : 'no-cache');
      c.header('etag', page.etag);
      if (c.req.header('if-none-match') === page.etag) return c.body(null, 304);
      return c.body(page.body, 200, { 'content-type': page.type });
    };
    app.get(path === INDEX ? '/' : path, secured, send);
  }
  return app;
}

interface Page {
  readonly body: Uint8Array<ArrayBuffer>;
  readonly type: string;
  readonly etag: string;
}

/** All files of the built studio by their paths: few and small, so that they stay in memory. */
function readPages(folder: string): Map<string, Page> {
  if (!existsSync(join(folder, INDEX))) {
    throw new ConfigError(`${folder} has no studio in it: build it with 'npm run build'`);
  }
  const pages = new Map<string, Page>();
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const body = new Uint8Array(readFileSync(path));
    const type = TYPES[extname(path)] ?? 'application/octet-stream';
    const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
    pages.set(`/${relative(folder, path).split(sep).join('/')}`, { body, type, etag });
  }
  return pages;
}
