/** The worker that holds the models of a page: the toolkit itself, on the platform of a browser. */
import { availableThreads, join, makeFolder } from '#platform';
import {
  type GenerateOptions,
  LanguageModel,
  type LoadOptions,
  loadFolder,
  loadSnapshot,
  Session,
  Snapshot,
} from '../generate/index.js';
import { blobOf, MEMORY, memory, remove } from '../platform/browser/storage.js';
import type { ModelFacts, SessionFacts, SnapshotFacts } from './facts.js';
import { serve } from './remote.js';
import type { PlainSource } from './source.js';
import { forget, keptModels, modelAt, type StoreOptions } from './store.js';
import { forgetRun, runArchive, runs, trainRun } from './training.js';

/** Object 0: what a page asks for, besides methods of the toolkit's own objects. */
const root = {
  async load(source: PlainSource, options: StoreOptions & LoadOptions): Promise<LanguageModel> {
    const { onProgress: _, signal, store: __, threads, quantize, cache } = options;
    const folder = await modelAt(source, options);
    signal?.throwIfAborted();
    return loadFolder(folder, {
      device: 'wasm',
      ...(threads !== undefined && { threads }),
      ...(quantize && { quantize }),
      ...(cache && { cache }),
    });
  },
  keptModels,
  forget,
  trainRun,
  runs,
  forgetRun,
  runArchive,
  availableThreads,
  encode: (model: LanguageModel, text: string) => model.tokenizer.encode(text),
  decode: (model: LanguageModel, ids: number[]) => model.tokenizer.decode(ids),

  /** What `Session.generate` returns; the page takes piece after piece. */
  generate(session: Session, options: GenerateOptions) {
    const pieces = session.generate(options);
    writers.set(pieces, session);
    return pieces;
  },

  /** A snapshot as the file that `Snapshot.save` writes. */
  async stateFile(snapshot: Snapshot): Promise<Blob> {
    const path = await statePath();
    try {
      await snapshot.save(path);
      return await blobOf(path);
    } finally {
      await remove(path);
    }
  },

  /** The snapshot of such a file, whoever has written it. */
  async loadState(model: LanguageModel, file: Blob): Promise<Snapshot> {
    const path = await statePath();
    memory.put(path, file);
    try {
      return await loadSnapshot(path, model);
    } finally {
      await remove(path);
    }
  },
};

export type Root = typeof root;

/** Where a state is a file for a moment. */
async function statePath(): Promise<string> {
  const folder = join(MEMORY, 'states');
  await makeFolder(folder);
  return join(folder, `${crypto.randomUUID()}.safetensors`);
}

/** The sessions that write. */
const writers = new WeakMap<object, Session>();

/** How many tokens of a session its page has been told. */
const told = new WeakMap<Session, number>();

serve(root, {
  typeOf(value) {
    if (value instanceof LanguageModel) return 'model';
    if (value instanceof Session) return 'session';
    if (value instanceof Snapshot) return 'snapshot';
    return undefined;
  },
  factsOf(given, method): ModelFacts | SessionFacts | SnapshotFacts | undefined {
    const value = writers.get(given) ?? given;
    if (value instanceof LanguageModel) {
      const { model, parameters, fingerprint, tokenizer } = value;
      const { vocabSize, pattern, modelType, maxPositionEmbeddings } = model;
      const { endOfText } = tokenizer;
      return {
        config: model.json,
        ...{ vocabSize, pattern, modelType, maxPositionEmbeddings, parameters, fingerprint },
        endOfText,
      };
    }
    if (value instanceof Session) {
      const { tokens, bytes } = value;
      // All other methods add to the tokens.
      const from = method === 'restore' ? 0 : (told.get(value) ?? 0);
      told.set(value, tokens.length);
      return { bytes, from, tokens: tokens.slice(from) };
    }
    if (value instanceof Snapshot) return { bytes: value.bytes, length: value.length };
    return undefined;
  },
});
