/**
 * Which bytes may come next. A state is all the ways in which a grammar can go on after what was written, each a stack of what is
 * still to come. Stacks and states that are equal are the same object, so that what is known of one is found again.
 */
import type { Node } from './node.js';

/** A node that is partly done, and what comes after it. */
interface Frame {
  readonly id: number;
  readonly node: Node;
  /** Bytes, nodes or repetitions that are done; the text of a number so far. */
  readonly at: number | string;
  readonly rest: Frame | undefined;
}

export interface MatchState {
  /** Whether the text may end here. */
  readonly accepts: boolean;
  /** Whether it must: nothing can follow. */
  readonly final: boolean;
  /** Whose tops are bytes, sets and numbers. */
  readonly frames: readonly Frame[];
  readonly steps: Map<number, MatchState | undefined>;
}

/** What a frame becomes when what takes no bytes is left out: frames that take one, and whether nothing may be left. */
interface Expanded {
  readonly frames: readonly Frame[];
  readonly accepts: boolean;
}

/** Beyond this, what is known is forgotten: a text of many states is rare, and they take memory. */
const MANY_STATES = 20_000;
/** A longer end is none that anybody waits for. */
const LONGEST_END = 2 ** 16;
/** What is written where any character would do. */
const LETTER = 0x61;

export class Matcher {
  readonly start: MatchState;
  private readonly known = new Map<string, Frame>();
  private readonly states = new Map<string, MatchState>();
  private readonly costs = new Map<Node, number>();
  private frames = 0;

  constructor(private readonly root: Node) {
    this.findCosts();
    this.start = this.stateOf(this.expand(this.frame(this.root, 0, undefined)));
  }

  /** The state after a byte; undefined where it must not come. */
  step(state: MatchState, byte: number): MatchState | undefined {
    const { steps } = state;
    if (steps.has(byte)) return steps.get(byte);
    if (this.states.size > MANY_STATES) this.states.clear();
    const after = state.frames.map((frame) => this.advance(frame, byte));
    const frames = after.flatMap((expanded) => expanded?.frames ?? []);
    const accepts = after.some((expanded) => expanded?.accepts);
    const next = frames.length > 0 || accepts ? this.stateOf({ frames, accepts }) : undefined;
    steps.set(byte, next);
    return next;
  }

  /** The state after bytes. */
  run(state: MatchState | undefined, bytes: Iterable<number>): MatchState | undefined {
    let now = state;
    for (const byte of bytes) {
      if (!now) return undefined;
      now = this.step(now, byte);
    }
    return now;
  }

  /** The fewest bytes with which the text can end; undefined where the grammar has no end, or none that is near. */
  completion(state: MatchState): Uint8Array | undefined {
    if (state.accepts) return new Uint8Array(0);
    const ways = state.frames.map((frame) => [frame, this.costFrom(frame)] as const);
    const [frame, cost] = ways.reduce((a, b) => (b[1] < a[1] ? b : a));
    return cost <= LONGEST_END ? Uint8Array.from(this.bytesFrom(frame)) : undefined;
  }

  private frame(node: Node, at: number | string, rest: Frame | undefined): Frame {
    // The text '0' is not the beginning.
    const key = `${node.id} ${JSON.stringify(at)} ${rest?.id ?? 0}`;
    const found = this.known.get(key);
    if (found) return found;
    const frame = { id: ++this.frames, node, at, rest };
    this.known.set(key, frame);
    return frame;
  }

  private stateOf({ frames, accepts }: Expanded): MatchState {
    const distinct = [...new Set(frames)].sort((a, b) => a.id - b.id);
    const key = `${accepts} ${distinct.map(({ id }) => id).join(' ')}`;
    const found = this.states.get(key);
    if (found) return found;
    const state = { accepts, final: accepts && distinct.length === 0, frames: distinct, steps: new Map() };
    this.states.set(key, state);
    return state;
  }

  private advance({ node, at, rest }: Frame, byte: number): Expanded | undefined {
    switch (node.kind) {
      case 'bytes': {
        const done = at as number;
        if (node.bytes[done] !== byte) return undefined;
        return done + 1 === node.bytes.length
          ? this.expand(rest)
          : { frames: [this.frame(node, done + 1, rest)], accepts: false };
      }
      case 'set':
        return node.has[byte] ? this.expand(rest) : undefined;
      case 'number': {
        const text = `${at === 0 ? '' : at}${String.fromCharCode(byte)}`;
        return node.range.isBeginning(text) ? this.expand(this.frame(node, text, rest)) : undefined;
      }
      default:
        return undefined;
    }
  }

  private expand(frame: Frame | undefined): Expanded {
    const frames: Frame[] = [];
    const seen = new Set<Frame>();
    let accepts = false;
    const todo = [frame];
    while (todo.length > 0) {
      const now = todo.pop();
      if (now === undefined) accepts = true;
      else if (!seen.has(now)) {
        seen.add(now);
        if (takesByte(now)) frames.push(now);
        todo.push(...this.within(now));
      }
    }
    return { frames, accepts };
  }

  /** What a frame stands for where it takes no byte itself. */
  private within({ node, at, rest }: Frame): readonly (Frame | undefined)[] {
    switch (node.kind) {
      case 'bytes':
        return node.bytes.length === 0 ? [rest] : [];
      case 'set':
        return [];
      case 'number':
        return at !== 0 && node.range.isWhole(at as string) ? [rest] : [];
      case 'sequence': {
        const i = at as number;
        if (i === node.nodes.length) return [rest];
        const isLast = i + 1 === node.nodes.length;
        return [this.frame(node.nodes[i]!, 0, isLast ? rest : this.frame(node, i + 1, rest))];
      }
      case 'choice':
        return node.nodes.map((each) => this.frame(each, 0, rest));
      case 'repeat': {
        const count = at as number;
        // Beyond the least, and without a most, the count does not matter.
        const next = node.most === Number.POSITIVE_INFINITY ? Math.min(count + 1, node.least) : count + 1;
        const again = count < node.most ? [this.frame(node.node, 0, this.frame(node, next, rest))] : [];
        return count >= node.least ? [rest, ...again] : again;
      }
      case 'reference':
        return [this.frame(node.get(), 0, rest)];
    }
  }

  /** The fewest bytes of each node, by going over all until nothing changes. */
  private findCosts(): void {
    const nodes: Node[] = [];
    const todo = [this.root];
    while (todo.length > 0) {
      const node = todo.pop()!;
      if (this.costs.has(node)) continue;
      this.costs.set(node, Number.POSITIVE_INFINITY);
      nodes.push(node);
      todo.push(...childrenOf(node));
    }
    nodes.reverse();
    for (let changed = true; changed; ) {
      changed = false;
      for (const node of nodes) {
        const cost = this.costOf(node, 0);
        if (cost < this.costs.get(node)!) {
          this.costs.set(node, cost);
          changed = true;
        }
      }
    }
  }

  private costOf(node: Node, at: number | string): number {
    const cost = (child: Node): number => this.costs.get(child)!;
    switch (node.kind) {
      case 'bytes':
        return node.bytes.length - (at as number);
      case 'set':
        return 1;
      case 'number':
        return node.range.completion(at === 0 ? '' : (at as string)).length;
      case 'sequence':
        return node.nodes.slice(at as number).reduce((sum, child) => sum + cost(child), 0);
      case 'choice':
        return Math.min(...node.nodes.map(cost));
      case 'repeat': {
        const left = node.least - (at as number);
        return left > 0 ? left * cost(node.node) : 0;
      }
      case 'reference':
        return cost(node.get());
    }
  }

  private costFrom(frame: Frame | undefined): number {
    let cost = 0;
    for (let now = frame; now; now = now.rest) cost += this.costOf(now.node, now.at);
    return cost;
  }

  private *bytesFrom(frame: Frame): Generator<number> {
    for (let now: Frame | undefined = frame; now; now = now.rest) {
      const todo: [Node, number | string][] = [[now.node, now.at]];
      while (todo.length > 0) {
        const [node, at] = todo.pop()!;
        if (node.kind === 'bytes') yield* node.bytes.subarray(at as number);
        else if (node.kind === 'set') yield node.has.indexOf(1, node.has[LETTER] ? LETTER : 0);
        else if (node.kind === 'number')
          yield* Buffer.from(node.range.completion(at === 0 ? '' : (at as string)));
        else for (const child of this.cheapest(node, at as number).reverse()) todo.push([child, 0]);
      }
    }
  }

  /** The nodes that a node's fewest bytes are those of. */
  private cheapest(node: Node, at: number): Node[] {
    switch (node.kind) {
      case 'sequence':
        return node.nodes.slice(at);
      case 'choice':
        return [node.nodes.reduce((a, b) => (this.costs.get(b)! < this.costs.get(a)! ? b : a))];
      case 'repeat':
        return Array.from({ length: Math.max(0, node.least - at) }, () => node.node);
      default:
        return [...childrenOf(node)];
    }
  }
}

/** More pairs of states are not looked at. */
const MANY_PAIRS = 5_000;

/** Whether all that one grammar lets through, another does too; false also where that takes too long to say. */
export function isWithin(inner: Node, outer: Node): boolean {
  const a = new Matcher(inner);
  const b = new Matcher(outer);
  const seen = new Map<MatchState, Set<MatchState>>();
  const todo: [MatchState, MatchState][] = [[a.start, b.start]];
  for (let pairs = 0; todo.length > 0; pairs++) {
    const [one, other] = todo.pop()!;
    if (pairs > MANY_PAIRS || (one.accepts && !other.accepts)) return false;
    for (let byte = 0; byte < 256; byte++) {
      const next = a.step(one, byte);
      if (!next) continue;
      const also = b.step(other, byte);
      if (!also) return false;
      const met = seen.get(next) ?? new Set();
      if (met.has(also)) continue;
      seen.set(next, met.add(also));
      todo.push([next, also]);
    }
  }
  return true;
}

function takesByte({ node, at }: Frame): boolean {
  if (node.kind === 'bytes') return node.bytes.length > 0;
  if (node.kind === 'number') return at === 0 || node.range.next(at as string).length > 0;
  return node.kind === 'set';
}

function childrenOf(node: Node): readonly Node[] {
  switch (node.kind) {
    case 'sequence':
    case 'choice':
      return node.nodes;
    case 'repeat':
      return [node.node];
    case 'reference':
      return [node.get()];
    default:
      return [];
  }
}
