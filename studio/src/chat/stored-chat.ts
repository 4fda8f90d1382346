/** Stores the chat in the browser, and restores it with the page. */
import { report } from '../parts/status.js';
import type { Tree, Turn } from './conversation.js';

/** A view of a conversation. */
export interface Lane {
  readonly id: string;
  readonly model: string;
  /** The current turn; `undefined` at the start. */
  readonly head: string | undefined;
}

/** Sampling settings; undefined uses each model's own default. */
export interface Sampling {
  readonly temperature: number | undefined;
  readonly topP: number | undefined;
  readonly maxTokens: number;
  readonly seed: number | undefined;
  /** The system prompt, for models with a chat template; empty for none. */
  readonly system: string;
}

export interface StoredChat {
  /** A tree per model. */
  readonly trees: Readonly<Record<string, Tree>>;
  readonly lanes: readonly Lane[];
  readonly sampling: Sampling;
  /** When it was begun with no turns, in milliseconds since 1970. */
  readonly begun: number;
}

const KEY = 'heddle.chat';
const FRESH: StoredChat = {
  trees: {},
  lanes: [],
  sampling: { temperature: undefined, topP: undefined, maxTokens: 1024, seed: undefined, system: '' },
  begun: 0,
};

export function storeChat(chat: StoredChat): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(chat));
  } catch {
    report(
      new Error(
        'The browser has no storage left: this conversation will be lost with the page. Start a new chat.',
      ),
    );
  }
}

export function restoreChat(): StoredChat {
  const chat = readChat(localStorage.getItem(KEY));
  const trees = Object.entries(chat.trees).map(([model, tree]) => [model, tree.map(interrupted)]);
  return { ...chat, trees: Object.fromEntries(trees) };
}

/** Calls back with what other tabs store, and with what they stored while this page was kept by the browser unseen. */
export function followStored(onChange: (chat: StoredChat) => void): void {
  addEventListener('storage', ({ key, newValue }) => {
    if (key === KEY) onChange(readChat(newValue));
  });
  addEventListener('pageshow', ({ persisted }) => {
    if (persisted) onChange(readChat(localStorage.getItem(KEY)));
  });
}

function readChat(text: string | null): StoredChat {
  try {
    const stored = JSON.parse(text ?? '{}') as Partial<StoredChat>;
    return { ...FRESH, ...stored, sampling: { ...FRESH.sampling, ...stored.sampling } };
  } catch {
    return FRESH;
  }
}

/** A turn whose page was closed during the answer keeps the partial answer. */
function interrupted(turn: Turn): Turn {
  return turn.status === 'writing' ? { ...turn, status: 'stopped' } : turn;
}
