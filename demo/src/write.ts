/** One text that the model goes on with, and the places in it that one can go back to: each is the model's exact state there. */
import { computed, effect, signal } from '@preact/signals';
import type { TabSession, TabSnapshot } from '../../src/browser/index.js';
import { countLayers } from '../../src/models/pattern.js';
import { opened } from './tab.js';

export interface Passage {
  readonly by: 'you' | 'model';
  readonly text: string;
}

/** A state to go back to: all passages up to here were read or written. */
export interface Place {
  readonly passages: readonly Passage[];
  readonly snapshot: TabSnapshot;
}

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

/** What a transformer with attention in place of every mixer would keep of a token, in float32: as many keys and values as the hidden size. */
export const transformerBytes = computed(() => {
  const { config, pattern = '' } = opened.value?.model.info ?? {};
  const mixers = countLayers(pattern)
    .filter(({ letters }) => !/^[-E]$/.test(letters))
    .reduce((sum, { count }) => sum + count, 0);
  return mixers * 2 * Number(config?.hidden_size ?? 0) * 4;
});

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
  const snapshot = await of.snapshot();
  places.value = [...places.value, { passages: passages.value, snapshot }];
}

/** Goes back, or over, to a place. */
export async function goTo({ passages: there, snapshot }: Place): Promise<void> {
  if (!session || running.value) return;
  await session.restore(snapshot);
  passages.value = there;
  draft.value = '';
  measure(session);
}

export async function startAgain(): Promise<void> {
  const { model } = opened.value ?? {};
  if (!model || running.value) return;
  await session?.dispose();
  for (const { snapshot } of places.value) await snapshot.dispose();
  session = model.session();
  draft.value = textOf(passages.value.slice(0, 1)) || BEGINNING;
  passages.value = [];
  places.value = [];
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
  places.value = [...places.value, { passages: passages.value, snapshot }];
  draft.value = '';
  measure(session);
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
