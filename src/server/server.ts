/** Starts the engine and the HTTP server, and shuts them down gracefully. */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import type { Archive } from '../archive/index.js';
import { heddleCommand } from '../command-line.js';
import { ConfigError } from '../errors.js';
import { drains } from './drain.js';
import type { EngineOptions } from './engine/engine.js';
import { type RunningEngine, startEngine } from './engine/start.js';
import { ApiKeys } from './keys.js';
import type { KeyLimits } from './limits.js';
import { Log } from './log.js';
import { assemble } from './routes.js';

/** The options of `heddle serve`. Times are in seconds, sizes in bytes. */
export interface ServerOptions {
  readonly host: string;
  /** 0 for any free port. */
  readonly port: number;
  /** A file of API keys; without one the server accepts requests from this machine only. */
  readonly keys?: string;
  readonly keyLimits: KeyLimits;
  /** Whether clients with keys may download the models, to run them in the browser. */
  readonly shareWeights?: boolean;
  /** Origins whose pages may send requests (CORS), such as `http://localhost:3000`; `*` for all. */
  readonly cors: readonly string[];
  readonly bodyBytes: number;
  /** The time limit of an answer, and the grace period of a shutdown, in seconds. */
  readonly seconds: number;
  readonly drainSeconds: number;
  /** Whether the log has prompts and answers. */
  readonly logTexts: boolean;
  /** Folders in which the studio looks for training runs. */
  readonly runs: readonly string[];
  readonly log: (line: string) => void;
  readonly version: string;
  /** An archive of documents; the caller closes it. */
  readonly archive?: Archive | undefined;
}

/** A server that listens at `url`. */
export interface RunningServer {
  readonly url: string;
  /** Resolves to the reason when the server has failed. */
  readonly failed: Promise<string>;
  /** Shuts down: refuses new requests, waits for running ones within the grace period, and frees everything. */
  stop(): Promise<void>;
}

/** Timeouts for the headers and for the whole request, in milliseconds. */
const HEADERS_PATIENCE = 10_000;
const REQUEST_PATIENCE = 60_000;
/** The same where documents are uploaded. */
const UPLOAD_PATIENCE = 600_000;

/** The time for the last events of an aborted answer to reach its client, in milliseconds. */
const LAST_WORDS = 1_000;

const LOOPBACK = new Set(['127.0.0.1', '::1', 'localhost']);

/** Loads the models and listens. Throws `ConfigError` for an address other than loopback without keys, and as `loadModel` does. */
export async function startServer(
  options: ServerOptions,
  engineOptions: EngineOptions,
): Promise<RunningServer> {
  const keys = options.keys === undefined ? undefined : await ApiKeys.load(options.keys);
  if (!keys && !LOOPBACK.has(options.host)) {
    throw new ConfigError(
      `without API keys the server listens on 127.0.0.1 alone, not on ${options.host}: make keys with '${heddleCommand()} key FILE NAME' and give the file with --keys`,
    );
  }
  const engine = await startEngine(engineOptions);
  try {
    return await listen(options, engineOptions, engine, keys);
  } catch (error) {
    await engine.close();
    throw error;
  }
}

async function listen(
  options: ServerOptions,
  engineOptions: EngineOptions,
  engine: RunningEngine,
  keys: ApiKeys | undefined,
): Promise<RunningServer> {
  const log = new Log(options.log, options.logTexts);
  const assembled = await assemble(engine, engineOptions, { ...options, keys, log, mounted: false });
  const { app, models, library } = assembled;
  const origins = options.cors.length > 0 ? { cors: options.cors } : {};
  const server = createAdaptorServer({
    fetch: app.fetch,
    serverOptions: {
      headersTimeout: HEADERS_PATIENCE,
      requestTimeout: options.archive ? UPLOAD_PATIENCE : REQUEST_PATIENCE,
      connectionsCheckingInterval: 5_000,
    },
  }) as Server;
  const drain = drains(server);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      const where = `${options.host}:${options.port}`;
      const message = `the server cannot listen on ${where} (${error.message}): choose another --port`;
      reject(new ConfigError(message, { cause: error }));
    });
    server.listen(options.port, options.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  const url = `http://${options.host.includes(':') ? `[${options.host}]` : options.host}:${port}`;
  log.write('listening', { url, models: models.map(({ id }) => id), pid: process.pid, ...origins });
  const failed = engine.ended.then(() => 'the engine has ended');
  return {
    url,
    failed,
    async stop() {
      assembled.drain();
      log.write('draining');
      const late = setTimeout(() => assembled.stop(), options.drainSeconds * 1000);
      await drain(options.drainSeconds * 1000 + LAST_WORDS);
      clearTimeout(late);
      await engine.close();
      await library.close();
      log.write('stopped');
    },
  };
}
