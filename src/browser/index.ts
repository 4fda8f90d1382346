/** Models in a browser's tab: loaded into the browser's own storage, run by WebAssembly in a worker of the page. */
import type { LoadOptions } from '../generate/index.js';
import type { TrainingEvent, TrainingResult } from '../train/index.js';
import type { TabModel } from './model.js';
import { TYPES } from './model.js';
import { Connection } from './remote.js';
import { type Hosted, plainSource, type Repository, type Source } from './source.js';
import type { KeptModel, StoreOptions } from './store.js';
import type { TabTraining } from './training.js';

export * from '../errors.js';
export type {
  ChatPiece,
  ChatTurn,
  ForkPiece,
  GeneratedPiece,
  Logits,
  ReadOptions,
  ReadResult,
  StopReason,
  ToolResult,
} from '../generate/index.js';
export type { Trace, TraceOptions } from '../inspect/index.js';
export type { ChatMessage } from '../text/index.js';
export type { TrainingEvent, TrainingResult, TrainingSettings } from '../train/index.js';
export type { AboutState, KeptState, ModelFacts } from './facts.js';
export type {
  TabChat,
  TabChatOptions,
  TabGenerateOptions,
  TabModel,
  TabSession,
  TabSnapshot,
  WrittenTabFork,
} from './model.js';
export type { Given, Hosted, Repository, Source, TrainedRun } from './source.js';
export type { KeptModel, LoadProgress, StoreOptions } from './store.js';
export type { TabTraining } from './training.js';

/** How `loadModel` loads a model into a tab. */
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

/** Models that the browser keeps for this site, whole or in part, and the bytes that they take. */
export function keptModels(): Promise<KeptModel[]> {
  return once('keptModels');
}

/** Removes what the browser keeps of a model, also a part of it. Nothing happens where it keeps none. */
export async function forgetModel(source: string | URL | Repository | Hosted | KeptModel): Promise<void> {
  const isKept = typeof source === 'object' && 'source' in source;
  await once('forget', isKept ? { ...source, kind: 'kept' } : await plainSource(source));
}

/**
 * Trains a model in a worker, and leaves it in the browser's own storage, from where `loadModel({ run })` loads it. It is the
 * `train` of Node: the same text and settings give the same losses. Throws `TrainingError` where the name is taken or another
 * tab trains the run, and what `train` throws.
 */
export async function train(training: TabTraining): Promise<TrainingResult> {
  return once('trainRun', training);
}

/** The names of the runs that the browser keeps. */
export function trainedRuns(): Promise<string[]> {
  return once('runs');
}

/** What a run has told so far, also in earlier visits: its events, in order. */
export function runLog(name: string): Promise<TrainingEvent[]> {
  return once('runLog', name);
}

/** A run's folder, with its model and its log, as a tar archive. Throws `CheckpointError` where it has no model yet. */
export function downloadRun(name: string): Promise<Blob> {
  return once('runArchive', name);
}

/** Removes a run with its model. */
export function forgetRun(name: string): Promise<void> {
  return once('forgetRun', name);
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
