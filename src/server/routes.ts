/** Assembles all routes of the server. */
import { setMaxListeners } from 'node:events';
import { Hono } from 'hono';
import { cors } from 'hono/cors';
import type { Archive } from '../archive/index.js';
import { StateLibrary } from '../generate/states/library.js';
import { openStore } from '../generate/states/open-store.js';
import type { EngineOptions } from './engine/engine.js';
import type { ServedModelInfo } from './engine/protocol.js';
import type { RunningEngine } from './engine/start.js';
import { addArchiveRoutes, takesDocuments } from './http/archive-routes.js';
import {
  type App,
  admitted,
  authenticated,
  bodyLimited,
  type Deps,
  modelNamed,
  observed,
  type Variables,
} from './http/context.js';
import { addEmbeddingsRoute } from './http/embeddings.js';
import { addGenerationRoutes } from './http/generation-routes.js';
import { healthOf } from './http/health.js';
import { openApiDocument } from './http/openapi.js';
import { addResponsesRoutes } from './http/responses/routes.js';
import type { ModelCard } from './http/schemas.js';
import { addStateRoutes } from './http/state-routes.js';
import type { ApiKeys } from './keys.js';
import { KeyAccounts, type KeyLimits } from './limits.js';
import type { Log } from './log.js';
import { Metrics } from './metrics.js';
import { addStudioApi, addStudioPages } from './studio-routes.js';

/** The options of the application, besides those of the engine. */
export interface AssemblyOptions {
  readonly keys: ApiKeys | undefined;
  readonly keyLimits: KeyLimits;
  /** Whether clients with keys may download the models' files; without keys, all clients on this machine may. */
  readonly shareWeights?: boolean | undefined;
  /** Origins whose pages may send requests (CORS); `*` for all. */
  readonly cors: readonly string[];
  /** A prefix of all paths. */
  readonly basePath?: string | undefined;
  readonly bodyBytes: number;
  /** The time limit of an answer. */
  readonly seconds: number;
  readonly runs: readonly string[];
  readonly log: Log;
  readonly version: string;
  /** An archive of documents, which the caller closes. */
  readonly archive?: Archive | undefined;
  /** Whether it runs in a host program, which controls access and has its own pages. */
  readonly mounted: boolean;
}

/** The application, and the functions that end it. */
export interface Assembled {
  readonly app: App;
  readonly models: readonly ServedModelInfo[];
  readonly library: StateLibrary;
  /** Refuses new requests from now on. */
  drain(): void;
  /** Aborts running requests. */
  stop(): void;
}

/** The routes of the models that an engine has loaded. */
export async function assemble(
  engine: RunningEngine,
  { states, answers, models: named, load: { adapter } }: EngineOptions,
  { keys, keyLimits, shareWeights = false, bodyBytes, seconds, ...options }: AssemblyOptions,
): Promise<Assembled> {
  const models = await engine.calls.call('models', null);
  const library = new StateLibrary(openStore(states));
  const stopping = new AbortController();
  // Every request adds a listener.
  setMaxListeners(0, stopping.signal);
  let status: 'ok' | 'draining' | 'failed' = 'ok';
  void engine.ended.then(() => {
    if (status === 'ok') status = 'failed';
  });
  const app = routes(
    {
      engine: engine.calls,
      models: new Map(models.map((info) => [info.id, info])),
      places: new Map(named.map(({ name, folder }) => [name, { folder, adapter }])),
      sharesWeights: keys === undefined || shareWeights,
      library,
      archive: options.archive,
      keys,
      accounts: new KeyAccounts(keyLimits),
      metrics: new Metrics({ engine: () => engine.calls.call('figures', null) }),
      log: options.log,
      runs: options.runs,
      limits: { bodyBytes, seconds, answers },
      mounted: options.mounted,
      status: () => status,
      stopping: stopping.signal,
    },
    options,
  );
  const drain = (): void => {
    status = 'draining';
  };
  const stop = (): void => {
    drain();
    stopping.abort();
  };
  return { app, models, library, drain, stop };
}

/** Response headers that pages of other origins may read (Access-Control-Expose-Headers). */
const SHOWN = ['x-request-id', 'retry-after', 'x-ratelimit-limit-requests', 'x-ratelimit-remaining-requests'];

function routes(
  deps: Deps,
  { version, cors: origins, basePath = '' }: Pick<AssemblyOptions, 'version' | 'cors' | 'basePath'>,
): App {
  const base = basePath.replace(/\/+$/, '');
  const getPath = (request: Request): string => {
    const { pathname } = new URL(request.url);
    const isBelow = base !== '' && `${pathname}/`.startsWith(`${base}/`);
    const path = isBelow ? pathname.slice(base.length) || '/' : pathname;
    // With a base URL that ends with a slash clients send double slashes, and some append one.
    return /^\/+v1\//.test(path) ? path.replace(/\/{2,}/g, '/').replace(/\/$/, '') : path;
  };
  const app: App = new Hono<{ Variables: Variables }>({ getPath });
  observed(app, deps);
  if (origins.length > 0) {
    const origin = (asking: string): string | null =>
      origins.includes('*') || origins.includes(asking) ? asking : null;
    const allowMethods = ['GET', 'POST', 'PATCH', 'DELETE'];
    app.use(cors({ origin, allowMethods, exposeHeaders: SHOWN, maxAge: 600 }));
  }
  app.get('/healthz', async (context) => {
    const status = await healthOf(deps);
    return context.json({ status }, status === 'ok' ? 200 : 503);
  });
  const document = openApiDocument(version);
  app.get('/openapi.json', (context) => context.json(document));
  app.use('/metrics', authenticated(deps));
  app.get('/metrics', async (context) => {
    const { registry } = deps.metrics;
    return context.text(await registry.metrics(), 200, { 'content-type': registry.contentType });
  });
  const limited = bodyLimited(deps.limits.bodyBytes);
  for (const path of ['/v1/*', '/studio/api/*']) {
    app.use(path, authenticated(deps), admitted(deps), (context, next) =>
      takesDocuments(context.req) ? next() : limited(context, next),
    );
  }
  app.get('/v1/models', (context) =>
    context.json({ object: 'list', data: [...deps.models.values()].map(modelCard) }),
  );
  app.get('/v1/models/:model', (context) =>
    context.json(modelCard(modelNamed(deps, context.req.param('model')))),
  );
  addGenerationRoutes(app, deps);
  addResponsesRoutes(app, deps);
  addEmbeddingsRoute(app, deps);
  addStateRoutes(app, deps);
  addArchiveRoutes(app, deps);
  if (!deps.mounted) {
    addStudioApi(app, deps);
    addStudioPages(app);
  }
  return app;
}

function modelCard({
  id,
  created,
  fingerprint: _,
  form: __,
  archiveKey: ___,
  hiddenSize,
  ...heddle
}: ServedModelInfo): ModelCard {
  return { id, object: 'model', created, owned_by: 'heddle', heddle: { ...heddle, hidden_size: hiddenSize } };
}
