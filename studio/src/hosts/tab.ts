/** This tab as a host: `heddle/browser` runs models in workers of the page. What they remember lasts as long as the page. */
import { signal } from '@preact/signals';
import type * as Heddle from '../../../src/browser/index.js';
import { encodeTrace } from '../../../src/inspect/trace-json.js';
import { ApiError, type ChatOutcome, type ModelInfo, type StoredState } from '../api.js';
import { newId } from '../parts/new-id.js';
import type { Host } from './hosts.js';

/** The library lies beside the page as it is published: one file for the page, one for its worker. */
const LIBRARY = new URL('heddle/index.js', document.baseURI).href;
export const library = (): Promise<typeof Heddle> => import(/* @vite-ignore */ LIBRARY);

/** Threads that compute. */
export const threads = crossOriginIsolated ? navigator.hardwareConcurrency : 1;

/** A memory: the state is found again by what was said. */
interface Held {
  readonly stored: StoredState;
  readonly messages: readonly Heddle.ChatMessage[];
}

const running = new Map<string, { readonly model: Heddle.TabModel; readonly info: ModelInfo }>();
const states = new Map<string, Held>();

/** What is being loaded, and how much of it is there. */
export const loading = signal<ReadonlyMap<string, Heddle.LoadProgress | undefined>>(new Map());

/** Loads a model, which from then on is run here. */
export async function load(name: string, source: Heddle.Source): Promise<Heddle.TabModel> {
  const tell = (progress: Heddle.LoadProgress | undefined): void => {
    loading.value = new Map(loading.value).set(name, progress);
  };
  tell(undefined);
  try {
    const model = await (await library()).loadModel(source, { onProgress: tell });
    const { pattern, parameters, maxPositionEmbeddings: context = 0 } = model.info;
    const chat = await model.chat();
    await chat?.dispose();
    await unload(name);
    running.set(name, {
      model,
      info: { id: name, heddle: { pattern, parameters, context, chat: chat !== undefined } },
    });
    return model;
  } finally {
    const left = new Map(loading.value);
    left.delete(name);
    loading.value = left;
  }
}

export const infoOf = (name: string): ModelInfo | undefined => running.get(name)?.info;

/** Frees a model, with all that it remembers. */
export async function unload(name: string): Promise<void> {
  const { model } = running.get(name) ?? {};
  running.delete(name);
  for (const [id, { stored }] of states) if (stored.model === name) states.delete(id);
  await model?.dispose();
}

function named(name: string): Heddle.TabModel {
  const found = running.get(name);
  if (found) return found.model;
  throw new ApiError(`${name} does not run in this tab`, 404);
}

function held(id: string): Held {
  const found = states.get(id);
  if (found) return found;
  throw new ApiError('this tab does not hold that memory any more', 404);
}

function hold(about: Omit<StoredState, 'id' | 'created'>, messages: Held['messages']): StoredState {
  const stored = { ...about, id: newId(), created: Date.now() / 1000 };
  states.set(stored.id, { stored, messages });
  return stored;
}

export const tab: Host = {
  has: (name) => running.has(name) || states.has(name),
  listModels: async () => [...running.values()].map(({ info }) => info),
  listStates: async () => [...states.values()].map(({ stored }) => stored),

  async chat(request, onPart, signal): Promise<ChatOutcome> {
    const model = named(request.model);
    const before = request.state === undefined ? [] : held(request.state).messages;
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
      const { bytes, tokens, messages } = chat;
      return {
        ...{ reusedTokens, readTokens, writtenTokens, stateBytes: bytes },
        state: hold({ model: request.model, tokens: tokens.length, bytes }, messages),
        finishReason: stoppedBy === 'length' ? 'length' : 'stop',
      };
    } finally {
      await chat.dispose();
    }
  },

  async forkState(id) {
    const { stored, messages } = held(id);
    const { name: _, ...about } = stored;
    return hold(about, messages);
  },
  async nameState(id, name) {
    const { stored, messages } = held(id);
    const renamed = { ...stored, name };
    states.set(id, { stored: renamed, messages });
    return renamed;
  },
  async deleteState(id) {
    states.delete(id);
  },

  async trace({ model: name, text, messages, options }) {
    const model = named(name);
    if (messages === undefined) {
      // As the server reads it: with the token that begins a text.
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
