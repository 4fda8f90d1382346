/**
 * The studio over HTTP: its pages, which `npm run build` writes to `dist/studio`, and its own API. Pages load nothing from other origins,
 * and their content security policy forbids it.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Context } from 'hono';
import { secureHeaders } from 'hono/secure-headers';
import { z } from 'zod';
import { heddleCall } from '../command-line.js';
import { ConfigError } from '../errors.js';
import { ApiError } from './http/api-error.js';
import { bodyOf } from './http/body.js';
import { type App, type Deps, modelNamed, signalOf, untilSent } from './http/context.js';
import { Message } from './http/messages.js';
import { textMessages } from './http/requests.js';
import { type ModelPlace, modelFile, modelFiles, modelVersion } from './model-files.js';
import type { ServedFiles, TrainingRuns } from './studio-api.js';
import { findRuns, readRunLog } from './training-runs.js';

const BUILT_PAGES = fileURLToPath(new URL('../../dist/studio', import.meta.url));
/** The build that runs models in a page. */
const LIBRARY = fileURLToPath(new URL('../../dist/browser', import.meta.url));
const INDEX = '/index.html';
/** File names below contain a hash of their content, so they can be cached forever. */
const ASSETS = '/assets/';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  '.woff2': 'font/woff2',
};

/** The largest trace, in bytes of its arrays; as JSON it takes at least as many again. */
const TRACE_BYTES = 200e6;
const MANY = 1000;

const Places = z.array(z.int().min(0)).max(MANY);
const TraceBody = z
  .strictObject({
    model: z.string().max(200),
    text: z.string().min(1).optional(),
    messages: z.array(Message).min(1).max(MANY).optional(),
    options: z.strictObject({
      layers: Places.exactOptional(),
      heads: Places.exactOptional(),
      matrices: z.boolean().exactOptional(),
      lens: z.int().min(0).max(100).exactOptional(),
      attribute: Places.max(16).exactOptional(),
    }),
  })
  .refine(({ text, messages }) => (text === undefined) !== (messages === undefined), {
    message: 'give a text or messages, and not both',
  });

/** Adds the studio's own API. */
export function addStudioApi(app: App, deps: Deps): void {
  app.get('/studio/api/runs', async (context) => {
    const begin = heddleCall('train', 'my-text.txt', '--out', join(deps.runs[0] ?? 'runs', 'mine'));
    return context.json({ data: await findRuns(deps.runs), begin } satisfies TrainingRuns);
  });
  app.get('/studio/api/runs/:id', async (context) => {
    const log = await readRunLog(deps.runs, context.req.param('id'), context.req.query('from'));
    if (log) return context.json(log);
    throw new ApiError(
      404,
      'run_not_found',
      'there is no such training run: its folder may have been moved',
      {
        param: 'id',
      },
    );
  });
  app.get('/studio/api/models/:model', async (context) => {
    const { id, fingerprint } = modelNamed(deps, context.req.param('model'));
    const place = placeOf(deps, id);
    const folder = `${context.req.path}/${await modelVersion(place, fingerprint)}/`;
    return context.json({ folder, files: await modelFiles(place) } satisfies ServedFiles);
  });
  app.get('/studio/api/models/:model/:version/:file', async (context) => {
    const { model, version, file } = context.req.param();
    const { id, fingerprint } = modelNamed(deps, model);
    const place = placeOf(deps, id);
    const isSame = version === (await modelVersion(place, fingerprint));
    const found = isSame ? await modelFile(place, file, context.req.raw.headers) : undefined;
    if (found) return untilSent(context, found);
    throw new ApiError(404, 'file_not_found', `${id} has no file ${file} of the version ${version}`);
  });
  app.post('/studio/api/trace', async (context) => {
    const { model, text, messages, options } = await bodyOf(context, TraceBody);
    const { id } = modelNamed(deps, model);
    const signal = signalOf(context, deps);
    const request = {
      model: id,
      prompt: messages ? textMessages(messages) : { kind: 'text' as const, text: text! },
      options: { ...options, maxBytes: TRACE_BYTES },
    };
    const trace = await deps.engine.call('trace', request, signal);
    return context.body(trace, 200, { 'content-type': 'application/json' });
  });
}

/** The place of a model's files. Throws `ApiError` if clients may not download them. */
function placeOf({ places, sharesWeights }: Deps, id: string): ModelPlace {
  if (sharesWeights) return places.get(id)!;
  throw new ApiError(
    403,
    'weights_not_shared',
    `${id} runs on the server alone: a server with keys gives out no weights unless it is started with --share-weights`,
  );
}

/** Adds the studio's pages. Throws `ConfigError` if they were not built. */
export function addStudioPages(app: App, pages = BUILT_PAGES, library = LIBRARY): void {
  if (!existsSync(join(pages, INDEX)) || !existsSync(join(library, 'worker.js'))) {
    throw new ConfigError(`${pages} has no studio in it: build it with 'npm run build'`);
  }
  const none = ["'none'"];
  const own = ["'self'"];
  const secured = secureHeaders({
    contentSecurityPolicy: {
      defaultSrc: none,
      // Models can run in the page: WebAssembly, and threads of its worker.
      scriptSrc: [...own, "'wasm-unsafe-eval'"],
      workerSrc: [...own, 'blob:'],
      styleSrc: own,
      fontSrc: own,
      imgSrc: [...own, 'data:'],
      connectSrc: own,
      baseUri: none,
      formAction: none,
      frameAncestors: none,
    },
    referrerPolicy: 'no-referrer',
    // SharedArrayBuffer needs a cross-origin isolated page.
    crossOriginEmbedderPolicy: 'require-corp',
    // The server has no TLS of its own.
    strictTransportSecurity: false,
  });
  for (const [path, page] of [
    ...readPages(pages),
    ...readPages(library, '/heddle', /\.js$|^licenses\.txt$/),
  ]) {
    const send = (c: Context): Response => {
      c.header('cache-control', path.startsWith(ASSETS) ? 'public, max-age=31536000, immutable' : 'no-cache');
      c.header('etag', page.etag);
      if (c.req.header('if-none-match') === page.etag) return c.body(null, 304);
      return c.body(page.body, 200, { 'content-type': page.type });
    };
    app.get(path === INDEX ? '/' : path, secured, send);
  }
}

interface Page {
  readonly body: Uint8Array<ArrayBuffer>;
  readonly type: string;
  readonly etag: string;
}

/** All files of the built studio by path. They are few and small, so they are kept in memory. */
function readPages(folder: string, under = '', wanted = /./): Map<string, Page> {
  const pages = new Map<string, Page>();
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !wanted.test(entry.name)) continue;
    const path = join(entry.parentPath, entry.name);
    const body = new Uint8Array(readFileSync(path));
    const type = TYPES[extname(path)] ?? 'application/octet-stream';
    const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
    pages.set(`${under}/${relative(folder, path).split(sep).join('/')}`, { body, type, etag });
  }
  return pages;
}
