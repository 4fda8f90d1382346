/** Models in a browser's tab: loaded into the browser's own storage, run by WebAssembly in a worker of the page. */
import type { LoadOptions } from '../generate/index.js';
import type { TabModel } from './model.js';
import { TYPES } from './model.js';
import { Connection } from './remote.js';
import { plainSource, type Source } from './source.js';
import type { KeptModel, StoreOptions } from './store.js';

export * from '../errors.js';
export type {
  ForkPiece,
  GeneratedPiece,
  Logits,
  ReadOptions,
  ReadResult,
  StopReason,
} from '../generate/index.js';
export type { Trace, TraceOptions } from '../inspect/index.js';
export type { ModelFacts } from './facts.js';
export type { TabGenerateOptions, TabModel, TabSession, TabSnapshot, WrittenTabFork } from './model.js';
export type { Given, Hosted, Repository, Source } from './source.js';
export type { KeptModel, LoadProgress, StoreOptions } from './store.js';

export interface TabLoadOptions extends StoreOptions, Pick<LoadOptions, 'quantize' | 'cache'> {
  /** Threads that compute: by default one for each processor where the page is isolated, and always one where it is not. */
  readonly threads?: number;
  /** Makes the worker, where a page has its script at another address; by default it lies beside this one. */
  readonly worker?: () => Worker;
}

/**
 * Loads a model into a worker of its own: from a folder on a web host, from files that a person gives, or from a repository. What came over the network is
 * kept in the browser's own storage, and the next time read from there without a request. Throws `HubError` where it cannot be
 * had, `StorageError` where there is no room, and what `loadModel` of Node throws.
 */
export async function loadModel(source: Source, options: TabLoadOptions = {}): Promise<TabModel> {
  const plain = await plainSource(source);
  const { worker = ownWorker, ...rest } = options;
  const connection = new Connection(worker(), TYPES);
  try {
    return await connection.call<TabModel>(0, 'load', [plain, rest]);
  } catch (error) {
    connection.end();
    throw error;
  }
}

/** Models that the browser keeps for this site, and the bytes that they take. */
export function keptModels(): Promise<KeptModel[]> {
  return once('keptModels');
}

/** Removes what the browser keeps of a model, also a part of it. Nothing happens where it keeps none. */
export async function forgetModel(source: Exclude<Source, Iterable<File> | DataTransfer>): Promise<void> {
  await once('forget', await plainSource(source));
}

async function once<T>(method: string, ...args: unknown[]): Promise<T> {
  const connection = new Connection(ownWorker(), TYPES);
  try {
    return await connection.call<T>(0, method, args);
  } finally {
    connection.end();
  }
}

function ownWorker(): Worker {
  return new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'heddle' });
}
