/** Serves models inside another program, as a fetch handler for Hono, Express, Next and others. */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { expectOptions, expectText } from '../arguments.js';
import { namedModel } from '../models/index.js';
import type { EngineOptions } from './engine/engine.js';
import { startEngine } from './engine/start.js';
import { ApiError, type ErrorBody } from './http/api-error.js';
import { ApiKeys } from './keys.js';
import type { KeyLimits } from './limits.js';
import { Log } from './log.js';
import { type Assembled, assemble } from './routes.js';

/** Options of `createApp`. All of them have defaults. */
export interface AppOptions extends Partial<Omit<EngineOptions, 'models'>> {
  /** The path that it is mounted at, such as `/api/ai`, if the host program does not strip it from the requests' paths (Next does not). */
  readonly basePath?: string;
  /** The folder of the prefix cache and saved states; `heddle-data` by default. */
  readonly data?: string;
  /** A file of API keys. Without one all requests are allowed, and access control is left to the host program. */
  readonly keys?: string;
  readonly keyLimits?: KeyLimits;
  /** Origins whose pages may send requests (CORS), or `*` for all. */
  readonly cors?: readonly string[];
  /** The size limit of a request in bytes, and the time limit of an answer in seconds. */
  readonly bodyBytes?: number;
  readonly seconds?: number;
  /** Called with a line of JSON for each request. */
  readonly log?: (line: string) => void;
}

/** A fetch handler for OpenAI's API, with the paths of `heddle serve` but without the studio. */
export interface HeddleApp {
  (request: Request): Promise<Response>;
  readonly fetch: (request: Request) => Promise<Response>;
  /** Resolves when the models are loaded. Rejects if loading fails; requests are answered with 503 then. */
  readonly ready: Promise<void>;
  /** Aborts running requests and frees the models. */
  close(): Promise<void>;
}

/** Defaults of the options. */
const APP_DEFAULTS = {
  load: {},
  cacheBytes: 512e6,
  answers: 32,
  waiting: 256,
  bodyBytes: 8e6,
  seconds: 600,
} as const;

const NO_LIMITS: KeyLimits = {
  concurrency: Number.POSITIVE_INFINITY,
  perMinute: Number.POSITIVE_INFINITY,
};

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

/**
 * Loads models in a thread of their own and serves them. `models` are folders, runs or names, as for `heddle serve`, such as `sotu-hybrid` or
 * `mine=runs/mine`. Returns at once; requests wait until the models are loaded.
 */
export function createApp(models: string | readonly string[], options: AppOptions = {}): HeddleApp {
  const names: readonly unknown[] = [models].flat();
  for (const name of names) expectText(name, 'the name or folder of a model is');
  expectOptions(options);
  const opened = open(names as string[], options);
  const ready = opened.then(() => {});
  ready.catch(() => {});
  const fetch = async (request: Request): Promise<Response> => {
    let running: Awaited<typeof opened>;
    try {
      running = await opened;
    } catch (error) {
      const { status, body } = new ApiError(503, 'models_not_loaded', (error as Error).message);
      return Response.json(body satisfies ErrorBody, { status });
    }
    return running.assembled.app.fetch(request);
  };
  const close = async (): Promise<void> => {
    const running = await opened.catch(() => undefined);
    await running?.close();
  };
  return Object.assign(fetch, { fetch, ready, close });
}

async function open(
  names: readonly string[],
  options: AppOptions,
): Promise<{ assembled: Assembled; close: () => Promise<void> }> {
  const {
    data = 'heddle-data',
    keys,
    keyLimits = NO_LIMITS,
    cors = [],
    basePath,
    log = () => {},
    ...more
  } = options;
  const { bodyBytes, seconds, ...engine } = { ...APP_DEFAULTS, ...more };
  const engineOptions: EngineOptions = {
    models: names.map(namedModel),
    states: join(data, 'states'),
    cacheFolder: join(data, 'cache'),
    ...engine,
  };
  const known = keys === undefined ? undefined : await ApiKeys.load(keys);
  const running = await startEngine(engineOptions);
  const assembled = await assemble(running, engineOptions, {
    keys: known,
    keyLimits,
    cors,
    basePath,
    bodyBytes,
    seconds,
    runs: [],
    log: new Log(log, false),
    version,
    mounted: true,
  });
  return {
    assembled,
    async close() {
      assembled.stop();
      await running.close();
      await assembled.library.close();
    },
  };
}
