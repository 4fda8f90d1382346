/** The worker that runs the models of a page: the toolkit itself, on the browser platform. */
import { availableThreads, join, makeFolder } from '#platform';
import {
  type ChatOpenOptions,
  ChatSession,
  LanguageModel,
  type LoadOptions,
  loadFolder,
  loadSnapshot,
  PrefixMemory,
  Session,
  Snapshot,
  StateLibrary,
  type StateRecord,
  sharedLength,
} from '../generate/index.js';
import { blobOf, MEMORY, memory, remove } from '../platform/browser/storage.js';
import { readGenerationConfig } from '../text/index.js';
import type { AboutState, ChatFacts, ModelFacts, SessionFacts, SnapshotFacts } from './facts.js';
import { serve } from './remote.js';
import type { PlainSource } from './source.js';
import { PrivateStore } from './state-store.js';
import { forget, keptModels, modelAt, type StoreOptions } from './store.js';
import { forgetRun, runArchive, runLog, runs, trainRun } from './training.js';

/** States that are stored beyond the life of the page. Each belongs to the model that made it: no other model can continue from it. */
const kept = new StateLibrary(new PrivateStore('/heddle/states'));
const ownerOf = ({ fingerprint: { hash, quantization } }: LanguageModel): string =>
  encodeURIComponent(`${hash} ${quantization}`);

/** Object 0: the functions that a page calls, besides the methods of the toolkit's objects. */
const root = {
  async load(source: PlainSource, options: StoreOptions & LoadOptions): Promise<LanguageModel> {
    const { onProgress: _, signal, store: __, threads, quantize, cache } = options;
    const folder = await modelAt(source, options);
    signal?.throwIfAborted();
    const model = await loadFolder(folder, {
      device: 'wasm',
      ...(threads !== undefined && { threads }),
      ...(quantize && { quantize }),
      ...(cache && { cache }),
    });
    const { bosTokenId: _____, eosTokenIds: ______, ...sampling } = await readGenerationConfig(folder);
    origins.set(model, { folder, sampling, states: new PrefixMemory(model, STATES) });
    return model;
  },
  keptModels,
  forget,
  trainRun,
  runs,
  runLog,
  forgetRun,
  runArchive,
  availableThreads,
  encode: (model: LanguageModel, text: string) => model.tokenizer.encode(text),
  encodeFromStart: (model: LanguageModel, text: string) => model.tokenizer.encodeFromStart(text),
  decode: (model: LanguageModel, ids: number[]) => model.tokenizer.decode(ids),

  /** A conversation with a model; undefined if its folder has no chat template and `lines` is not set. */
  chat(model: LanguageModel, options: ChatOpenOptions): Promise<ChatSession | undefined> {
    const { folder, states } = origins.get(model)!;
    return ChatSession.open(model, folder, { cache: states, ...options });
  },

  /** The generator of a streaming method; the page requests one piece after the other. */
  write(writer: Session | ChatSession, method: string, args: unknown[]): object {
    const pieces = (writer as unknown as Record<string, (...args: unknown[]) => object>)[method]!(...args);
    writers.set(pieces, writer);
    return pieces;
  },

  /** A snapshot in the file format of `Snapshot.save`. */
  async stateFile(snapshot: Snapshot): Promise<Blob> {
    const path = await statePath();
    try {
      await snapshot.save(path);
      return await blobOf(path);
    } finally {
      await remove(path);
    }
  },

  /** Loads a snapshot from such a file. */
  async loadState(model: LanguageModel, file: Blob): Promise<Snapshot> {
    const path = await statePath();
    memory.put(path, file);
    try {
      return await loadSnapshot(path, model);
    } finally {
      await remove(path);
    }
  },

  keptStates: (model: LanguageModel): Promise<StateRecord[]> => kept.list(ownerOf(model)),
  keepState(
    snapshot: Snapshot,
    { name = null, parent = null, messages = [] }: AboutState,
  ): Promise<StateRecord> {
    const { model } = snapshot;
    const about = { model: model.model.modelType, name, parent, base: 0, messages: [...messages] };
    return kept.save(ownerOf(model), snapshot, about);
  },
  async keptState(model: LanguageModel, id: string): Promise<Snapshot> {
    const { snapshot } = await kept.load(ownerOf(model), id, model);
    await origins.get(model)!.states.put(snapshot);
    return snapshot;
  },
  forkState: (model: LanguageModel, id: string, name: string | null) => kept.fork(ownerOf(model), id, name),
  nameState: (model: LanguageModel, id: string, name: string | null) => kept.rename(ownerOf(model), id, name),
  deleteState: (model: LanguageModel, id: string) => kept.delete(ownerOf(model), id),
};

/** The functions of the worker that the page can call. */
export type Root = typeof root;

let files = 0;

/** A path for the temporary file of a state. */
async function statePath(): Promise<string> {
  const folder = join(MEMORY, 'states');
  await makeFolder(folder);
  return join(folder, `${++files}.safetensors`);
}

/** Bytes of cached states of a model's conversations; a new conversation continues from one with the same prefix. */
const STATES = 256e6;
interface Origin {
  readonly folder: string;
  readonly sampling: ModelFacts['sampling'];
  readonly states: PrefixMemory;
}
const origins = new WeakMap<LanguageModel, Origin>();

/** The session or conversation of each generator. */
const writers = new WeakMap<object, Session | ChatSession>();

/** The tokens of each session or conversation that have been sent to its page. */
const told = new WeakMap<object, readonly number[]>();

/** The tokens since the last ones sent to the page. */
function tokensOf(value: Session | ChatSession): SessionFacts {
  const { tokens, bytes } = value;
  const from = sharedLength(told.get(value) ?? [], tokens);
  told.set(value, [...tokens]);
  return { bytes, from, tokens: tokens.slice(from) };
}

serve(root, {
  typeOf(value) {
    if (value instanceof LanguageModel) return 'model';
    if (value instanceof Session) return 'session';
    if (value instanceof ChatSession) return 'chat';
    if (value instanceof Snapshot) return 'snapshot';
    return undefined;
  },
  factsOf(given): ModelFacts | SessionFacts | ChatFacts | SnapshotFacts | undefined {
    const value = writers.get(given) ?? given;
    if (value instanceof LanguageModel) {
      const { model, parameters, fingerprint, tokenizer } = value;
      const { vocabSize, pattern, modelType, maxPositionEmbeddings } = model;
      const { endOfText } = tokenizer;
      return {
        config: model.json,
        ...{ vocabSize, pattern, modelType, maxPositionEmbeddings, parameters, fingerprint },
        endOfText,
        sampling: origins.get(value)!.sampling,
      };
    }
    if (value instanceof Session) return tokensOf(value);
    if (value instanceof ChatSession) {
      const { messages, turn } = value;
      return { ...tokensOf(value), messages, turn };
    }
    if (value instanceof Snapshot) return { bytes: value.bytes, length: value.length };
    return undefined;
  },
});
