/** `heddle serve`: models over HTTP. */
import { stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, InvalidArgumentError } from 'commander';
import { Archive, work } from '../archive/index.js';
import { positive } from '../bench/positive.js';
import { ConfigError } from '../errors.js';
import { namedModel } from '../models/index.js';
import { reasonOf } from '../platform/unreadable.js';
import { type RunningServer, startServer } from '../server/index.js';
import { ENDING_SIGNALS } from './interrupt.js';
import { addLoadingOptions, deviceOption, type LoadingFlags, loadOptions } from './loading-options.js';
import { each, port, wholeNumber } from './options.js';
import { isSupervised, supervise } from './supervise.js';

/** The options of `heddle serve` and `heddle archive serve`. */
export interface ServeFlags extends LoadingFlags {
  host: string;
  port: number;
  keys?: string;
  data: string;
  runs?: string[];
  states?: string;
  archive?: string;
  /** Whether to create a missing archive. */
  makeArchive?: boolean;
  context?: number;
  cacheMemory: number;
  answers: number;
  waiting: number;
  keyConcurrency?: number;
  keyRate?: number;
  shareWeights?: boolean;
  maxBody: number;
  timeout: number;
  drain: number;
  cors?: string[];
  logTexts?: boolean;
}

/** The default limits of each key, or of all clients on this machine if there are no keys. */
const KEY_LIMITS = { concurrency: 64, perMinute: 6000 };
const NO_LIMITS = { concurrency: Number.POSITIVE_INFINITY, perMinute: Number.POSITIVE_INFINITY };

/** The help text of the models' argument. */
export const MODELS_HELP =
  "models' folders, or those of training runs; requests name them by the last part, or as in name=folder";

/** Arguments, options and action of `heddle serve`. */
export function configure(command: Command): void {
  addServeOptions(command.argument('<models...>', MODELS_HELP)).action(run);
}

/** Options of all commands that serve. */
export function addServeOptions(command: Command): Command {
  command
    .option('--host <address>', 'address to listen on; other than loopback only with --keys', '127.0.0.1')
    .option('--port <n>', 'port to listen on; 0 for any that is free', port, 8080)
    .option(
      '--keys <file>',
      'API keys, as the command key makes them; without it the server is for this machine alone',
    )
    .option(
      '--data <folder>',
      'where the prefix cache is kept, and states where nothing else is said',
      'heddle-data',
    )
    .option(
      '--states <place>',
      'where states are kept: a folder, redis://host:port, or s3://bucket/prefix?endpoint=URL (default: in --data)',
    )
    .option('--archive <place>', 'an archive of documents, as heddle archive add makes it')
    .option(
      '--runs <folder>',
      'where the studio looks for training runs (may be given several times; default: runs)',
      each,
    )
    .option(
      '--cors <origin>',
      "lets pages of another origin ask, such as http://localhost:3000, or '*' for all (may be given several times)",
      origin,
    )
    .option(
      '--context <n>',
      'tokens of a prompt and its answer together (default: as the model was made)',
      positive,
    )
    .option(
      '--cache-memory <MB>',
      'memory for states of what was read before, for each model',
      wholeNumber,
      512,
    )
    .option('--answers <n>', 'answers that are written at once; others wait', positive, 32)
    .option('--waiting <n>', 'requests that may wait; more are refused', wholeNumber, 256)
    .option(
      '--key-concurrency <n>',
      `requests of one key at once (default with --keys: ${KEY_LIMITS.concurrency})`,
      wholeNumber,
    )
    .option(
      '--key-rate <n>',
      `requests of one key a minute (default with --keys: ${KEY_LIMITS.perMinute})`,
      wholeNumber,
    )
    .option(
      '--share-weights',
      'lets keys download the models, which the studio then runs in the browser (without --keys this machine may)',
    )
    .option('--max-body <MB>', 'size of a request', positive, 8)
    .option('--timeout <s>', 'time for an answer', positive, 600)
    .option('--drain <s>', 'time for running answers when the server is told to stop', wholeNumber, 30)
    .option('--log-texts', 'log prompts and answers too')
    .addOption(deviceOption());
  return addLoadingOptions(command);
}

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

/** Parses an origin and adds it to the previous ones. Throws `InvalidArgumentError`. */
function origin(value: string, before: readonly string[] | undefined): string[] {
  if (value === '*') return each(value, before);
  const parsed = URL.canParse(value) ? new URL(value) : undefined;
  if (parsed && parsed.origin !== 'null' && parsed.href === `${parsed.origin}/`)
    return each(parsed.origin, before);
  throw new InvalidArgumentError('expected an origin such as http://localhost:3000, without a path.');
}

/** Serves until it is stopped. Throws as `startServer` and `Archive.open` do. */
export async function run(models: readonly string[], flags: ServeFlags): Promise<void> {
  // The device is passed as a name, since the engine's thread opens it.
  if ((flags.device as string | undefined) === 'cuda' && !isSupervised()) {
    process.exitCode = await supervise({
      command: [process.execPath, ...process.execArgv, ...process.argv.slice(1)],
      say: (line) => process.stderr.write(`heddle: ${line}\n`),
    });
    return;
  }
  const archive = flags.archive === undefined ? undefined : await openArchive(flags.archive, flags);
  try {
    await serve(models, flags, archive);
  } finally {
    await archive?.close();
  }
}

function openArchive(place: string, { states, makeArchive: create = false }: ServeFlags): Promise<Archive> {
  return Archive.open({ place, states, create, notice: (line) => process.stderr.write(`heddle: ${line}\n`) });
}

async function serve(
  models: readonly string[],
  flags: ServeFlags,
  archive: Archive | undefined,
): Promise<void> {
  const there = await stat(flags.data).catch(() => undefined);
  if (there && !there.isDirectory())
    throw new ConfigError(`--data ${flags.data} is a file, and a folder is expected: name another one`);
  keepServingWithoutLog();
  const usual = flags.keys === undefined ? NO_LIMITS : KEY_LIMITS;
  const server = await startServer(
    {
      host: flags.host,
      port: flags.port,
      ...(flags.keys !== undefined && { keys: flags.keys }),
      keyLimits: {
        concurrency: flags.keyConcurrency ?? usual.concurrency,
        perMinute: flags.keyRate ?? usual.perMinute,
      },
      shareWeights: flags.shareWeights === true,
      bodyBytes: flags.maxBody * 1e6,
      seconds: flags.timeout,
      drainSeconds: flags.drain,
      runs: flags.runs ?? ['runs'],
      cors: flags.cors ?? [],
      logTexts: flags.logTexts === true,
      log: (line) => process.stdout.write(line),
      archive,
      version,
    },
    {
      models: models.map(namedModel),
      load: loadOptions(flags),
      answers: flags.answers,
      waiting: flags.waiting,
      states: flags.states ?? join(flags.data, 'states'),
      ...(archive && { archiveStates: archive.statesPlace }),
      cacheBytes: flags.cacheMemory * 1e6,
      cacheFolder: join(flags.data, 'cache'),
      ...(flags.context !== undefined && { context: flags.context }),
    },
  );
  process.stderr.write(`${server.url} is the studio, and ${server.url}/v1 answers; Ctrl-C stops it\n`);
  // Documents that other processes add in the meantime are read here too, with progress.
  const stop = new AbortController();
  const working = archive && readOn(archive, stop.signal);
  await untilStopped(server);
  stop.abort();
  await working;
}

/** Standard output is the log here: if its disk is full, the server continues without it, and says so once. */
function keepServingWithoutLog(): void {
  let told = false;
  process.stdout.removeAllListeners('error').on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    if (!told)
      process.stderr.write(`heddle: the log cannot be written: ${reasonOf(error)}; the server continues\n`);
    told = true;
  });
}

/** The pause after an error of the archive, in milliseconds. */
const REST = 30_000;

/** Reads queued pages until it is stopped; errors are printed, and it tries again later. */
async function readOn(archive: Archive, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await work(archive, { follow: true, lanes: 1, signal }).catch((error: Error) =>
      process.stderr.write(`heddle: reading the archive rests: ${error.message}\n`),
    );
    if (!signal.aborted) await sleep(REST, undefined, { signal }).catch(() => {});
  }
}

/** Serves until it is stopped or fails. */
export async function untilStopped(server: RunningServer): Promise<void> {
  const told = new Promise<'told'>((resolve) => {
    for (const signal of ENDING_SIGNALS) process.once(signal, () => resolve('told'));
  });
  const reason = await Promise.race([told, server.failed]);
  await server.stop();
  if (reason === 'told') return;
  process.stderr.write(`heddle: ${reason}: start the server again\n`);
  process.exitCode = 1;
}
