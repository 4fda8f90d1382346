/** Models in a browser's tab: stored in the browser's private file system, and run by WebAssembly in a worker. */
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
  /** Threads that compute: by default one per processor if the page is cross-origin isolated; always one if it is not. */
  readonly threads?: number;
  /** Creates the worker; needed if its script is not at its default address beside this module. */
  readonly worker?: () => Worker;
}

/**
 * Loads a model into a worker of its own, from a folder on a web host, files that the user chose, or a repository. Downloaded files are
 * stored in the browser's private file system and read from there the next time, without a request. Throws `HubError` when the model
 * cannot be downloaded, `StorageError` when there is no space, and the errors of Node's `loadModel`.
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

/** Models stored by the browser for this site, also partly downloaded ones, with their sizes. */
export function keptModels(): Promise<KeptModel[]> {
  return once('keptModels');
}

/** Removes a stored model, also a partly downloaded one. Does nothing if it is not stored. */
export async function forgetModel(source: string | URL | Repository | Hosted | KeptModel): Promise<void> {
  const isKept = typeof source === 'object' && 'source' in source;
  await once('forget', isKept ? { ...source, kind: 'kept' } : await plainSource(source));
}

/**
 * Trains a model in a worker and stores it in the browser's private file system, from where `loadModel({ run })` loads it. It is the
 * `train` of Node: the same text and settings give the same losses. Throws `TrainingError` when the name is taken or another
 * tab trains the run, and the errors of `train`.
 */
export async function train(training: TabTraining): Promise<TrainingResult> {
  return once('trainRun', training);
}

/** The names of the stored runs. */
export function trainedRuns(): Promise<string[]> {
  return once('runs');
}

/** The events of a run in order, also those of earlier visits. */
export function runLog(name: string): Promise<TrainingEvent[]> {
  return once('runLog', name);
}

/** A run's folder, with its model and its log, as a tar archive. Throws `CheckpointError` if it has no model yet. */
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
