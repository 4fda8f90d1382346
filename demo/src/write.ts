/**
 * One text that the model goes on with, and the places in it that one can go back to: each is the model's exact state there, which the
 * browser keeps for later visits.
 */
import { computed, effect, signal } from '@preact/signals';
import type { KeptState, TabModel, TabSession, TabSnapshot } from '../../src/browser/index.js';
import { report } from '../../studio/src/parts/status.js';
import { opened } from './tab.js';

export interface Passage {
  readonly by: 'you' | 'model';
  readonly text: string;
}

/** A state to go back to: all passages up to here were read or written. */
export interface Place {
  readonly passages: readonly Passage[];
  readonly state: KeptState;
}

/** The oldest make room for new ones. */
const MOST_PLACES = 12;

const BEGINNING = 'Fellow citizens of the Senate and of the House of Representatives:\n\nThe harvest';
export const LONGEST = 240;

export const passages = signal<readonly Passage[]>([]);
export const draft = signal(BEGINNING);
export const places = signal<readonly Place[]>([]);
export const temperature = signal(0.8);
export const length = signal(60);
/** While the model reads or writes. */
export const running = signal<AbortController | undefined>(undefined);
/** Of what was written last. */
export const tokensPerSecond = signal<number | undefined>(undefined);
export const firstToken = signal<number | undefined>(undefined);
export const tokens = signal(0);
export const bytes = signal(0);
/** Bytes of the state after so many tokens. */
export const growth = signal<readonly { readonly tokens: number; readonly bytes: number }[]>([]);

export const canWrite = computed(
  () => opened.value !== undefined && !running.value && (draft.value !== '' || passages.value.length > 0),
);

let session: TabSession | undefined;

// Another model begins a text of its own.
effect(() => {
  const { model, name } = opened.value ?? {};
  session = model?.session();
  passages.value = [];
  places.value = [];
  growth.value = [];
  tokens.value = 0;
  bytes.value = 0;
  tokensPerSecond.value = undefined;
  firstToken.value = undefined;
  draft.value = name === undefined || name === 'sotu-hybrid' ? BEGINNING : '';
  if (model) findPlaces(model).catch(report);
});

/** Those of earlier visits. */
async function findPlaces(model: TabModel): Promise<void> {
  const states = await model.keptStates();
  if (opened.value?.model !== model) return;
  const found = states
    .filter(({ messages }) => messages.length > 0)
    .sort((a, b) => a.created - b.created || a.tokens - b.tokens)
    .map((state): Place => ({ state, passages: state.messages.map(passageOf) }));
  places.value = [...found, ...places.value];
}

const passageOf = ({ role, content }: KeptState['messages'][number]): Passage => ({
  by: role === 'user' ? 'you' : 'model',
  text: String(content),
});

function measure(of: TabSession): void {
  tokens.value = of.tokens.length;
  bytes.value = of.bytes;
  const last = growth.value.at(-1);
  if (last?.tokens !== tokens.value)
    growth.value = [...growth.value, { tokens: tokens.value, bytes: bytes.value }];
}

/** Reads what was typed, and writes on. */
export async function write(): Promise<void> {
  const of = session;
  if (!of || running.value) return;
  const controller = new AbortController();
  running.value = controller;
  const before = passages.value;
  try {
    const typed = draft.value;
    const began = performance.now();
    if (typed !== '') {
      await of.read(typed);
      passages.value = [...passages.value, { by: 'you', text: typed }];
      draft.value = '';
    }
    if (places.value.length === 0 || typed !== '') await mark(of);
    const { signal } = controller;
    let written = '';
    let first = 0;
    let count = 0;
    const read = passages.value;
    for await (const { text } of of.generate({
      maxTokens: length.value,
      temperature: temperature.value,
      signal,
    })) {
      count++;
      if (count === 1) {
        first = performance.now();
        firstToken.value = first - began;
      } else tokensPerSecond.value = ((count - 1) * 1000) / (performance.now() - first);
      written += text;
      passages.value = [...read, { by: 'model', text: written }];
      measure(of);
    }
  } catch (error) {
    if (!controller.signal.aborted) {
      if (passages.value.length === before.length) passages.value = before;
      throw error;
    }
  } finally {
    running.value = undefined;
    measure(of);
    if (passages.value.length > before.length) await mark(of);
  }
}

/** Keeps the place where the text stands. */
async function mark(of: TabSession): Promise<void> {
  await keep(await of.snapshot());
}

/** Keeps a state as a place; where there is no room for it the text goes on without. */
async function keep(snapshot: TabSnapshot): Promise<void> {
  const all = passages.value;
  const messages = all.map(({ by, text }) => ({ role: by === 'you' ? 'user' : 'assistant', content: text }));
  try {
    const state = await snapshot.keep({ messages });
    places.value = [...places.value, { passages: all, state }];
  } catch (error) {
    report(error);
  } finally {
    await snapshot.dispose();
  }
  for (const place of places.value.slice(0, -MOST_PLACES)) await forget(place);
}

/** Goes back, or over, to a place. */
export async function goTo({ passages: there, state }: Place): Promise<void> {
  const { model } = opened.value ?? {};
  if (!model || !session || running.value) return;
  const snapshot = await model.keptState(state.id);
  await session.restore(snapshot);
  await snapshot.dispose();
  passages.value = there;
  draft.value = '';
  measure(session);
}

/** Removes a place. */
export async function forget({ state }: Place): Promise<void> {
  places.value = places.value.filter((place) => place.state.id !== state.id);
  await opened.value?.model.deleteState(state.id);
}

export async function startAgain(): Promise<void> {
  const { model } = opened.value ?? {};
  if (!model || running.value) return;
  await session?.dispose();
  session = model.session();
  draft.value = textOf(passages.value.slice(0, 1)) || BEGINNING;
  passages.value = [];
  growth.value = [];
  tokens.value = 0;
  bytes.value = 0;
}

/** The state as a file, which `heddle` in Node opens too. */
export async function saveState(): Promise<void> {
  if (!session) return;
  const snapshot = await session.snapshot();
  download(await snapshot.toBlob(), 'heddle-state.safetensors');
  await snapshot.dispose();
}

/** A state that was saved here or in Node. */
export async function openState(file: File): Promise<void> {
  const { model } = opened.value ?? {};
  if (!model || !session) return;
  const snapshot = await model.loadSnapshot(file);
  await session.restore(snapshot);
  const text = await model.decode(session.tokens);
  passages.value = [{ by: 'you', text }];
  draft.value = '';
  measure(session);
  await keep(snapshot);
}

export function textOf(all: readonly Passage[]): string {
  return all.map(({ text }) => text).join('');
}

/** Gives a person a file. */
export function download(file: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
