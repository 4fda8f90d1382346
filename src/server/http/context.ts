/** Middleware for every request: authentication, limits, logging and errors. */
import { randomBytes } from 'node:crypto';
import type { Context, Hono, MiddlewareHandler } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import type { Archive } from '../../archive/index.js';
import type { StateLibrary } from '../../generate/states/library.js';
import type { Caller } from '../engine/calls.js';
import type { EngineCalls, ServedModelInfo } from '../engine/protocol.js';
import { CancelledError } from '../errors.js';
import type { ApiKeys } from '../keys.js';
import type { KeyAccounts } from '../limits.js';
import type { Log } from '../log.js';
import type { Metrics } from '../metrics.js';
import type { ModelPlace } from '../model-files.js';
import { ApiError, apiErrorOf, invalidValue } from './api-error.js';
import type { Health } from './schemas.js';

/** The dependencies of the routes. */
export interface Deps {
  readonly engine: Caller<EngineCalls>;
  readonly models: ReadonlyMap<string, ServedModelInfo>;
  /** The places of the models' files. */
  readonly places: ReadonlyMap<string, ModelPlace>;
  /** Whether clients that may use a model may also download its files. */
  readonly sharesWeights: boolean;
  readonly library: StateLibrary;
  /** A library of documents, if one is served. */
  readonly archive?: Archive | undefined;
  /** Absent if every client on this machine is allowed. */
  readonly keys: ApiKeys | undefined;
  readonly accounts: KeyAccounts;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Folders to search for training runs. */
  readonly runs: readonly string[];
  readonly limits: {
    readonly bodyBytes: number;
    readonly seconds: number;
    /** The most concurrent answers. */
    readonly answers: number;
  };
  /** Whether a host program controls access. */
  readonly mounted: boolean;
  /** 'draining' while no new requests are accepted, 'failed' when the engine has ended. */
  readonly status: () => Exclude<Health, 'unresponsive'>;
  /** Aborted when the grace period of a shutdown is over. */
  readonly stopping: AbortSignal;
}

/** Variables of one request. */
export interface Variables {
  /** The owner of states and of rate limits. */
  owner: string;
  requestId: string;
  /** Further fields of the request's log entry. */
  facts: Record<string, unknown>;
  /** Resolves when the last byte of a streamed response is sent. */
  streamed: Promise<void> | undefined;
  /** Run once, when the response was sent or the client has gone. */
  cleanups: (() => void)[];
}

/** The Hono application, with these variables. */
export type App = Hono<{ Variables: Variables }>;
/** The context of a request, with these variables. */
export type RequestContext = Context<{ Variables: Variables }>;

/** The owner if there are no keys. */
const ANYONE = 'anyone';

/** Turns errors into responses, and logs and counts every request when its response is complete. */
export function observed(app: App, { log, metrics }: Deps): void {
  app.use(async (context, next) => {
    const began = performance.now();
    const requestId = context.req.header('x-request-id')?.slice(0, 100) ?? randomBytes(8).toString('hex');
    context.set('requestId', requestId);
    context.set('facts', {});
    context.set('cleanups', []);
    context.header('x-request-id', requestId);
    await next();
    const route = context.req.routePath;
    const done = (): void => {
      for (const cleanup of context.get('cleanups')) cleanup();
      const ms = performance.now() - began;
      const { status } = context.res;
      metrics.requests.inc({ route, status });
      metrics.seconds.observe({ route }, ms / 1000);
      log.write('request', {
        id: requestId,
        method: context.req.method,
        path: context.req.path,
        status,
        ms: Math.round(ms),
        ...(context.get('owner') !== undefined && { key: context.get('owner') }),
        ...context.get('facts'),
      });
    };
    const streamed = context.get('streamed');
    if (streamed) void streamed.then(done);
    else done();
  });
  app.onError((error, context) => {
    const known = apiErrorOf(error);
    const facts = (context as RequestContext).get('facts') as Record<string, unknown> | undefined;
    if (facts) facts.code = known.code;
    if (known.status === 500) log.write('failure', { error: String((error as Error).stack ?? error) });
    return answered(context as RequestContext, known);
  });
  app.notFound((context) => answered(context as RequestContext, nothingAt(app, context.req)));
}

/** Paths that clients of Ollama and Anthropic ask for. */
const OTHER_INTERFACES = /^(\/v1)*\/(api\/[a-z]+|messages(\/count_tokens)?)$/;

/** The error for an unknown path (404, with a hint for a wrong base URL) or a wrong method (405). */
function nothingAt(app: App, { path, method }: { path: string; method: string }): ApiError {
  const own = app.routes.filter(({ method }) => method !== 'ALL');
  const methods = [...new Set(own.filter((route) => matches(route.path, path)).map(({ method }) => method))];
  if (methods.length > 0) {
    return new ApiError(405, 'method_not_allowed', `${path} takes ${methods.join(' and ')}, not ${method}`, {
      headers: { allow: methods.join(', ') },
    });
  }
  const meant = `/v1${path.replace(/^(\/v1)+/, '')}`;
  const hint = own.some((route) => matches(route.path, meant))
    ? `it is ${meant}, so that the base URL of a client ends with /v1`
    : OTHER_INTERFACES.test(path)
      ? "this server has OpenAI's interface, under /v1: POST /v1/chat/completions, GET /v1/models"
      : 'see /openapi.json';
  return new ApiError(404, 'not_found', `there is nothing at ${path}: ${hint}`);
}

/** Whether a request's path matches that of a route, such as `/v1/states/:id`. */
function matches(route: string, path: string): boolean {
  const [expected, parts] = [route.split('/'), path.split('/')];
  return (
    expected.length === parts.length &&
    expected.every((part, i) => (part.startsWith(':') ? parts[i] !== '' : part === parts[i]))
  );
}

function answered(context: RequestContext, error: ApiError): Response {
  // 499: the client has disconnected, and only a proxy's log shows the status.
  const status = error.status as 400;
  for (const [name, value] of Object.entries(error.about.headers ?? {})) context.header(name, value);
  return context.json(error.body, status);
}

/** Requires a valid API key. Without keys every client on this machine is let in. */
export function authenticated({ keys, mounted }: Deps): MiddlewareHandler<{ Variables: Variables }> {
  return async (context, next) => {
    if (!keys) {
      context.set('owner', ANYONE);
      if (mounted) return next();
      const { hostname } = new URL(context.req.url);
      // DNS rebinding: another site's host name may resolve to this address.
      if (!['localhost', '127.0.0.1', '[::1]'].includes(hostname)) {
        throw new ApiError(403, 'forbidden_host', 'without API keys this server answers to localhost alone');
      }
      return next();
    }
    const given = /^Bearer (\S+)$/.exec(context.req.header('authorization') ?? '')?.[1];
    const owner = given === undefined ? undefined : await keys.ownerOf(given);
    if (owner === undefined) {
      throw new ApiError(
        401,
        'invalid_api_key',
        'an API key is needed: send it as Authorization: Bearer KEY',
        {
          headers: { 'www-authenticate': 'Bearer' },
        },
      );
    }
    context.set('owner', owner);
    return next();
  };
}

/** Refuses requests while the server stops, and requests beyond the limits of their key. */
export function admitted({ accounts, status }: Deps): MiddlewareHandler<{ Variables: Variables }> {
  return async (context, next) => {
    if (status() !== 'ok') {
      throw new ApiError(503, 'stopping', 'this server is about to stop: try again soon', {
        headers: { 'retry-after': '5' },
      });
    }
    const { headers, release } = accounts.admit(context.get('owner'));
    context.get('cleanups').push(release);
    for (const [name, value] of Object.entries(headers)) context.header(name, value);
    return next();
  };
}

/** Refuses bodies of more bytes with status 413. */
export function bodyLimited(bytes: number): MiddlewareHandler {
  return bodyLimit({
    maxSize: bytes,
    onError: () => {
      throw new ApiError(413, 'body_too_large', `the body has more than ${bytes} bytes: send less`, {
        headers: { connection: 'close' },
      });
    },
  });
}

/** For streamed responses: the request counts as running, also for its key's limits, until the last byte is sent or the client disconnects. */
export function untilSent(context: RequestContext, answer: Response): Response {
  // The body of a response to HEAD is never read.
  if (!answer.body || context.req.method === 'HEAD') return answer;
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  // Rejected if the client disconnects.
  const sent = answer.body.pipeTo(writable).catch(() => {});
  context.set('streamed', sent);
  return new Response(readable, answer);
}

/** Aborted when the client disconnects, the time limit passes, or the server stops; the reason is the error of each case. */
export function signalOf(context: RequestContext, { limits, stopping }: Deps): AbortSignal {
  const controller = new AbortController();
  const gone = (): void => controller.abort(new CancelledError());
  const stop = (): void =>
    controller.abort(new ApiError(503, 'stopping', 'this server is stopping: try again soon'));
  const late = (): void =>
    controller.abort(
      new ApiError(
        408,
        'timeout',
        `an answer may take ${limits.seconds} s on this server: ask for less, or try again later`,
      ),
    );
  const client = context.req.raw.signal;
  const timer = setTimeout(late, limits.seconds * 1000);
  client.addEventListener('abort', gone);
  stopping.addEventListener('abort', stop);
  if (client.aborted) gone();
  if (stopping.aborted) stop();
  context.get('cleanups').push(() => {
    clearTimeout(timer);
    client.removeEventListener('abort', gone);
    stopping.removeEventListener('abort', stop);
  });
  return controller.signal;
}

/** The model of that name; without one the only model there is. Throws `ApiError`. */
export function modelNamed({ models }: Deps, id: string | undefined): ServedModelInfo {
  const info = models.get(id || (models.size === 1 ? [...models.keys()][0]! : ''));
  if (info) return info;
  if (!id) {
    throw invalidValue(
      'model',
      `there are several models, ${[...models.keys()].join(', ')}: say which 'model'`,
    );
  }
  throw new ApiError(
    404,
    'model_not_found',
    `the model '${id}' is not served here: there are ${[...models.keys()].join(', ')}`,
    { param: 'model' },
  );
}
