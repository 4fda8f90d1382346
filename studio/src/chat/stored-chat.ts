/** The chat as the browser keeps it, so that it is there again when the page is. */
import { report } from '../parts/status.js';
import type { Tree, Turn } from './conversation.js';

/** A view of a conversation. */
export interface Lane {
  readonly id: string;
  readonly model: string;
  /** The turn where it stands; `undefined` at the beginning. */
  readonly head: string | undefined;
}

/** How models choose their words; what is undefined is left to each model's own defaults. */
export interface Sampling {
  readonly temperature: number | undefined;
  readonly topP: number | undefined;
  readonly maxTokens: number;
  readonly seed: number | undefined;
  /** What models with a chat template are told before a conversation; empty for nothing. */
  readonly system: string;
}

export interface StoredChat {
  /** A tree a model. */
  readonly trees: Readonly<Record<string, Tree>>;
  readonly lanes: readonly Lane[];
  readonly sampling: Sampling;
}

const KEY = 'heddle.chat';
const FRESH: StoredChat = {
  trees: {},
  lanes: [],
  sampling: { temperature: undefined, topP: undefined, maxTokens: 1024, seed: undefined, system: '' },
};

export function storeChat(chat: StoredChat): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(chat));
  } catch {
    report(
      new Error(
        'The browser has no room for more: this conversation is gone with the page. Start a new chat.',
      ),
    );
  }
}

export function restoreChat(): StoredChat {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY) ?? '{}') as Partial<StoredChat>;
    const trees = Object.entries(stored.trees ?? {}).map(([model, tree]) => [model, tree.map(interrupted)]);
    return {
      ...FRESH,
      ...stored,
      sampling: { ...FRESH.sampling, ...stored.sampling },
      trees: Object.fromEntries(trees),
    };
  } catch {
    return FRESH;
  }
}

/** A page that was left in the middle of an answer has what had come of it. */
function interrupted(turn: Turn): Turn {
  return turn.status === 'writing' ? { ...turn, status: 'stopped' } : turn;
}
