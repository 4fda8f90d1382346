/**
 * A conversation with a model: every turn leaves a snapshot, and the turns are a tree. Rewinding moves to an earlier
 * turn; a message there starts a branch.
 */
import type { ChatOutcome, Message, StoredState } from '../api.js';

export interface Turn {
  readonly id: string;
  readonly parent: string | undefined;
  /** `kept` starts with a saved state, `fork` is a copy of its parent's state; neither has a message. */
  readonly kind: 'turn' | 'fork' | 'kept';
  /** The system prompt, in the first turn. */
  readonly system?: string;
  readonly said: string;
  /** The model's thought before the answer. */
  readonly thoughts?: string;
  readonly answer: string;
  readonly status: 'writing' | 'done' | 'stopped' | 'failed';
  /** The time of the request, in milliseconds since 1970. */
  readonly began?: number;
  /** Characters that were sent in the request. */
  readonly sent?: number;
  /** The error message. */
  readonly problem?: string;
  /** The state after the turn, if it was stored. */
  readonly state?: StoredState;
  readonly outcome?: ChatOutcome;
  readonly tokensPerSecond?: number;
  /** The time of the last change, in milliseconds since 1970. */
  readonly changed?: number;
}

/** The time now, but later than an earlier one: a clock may be set back, and two changes come in one millisecond. */
export function timeAfter(earlier = 0): number {
  return Math.max(Date.now(), earlier + 1);
}

export type Tree = readonly Turn[];

/** The turns from the start to a turn. */
export function pathTo(tree: Tree, head: string | undefined): Turn[] {
  const turns = new Map(tree.map((turn) => [turn.id, turn]));
  const path: Turn[] = [];
  for (let at = turns.get(head ?? ''); at; at = turns.get(at.parent ?? '')) path.push(at);
  return path.reverse();
}

/**
 * The request for the answer of a turn: the nearest state before it, and the messages since. With `begun`, the start of the
 * answer, a model without a chat template continues that text.
 */
export function requestFor(tree: Tree, turn: Turn, begun = ''): { state?: string; messages: Message[] } {
  const path = pathTo(tree, turn.parent);
  const last = path.findLastIndex(({ state }) => state !== undefined);
  const messages = [...path.slice(last + 1).flatMap(saidAndAnswered), ...said(turn)];
  if (begun !== '') messages.push({ role: 'assistant', content: begun });
  const state = path[last]?.state?.id;
  return { ...(state !== undefined && { state }), messages };
}

/** The messages up to a turn; after a saved state, without the messages that the state has read. */
export function messagesOf(tree: Tree, head: string | undefined): Message[] {
  return pathTo(tree, head).flatMap(saidAndAnswered);
}

/** The turn that the next one follows: turns that failed or were stopped before any answer are skipped. */
export function standOf(tree: Tree, head: string | undefined): string | undefined {
  return pathTo(tree, head).findLast(isOnTheWay)?.id;
}

function isOnTheWay({ status, answer }: Turn): boolean {
  return status === 'writing' || status === 'done' || answer !== '';
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

/**
 * The turns of both trees; of a turn that is in both, the version that was changed last. Of those that are `arriving` here, mine: a tab
 * that was opened meanwhile takes their answers for broken off.
 */
export function merged(mine: Tree, theirs: Tree, arriving: ReadonlySet<string> = new Set()): Tree {
  const own = new Map(mine.map((turn) => [turn.id, turn]));
  const both = theirs.map((turn) => {
    const other = own.get(turn.id);
    own.delete(turn.id);
    const isMine = arriving.has(turn.id) && turn.status !== 'writing';
    return other && (isMine || (other.changed ?? 0) > (turn.changed ?? 0)) ? other : turn;
  });
  return [...both, ...own.values()];
}

/** A row of the drawn tree: branches are side by side, children below their parents. */
export interface TreeRow {
  readonly turn: Turn;
  readonly column: number;
  /** Row and column of the parent. */
  readonly from: { row: number; column: number } | undefined;
}

/** The rows in drawing order: depth first, branch by branch. */
export function rowsOf(tree: Tree): TreeRow[] {
  const children = new Map<string | undefined, Turn[]>();
  for (const turn of tree) {
    const beside = children.get(turn.parent);
    if (beside) beside.push(turn);
    else children.set(turn.parent, [turn]);
  }
  const rows: TreeRow[] = [];
  let columns = 0;
  const visit = (turn: Turn, column: number, from: TreeRow['from']): void => {
    const row = rows.length;
    rows.push({ turn, column, from });
    for (const [i, child] of (children.get(turn.id) ?? []).entries()) {
      visit(child, i === 0 ? column : ++columns, { row, column });
    }
  };
  for (const [i, root] of (children.get(undefined) ?? []).entries()) {
    visit(root, i === 0 ? 0 : ++columns, undefined);
  }
  return rows;
}

/** The size of the state after a turn, in bytes; a saved state also includes its tokens. */
export function bytesAfter({ outcome, state }: Turn): number {
  return outcome?.stateBytes ?? state?.bytes ?? 0;
}

/** A short title of a turn. */
export function titleOf({ kind, said, state }: Turn): string {
  if (state?.name) return state.name;
  if (kind === 'fork') return 'fork';
  return said.replace(/\s+/g, ' ').trim() || 'went on';
}
