/** This tab as a host: `heddle/browser` runs models in workers of the page. The browser stores their states, also for later visits. */
import { signal } from '@preact/signals';
import type * as Heddle from '../../../src/browser/index.js';
import { encodeTrace } from '../../../src/inspect/trace-json.js';
import { ApiError, type ChatOutcome, type ModelInfo, type StoredState } from '../api.js';
import { report } from '../parts/status.js';
import type { Host } from './hosts.js';

/** The library is published beside the page: one file for the page, one for its worker. */
const LIBRARY = new URL('heddle/index.js', document.baseURI).href;
export const library = (): Promise<typeof Heddle> => import(/* @vite-ignore */ LIBRARY);

/** Number of compute threads. */
export const threads = crossOriginIsolated ? navigator.hardwareConcurrency : 1;

/** A state of a running model, and the messages up to it. */
interface Held {
  readonly stored: StoredState;
  readonly messages: readonly Heddle.ChatMessage[];
}

interface Running {
  readonly model: Heddle.TabModel;
  readonly info: ModelInfo;
  /** The loaded states, from which conversations continue without reading again. */
  readonly ready: Set<string>;
}

const running = new Map<string, Running>();
const states = new Map<string, Held>();

/** The models being loaded, with their progress. */
export const loading = signal<ReadonlyMap<string, Heddle.LoadProgress | undefined>>(new Map());

/** Loads a model into this tab. */
export async function load(name: string, source: Heddle.Source): Promise<Heddle.TabModel> {
  const tell = (progress: Heddle.LoadProgress | undefined): void => {
    loading.value = new Map(loading.value).set(name, progress);
  };
  tell(undefined);
  try {
    const model = await (await library()).loadModel(source, { onProgress: tell });
    try {
      const { pattern, parameters, config, maxPositionEmbeddings: context = 0 } = model.info;
      const hidden_size = Number(config?.hidden_size ?? 0);
      const chat = await model.chat();
      await chat?.dispose();
      await unload(name);
      for (const state of await model.keptStates()) hold(name, state);
      running.set(name, {
        model,
        info: { id: name, heddle: { pattern, parameters, hidden_size, context, chat: chat !== undefined } },
        ready: new Set(),
      });
      return model;
    } catch (error) {
      // Nothing else refers to it, so it must be freed here.
      await model.dispose();
      throw error;
    }
  } finally {
    const left = new Map(loading.value);
    left.delete(name);
    loading.value = left;
  }
}

/**
 * Deletes other versions of a server's model, whose files are in `folder`: each version has its own address, so no page
 * requests the others again.
 */
export async function forgetOtherVersions(folder: string): Promise<void> {
  const { href } = new URL(folder, document.baseURI);
  const all = href.replace(/[^/]+\/$/, '');
  const { keptModels, forgetModel } = await library();
  for (const kept of await keptModels()) {
    const isVersion = kept.source.startsWith(all) && /^[^/]+\/[^/]*$/.test(kept.source.slice(all.length));
    if (isVersion && !kept.source.startsWith(href)) await forgetModel(kept);
  }
}

export const infoOf = (name: string): ModelInfo | undefined => running.get(name)?.info;

/** Frees a model; its stored states are available when it is loaded again. */
export async function unload(name: string): Promise<void> {
  const { model } = running.get(name) ?? {};
  running.delete(name);
  for (const [id, { stored }] of states) if (stored.model === name) states.delete(id);
  await model?.dispose();
}

function runningOf(name: string): Running {
  const found = running.get(name);
  if (found) return found;
  throw new ApiError(`${name} does not run in this tab`, 404);
}

function held(id: string): Held {
  const found = states.get(id);
  if (found) return found;
  throw new ApiError('this tab does not hold that memory any more', 404);
}

function hold(model: string, { messages, parent: _, ...state }: Heddle.KeptState): StoredState {
  const stored = { ...state, model };
  states.set(state.id, { stored, messages });
  return stored;
}

/** Loads a state into a model, and returns the messages up to it. */
async function remembered({ model, ready }: Running, id: string): Promise<Held['messages']> {
  const { messages } = held(id);
  if (!ready.has(id)) {
    const snapshot = await model.keptState(id).catch((error: Error) => {
      states.delete(id);
      throw new ApiError(`this tab does not hold that memory any more: ${error.message}`, 404);
    });
    await snapshot.dispose();
    ready.add(id);
  }
  return messages;
}

/** Stores the state after an answer; without storage space, the answer has no state. */
async function remember(name: string, chat: Heddle.TabChat, parent: string | undefined) {
  const snapshot = await chat.snapshot();
  try {
    const { messages } = chat;
    const kept = await snapshot.keep({ messages, ...(parent !== undefined && { parent }) });
    runningOf(name).ready.add(kept.id);
    return hold(name, kept);
  } catch (error) {
    report(error);
    return undefined;
  } finally {
    await snapshot.dispose();
  }
}

export const tab: Host = {
  has: (name) => running.has(name) || states.has(name),
  listModels: async () => [...running.values()].map(({ info }) => info),
  listStates: async () => [...states.values()].map(({ stored }) => stored),

  async chat(request, onPart, signal): Promise<ChatOutcome> {
    const host = runningOf(request.model);
    const { model } = host;
    const before = request.state === undefined ? [] : await remembered(host, request.state);
    const { temperature, top_p: topP, seed } = request;
    const chat = await model.chat({ lines: true });
    try {
      const pieces = chat.answer([...before, ...request.messages.map((message) => ({ ...message }))], {
        maxTokens: request.max_tokens,
        ...model.info.sampling,
        ...(temperature !== undefined && { temperature }),
        ...(topP !== undefined && { topP }),
        ...(seed !== undefined && { seed }),
        signal,
      });
      for await (const { parts } of pieces) {
        for (const part of parts) {
          if (part.kind === 'content') onPart(part.text, '');
          if (part.kind === 'thought') onPart('', part.text);
        }
      }
      const { reusedTokens, readTokens, writtenTokens, stoppedBy } = chat.turn!;
      return {
        ...{ reusedTokens, readTokens, writtenTokens, stateBytes: chat.bytes },
        state: await remember(request.model, chat, request.state),
        finishReason: stoppedBy === 'length' ? 'length' : 'stop',
      };
    } finally {
      await chat.dispose();
    }
  },

  async forkState(id) {
    const { model } = held(id).stored;
    return hold(model, await runningOf(model).model.forkState(id));
  },
  async nameState(id, name) {
    const { model } = held(id).stored;
    return hold(model, await runningOf(model).model.nameState(id, name));
  },
  async deleteState(id) {
    const { model } = held(id).stored;
    states.delete(id);
    await runningOf(model).model.deleteState(id);
  },

  async trace({ model: name, text, messages, options }) {
    const { model } = runningOf(name);
    if (messages === undefined) {
      // As on the server, with the token that begins a text.
      return encodeTrace(await model.trace(await model.encodeFromStart(text!), options));
    }
    const chat = await model.chat({ lines: true });
    try {
      return encodeTrace(await model.trace(await chat.encode(messages), options));
    } finally {
      await chat.dispose();
    }
  },
};
