/**
 * A conversation with a model: every turn leaves a snapshot, and the turns are a tree. To rewind is to stand at an earlier
 * turn; what is said there begins a branch.
 */
import type { ChatOutcome, Message, StoredState } from '../api.js';

export interface Turn {
  readonly id: string;
  readonly parent: string | undefined;
  /** `kept` begins with a memory that was kept, `fork` is a copy of its parent's; nothing is said in either. */
  readonly kind: 'turn' | 'fork' | 'kept';
  readonly said: string;
  readonly answer: string;
  readonly status: 'writing' | 'done' | 'stopped' | 'failed';
  /** What went wrong. */
  readonly problem?: string;
  /** The memory after the turn, unless it was not kept. */
  readonly state?: StoredState;
  readonly outcome?: ChatOutcome;
  readonly tokensPerSecond?: number;
}

export type Tree = readonly Turn[];

/** From the beginning to a turn. */
export function pathTo(tree: Tree, head: string | undefined): Turn[] {
  const path: Turn[] = [];
  let at = head;
  while (at !== undefined) {
    const turn = tree.find(({ id }) => id === at);
    if (!turn) break;
    path.unshift(turn);
    at = turn.parent;
  }
  return path;
}

/** What to send to go on behind a turn: the nearest memory before it, and what came since. */
export function continuation(
  tree: Tree,
  head: string | undefined,
  said: string,
): { state?: string; messages: Message[] } {
  const path = pathTo(tree, head);
  const last = path.findLastIndex(({ state }) => state !== undefined);
  const messages = path.slice(last + 1).flatMap(saidAndAnswered);
  messages.push({ role: 'user', content: said });
  const state = path[last]?.state?.id;
  return { ...(state !== undefined && { state }), messages };
}

/** What was said up to a turn, as far as it is known here: behind a memory that was kept, without what that one has read. */
export function messagesOf(tree: Tree, head: string | undefined): Message[] {
  return pathTo(tree, head).flatMap(saidAndAnswered);
}

function saidAndAnswered({ kind, status, said, answer }: Turn): Message[] {
  if (kind !== 'turn' || status === 'failed') return [];
  return [
    { role: 'user', content: said },
    { role: 'assistant', content: answer },
  ];
}

/** A row of the tree as it is drawn: branches side by side, children below their parents. */
export interface TreeRow {
  readonly turn: Turn;
  readonly column: number;
  /** Row and column of the parent. */
  readonly from: { row: number; column: number } | undefined;
}

/** Rows in the order in which they are drawn: a branch is followed to its end before the next one begins. */
export function rowsOf(tree: Tree): TreeRow[] {
  const childrenOf = (id: string | undefined): Turn[] => tree.filter(({ parent }) => parent === id);
  const rows: TreeRow[] = [];
  let columns = 0;
  const visit = (turn: Turn, column: number, from: TreeRow['from']): void => {
    const row = rows.length;
    rows.push({ turn, column, from });
    for (const [i, child] of childrenOf(turn.id).entries()) {
      visit(child, i === 0 ? column : ++columns, { row, column });
    }
  };
  for (const [i, root] of childrenOf(undefined).entries()) {
    visit(root, i === 0 ? 0 : ++columns, undefined);
  }
  return rows;
}

/** Bytes that the conversation takes after a turn; a memory that was kept takes a little more, with its tokens. */
export function bytesAfter({ outcome, state }: Turn): number {
  return outcome?.stateBytes ?? state?.bytes ?? 0;
}

/** What a turn is called where there is little room. */
export function titleOf({ kind, said, state }: Turn): string {
  if (state?.name) return state.name;
  if (kind === 'fork') return 'fork';
  return said.replace(/\s+/g, ' ').trim() || 'went on';
}
