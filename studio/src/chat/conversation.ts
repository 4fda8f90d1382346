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
  /** What the model is told before it, where the conversation begins. */
  readonly system?: string;
  readonly said: string;
  /** What the model thought before it answered. */
  readonly thoughts?: string;
  readonly answer: string;
  readonly status: 'writing' | 'done' | 'stopped' | 'failed';
  /** When the answer was asked for, in milliseconds since 1970. */
  readonly began?: number;
  /** Characters that were sent for it. */
  readonly sent?: number;
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

/**
 * What to send to have a turn answered: the nearest memory before it, and what came since. With `begun`, the beginning of the
 * answer, a model without a chat template goes on behind that.
 */
export function requestFor(tree: Tree, turn: Turn, begun = ''): { state?: string; messages: Message[] } {
  const path = pathTo(tree, turn.parent);
  const last = path.findLastIndex(({ state }) => state !== undefined);
  const messages = [...path.slice(last + 1).flatMap(saidAndAnswered), ...said(turn)];
  if (begun !== '') messages.push({ role: 'assistant', content: begun });
  const state = path[last]?.state?.id;
  return { ...(state !== undefined && { state }), messages };
}

/** What was said up to a turn, as far as it is known here: behind a memory that was kept, without what that one has read. */
export function messagesOf(tree: Tree, head: string | undefined): Message[] {
  return pathTo(tree, head).flatMap(saidAndAnswered);
}

/** The turn that the next one follows: one that failed, or was stopped before anything came, is on nobody's way. */
export function standOf(tree: Tree, head: string | undefined): string | undefined {
  return pathTo(tree, head).findLast(isOnTheWay)?.id;
}

function isOnTheWay({ status, answer }: Turn): boolean {
  return status !== 'failed' && !(status === 'stopped' && answer === '');
}

function saidAndAnswered(turn: Turn): Message[] {
  if (turn.kind !== 'turn' || !isOnTheWay(turn)) return [];
  const { answer, thoughts } = turn;
  return [
    ...said(turn),
    { role: 'assistant', content: answer, ...(thoughts && { reasoning_content: thoughts }) },
  ];
}

function said({ system, said }: Turn): Message[] {
  return [...(system ? [{ role: 'system', content: system } as const] : []), { role: 'user', content: said }];
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
