/**
 * Which bytes may come next. A state is all the ways in which a grammar can go on after what was written, each a stack of what is
 * still to come. Stacks and states that are equal are the same object, so that what is known of one is found again; but those
 * that hold a text that must differ from others are each one of a kind.
 */
import { ConfigError } from '../../errors.js';
import { type Costs, captures, costBeside, costFrom, costsOf, costsOfDistinct } from './costs.js';
import type { Node, RepeatNode } from './node.js';
import { type Branch, otherEnd, Seen } from './seen.js';

/** A node that is partly done, and what comes after it. */
interface Frame {
  readonly id: number;
  readonly node: Node;
  /** Bytes, nodes or repetitions that are done; the state of a terminal. */
  readonly at: number | string;
  readonly rest: Frame | undefined;
  /** What was captured in the nearest repetition of distinct nodes, which is this one or around it. */
  readonly seen: Seen | undefined;
  /** Of a captured terminal. */
  readonly capture: Capture | undefined;
  /** With so many bytes the text can end from here. */
  readonly cost: number;
}

/** What a captured terminal has written. */
interface Capture {
  /** A character a byte. */
  readonly text: string;
  /** The texts before that begin so; undefined where none does, so that whatever follows differs. */
  readonly alike: Branch | undefined;
}

/** Where a text stands in a grammar: all ways in which it was read so far. Equal states are one object. */
export interface MatchState {
  /** Whether the text may end here. */
  readonly accepts: boolean;
  /** Whether it must: nothing can follow. */
  readonly final: boolean;
  /** Whose tops are bytes and terminals. */
  readonly frames: readonly Frame[];
  /** With so many bytes the text can end from here: one of the bytes that may come leads to a state from which one fewer will do. */
  readonly cost: number;
  readonly steps: Map<number, MatchState | undefined>;
}

/** What a frame becomes when what takes no bytes is left out: frames that take one, and whether nothing may be left. */
interface Expanded {
  readonly frames: readonly Frame[];
  readonly accepts: boolean;
}

/** The caches are cleared when their states have so many frames together. */
const MANY = 200_000;
/** How many frames a state keeps, among them the cheapest. Each can be completed, so dropping some only restricts what may be written. */
const MANY_WAYS = 512;
/** Bytes of the longest completion that is considered. */
export const LONGEST_END = 2 ** 16;

/** Reads bytes by a grammar, all ways at once, and keeps each state and each step that it found. */
export class Matcher {
  readonly start: MatchState;
  /** How much was done so far, counted in frames that were looked at and bytes that were spelled. What is known costs nothing. */
  spent = 0;
  private readonly costs: Costs;
  private readonly costsOfRepeats = new Map<RepeatNode, Float64Array>();
  private readonly known = new Map<string, Frame>();
  private readonly states = new Map<string, MatchState>();
  private framesOfStates = 0;
  private frames = 0;

  /** Throws `ConfigError` for a grammar that no text follows. */
  constructor(root: Node) {
    this.costs = costsOf(root);
    if (this.costs.get(root) === Infinity) throw new ConfigError('no text follows this grammar');
    this.start = this.stateOf(this.expand([this.begin(root, undefined)]));
  }

  /** The state after a byte; undefined where it must not come. */
  step(state: MatchState, byte: number): MatchState | undefined {
    const { steps } = state;
    if (steps.has(byte)) return steps.get(byte);
    const after: (Frame | undefined)[] = [];
    for (const frame of state.frames) this.advance(frame, byte, after);
    this.spent += 1 + (state.frames.length >> 3);
    const next = after.length > 0 ? this.stateOf(this.expand(after)) : undefined;
    const alive = next && (next.accepts || next.frames.length > 0) ? next : undefined;
    steps.set(byte, alive);
    return alive;
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

  /**
   * With how many bytes the text can end after these; undefined where they must not come. As `run` says, but for bytes that stay within
   * a captured text no states are made, which nobody would ask for again.
   */
  costAfter({ frames, ...state }: MatchState, bytes: Uint8Array): number | undefined {
    const free = frames.find(({ capture }) => capture && !capture.alike);
    if (free?.node.kind === 'terminal') {
      const { terminal } = free.node;
      let at: Frame['at'] | undefined = free.at;
      for (let i = 0; i < bytes.length && at !== undefined; i++) at = terminal.step(at, bytes[i]!);
      if (at !== undefined) return terminal.completion(at).length + (free.rest?.cost ?? 0);
    }
    return this.run({ frames, ...state }, bytes)?.cost;
  }

  /** Few bytes with which the text can end, if not the fewest; undefined where the grammar has no end that is near. */
  completion(state: MatchState): Uint8Array | undefined {
    if (state.accepts) return new Uint8Array(0);
    const frame = state.frames.reduce(cheaper);
    if (frame.cost > LONGEST_END) return undefined;
    const bytes: number[] = [];
    this.spell(frame, bytes);
    this.spent += bytes.length;
    return Uint8Array.from(bytes);
  }

  /** The only frame of a node at a place, with what comes after it. */
  private frame(node: Node, at: number | string, rest: Frame | undefined, own?: Seen): Frame {
    // Quotes tell the text '0' from the number 0.
    const key = `${node.id} ${typeof at === 'string' ? `"${at}` : at} ${rest?.id ?? 0} ${own?.id ?? 0}`;
    let frame = this.known.get(key);
    if (!frame) {
      if (this.known.size > MANY) this.known.clear();
      const seen = own ?? rest?.seen;
      const cost = this.costOf(node, at, seen) + (rest?.cost ?? 0);
      frame = { id: ++this.frames, node, at, rest, seen, capture: undefined, cost };
      this.known.set(key, frame);
    }
    return frame;
  }

  private costOf(node: Node, at: number | string, seen: Seen | undefined): number {
    if (node.kind === 'terminal') return node.terminal.completion(at).length;
    if (node.kind === 'repeat' && node.distinct) return this.costsOfDistinct(node)[at as number] ?? 0;
    if (node.kind === 'sequence' && seen && captures(node)) {
      let sum = 0;
      for (const child of node.nodes.slice(at as number)) sum += this.costBeside(child, seen);
      return sum;
    }
    if (at === 0) return this.costBeside(node, seen);
    return costFrom(node, at as number, this.costs);
  }

  private costBeside(node: Node, seen: Seen | undefined): number {
    return seen ? costBeside(node, seen, this.costs) : this.costs.get(node)!;
  }

  private costsOfDistinct(node: RepeatNode): Float64Array {
    let costs = this.costsOfRepeats.get(node);
    if (!costs) {
      costs = costsOfDistinct(node, this.costs);
      this.costsOfRepeats.set(node, costs);
    }
    return costs;
  }

  /** A captured terminal's frame. Undefined where nothing that it can become differs from what was captured before. */
  private capturing(
    node: Node & { kind: 'terminal' },
    at: number | string,
    rest: Frame | undefined,
    capture: Capture,
  ): Frame | undefined {
    const end = capture.alike
      ? otherEnd(node.terminal, at, capture.alike)?.length
      : node.terminal.completion(at).length;
    if (end === undefined) return undefined;
    const cost = end + (rest?.cost ?? 0);
    return { id: ++this.frames, node, at, rest, seen: rest?.seen, capture, cost };
  }

  /** A node from its beginning. Undefined where it cannot be completed. */
  private begin(node: Node, rest: Frame | undefined): Frame | undefined {
    if (this.costBeside(node, rest?.seen) === Infinity) return undefined;
    if (node.kind !== 'terminal') return this.frame(node, 0, rest, isDistinct(node) ? Seen.none : undefined);
    const { terminal } = node;
    if (!node.captured) return this.frame(node, terminal.start, rest);
    return this.capturing(node, terminal.start, rest, { text: '', alike: rest?.seen?.root });
  }

  private stateOf({ frames, accepts }: Expanded): MatchState {
    const cost = accepts ? 0 : frames.reduce((least, frame) => Math.min(least, frame.cost), Infinity);
    const state = { accepts, final: accepts && frames.length === 0, frames, cost, steps: new Map() };
    if (frames.some(({ capture }) => capture)) return state;
    const ids = frames.map(({ id }) => id).sort((a, b) => a - b);
    const key = `${accepts} ${ids.join(' ')}`;
    const found = this.states.get(key);
    if (found) return found;
    this.framesOfStates += frames.length;
    if (this.framesOfStates > MANY) {
      this.states.clear();
      this.framesOfStates = frames.length;
    }
    this.states.set(key, state);
    return state;
  }

  /** Adds what a frame becomes with a byte. */
  private advance({ node, at, rest, capture }: Frame, byte: number, after: (Frame | undefined)[]): void {
    if (node.kind === 'bytes') {
      const done = at as number;
      if (node.bytes[done] !== byte) return;
      after.push(done + 1 === node.bytes.length ? rest : this.frame(node, done + 1, rest));
    } else if (node.kind === 'terminal') {
      const next = node.terminal.step(at, byte);
      if (next === undefined) return;
      if (!capture) after.push(this.frame(node, next, rest));
      else {
        const text = capture.text + String.fromCharCode(byte);
        const frame = this.capturing(node, next, rest, { text, alike: capture.alike?.branches.get(byte) });
        if (frame) after.push(frame);
      }
    }
  }

  private expand(from: readonly (Frame | undefined)[]): Expanded {
    const frames: Frame[] = [];
    const seen = new Set<Frame>();
    let accepts = false;
    const todo = [...from];
    lastIsCheapest(todo, (frame) => frame?.cost ?? 0);
    // The cheapest way is looked at first, and kept however long it is.
    const isEnough = (): boolean =>
      (accepts || frames.length > 0) && (frames.length >= MANY_WAYS || seen.size >= 8 * MANY_WAYS);
    while (todo.length > 0 && !isEnough()) {
      const now = todo.pop();
      if (now === undefined) accepts = true;
      else if (!seen.has(now)) {
        seen.add(now);
        if (takesByte(now)) frames.push(now);
        this.within(now, todo);
      }
    }
    this.spent += seen.size;
    return { frames, accepts };
  }

  /** Expands a frame that takes no byte itself (epsilon closure). The cheapest alternative is pushed last, so that it is popped first. */
  private within({ node, at, rest, seen, capture }: Frame, to: (Frame | undefined)[]): void {
    const begin = (child: Node, after: Frame | undefined): void => {
      const frame = this.begin(child, after);
      if (frame) to.push(frame);
    };
    switch (node.kind) {
      case 'bytes':
        if (node.bytes.length === 0) to.push(rest);
        return;
      case 'terminal':
        if (!node.terminal.accepts(at)) return;
        if (!capture) to.push(rest);
        else if (!capture.alike?.ends) to.push(this.withSeen(rest, capture.text));
        return;
      case 'sequence': {
        const i = at as number;
        if (i === node.nodes.length) to.push(rest);
        else begin(node.nodes[i]!, i + 1 === node.nodes.length ? rest : this.frame(node, i + 1, rest));
        return;
      }
      case 'choice': {
        const ways: Frame[] = [];
        for (const child of node.nodes) {
          const frame = this.begin(child, rest);
          if (frame) ways.push(frame);
        }
        this.spent += ways.length >> 2;
        lastIsCheapest(ways, ({ cost }) => cost);
        for (const way of ways) to.push(way);
        return;
      }
      case 'repeat': {
        const count = at as number;
        if (count < node.most) {
          // Beyond the least count, and without an upper bound, only whether a separator comes depends on the count: such states are shared.
          const isCounted = node.distinct || node.most < Infinity;
          const next = isCounted ? count + 1 : Math.min(count + 1, Math.max(node.least, 1));
          begin(
            count === 0 ? node.node : node.again,
            this.frame(node, next, rest, node.distinct ? seen : undefined),
          );
        }
        if (count >= node.least) to.push(rest);
        return;
      }
      case 'reference':
        begin(node.get(), rest);
    }
  }

  /** The same stack, in which the nearest repetition of distinct nodes knows of one text more. */
  private withSeen(rest: Frame | undefined, text: string): Frame | undefined {
    if (!rest) return undefined;
    const { node, at } = rest;
    return isDistinct(node)
      ? this.frame(node, at, rest.rest, rest.seen!.with(text))
      : this.frame(node, at, this.withSeen(rest.rest, text));
  }

  /** Adds the bytes with which a text can end from a frame, as many as it costs. */
  private spell(from: Frame, to: number[]): void {
    // What was captured in the nearest repetition of distinct nodes around a frame.
    let seen = from.seen;
    for (let now: Frame | undefined = from; now; now = now.rest) {
      const { node, at, capture } = now;
      if (node.kind === 'bytes') for (const byte of node.bytes.subarray(at as number)) to.push(byte);
      else if (node.kind !== 'terminal') seen = this.spellNode(node, at as number, seen, to);
      else if (!capture) for (const byte of node.terminal.completion(at)) to.push(byte);
      else {
        const end = otherEnd(node.terminal, at, capture.alike)!;
        for (const sign of end) to.push(sign.charCodeAt(0));
        seen = seen?.with(capture.text + end);
      }
      if (isDistinct(node)) seen = now.rest?.seen;
    }
  }

  /** Adds a node's bytes from a place on. Returns what was captured with them, in the repetition that this is or that is around it. */
  private spellNode(root: Node, from: number, around: Seen | undefined, to: number[]): Seen | undefined {
    const outer = { seen: around };
    const todo = [{ node: root, at: from, within: outer }];
    while (todo.length > 0) {
      const { node, at, within } = todo.pop()!;
      if (node.kind === 'bytes') for (const byte of node.bytes.subarray(at)) to.push(byte);
      else if (node.kind === 'terminal') {
        const { terminal, captured } = node;
        if (!captured || !within.seen) for (const byte of terminal.completion(terminal.start)) to.push(byte);
        else {
          const text = within.seen.other(terminal)!;
          within.seen = within.seen.with(text);
          for (const sign of text) to.push(sign.charCodeAt(0));
        }
      } else {
        const inner = isDistinct(node) && node !== root ? { seen: Seen.none as Seen | undefined } : within;
        for (const child of this.cheapest(node, at, within.seen).reverse()) {
          todo.push({ node: child, at: 0, within: inner });
        }
      }
    }
    return outer.seen;
  }

  /** The nodes that a node's fewest bytes are those of. */
  private cheapest(node: Node, at: number, seen: Seen | undefined): Node[] {
    switch (node.kind) {
      case 'sequence':
        return node.nodes.slice(at);
      case 'choice': {
        const cost = (child: Node): number => this.costBeside(child, seen);
        return [node.nodes.reduce((a, b) => (cost(b) < cost(a) ? b : a))];
      }
      case 'repeat': {
        const nodes: Node[] = [];
        for (let count = at; count < node.least; count++) nodes.push(count === 0 ? node.node : node.again);
        return nodes;
      }
      case 'reference':
        return [node.get()];
      default:
        return [];
    }
  }
}

function cheaper(a: Frame, b: Frame): Frame {
  return b.cost < a.cost ? b : a;
}

/** Swaps the cheapest item (the first of several) with the last. */
function lastIsCheapest<T>(list: T[], cost: (item: T) => number): void {
  const last = list.length - 1;
  let best = 0;
  for (let i = 1; i <= last; i++) if (cost(list[i]!) < cost(list[best]!)) best = i;
  if (last >= 0) [list[best], list[last]] = [list[last]!, list[best]!];
}

function isDistinct(node: Node): boolean {
  return node.kind === 'repeat' && node.distinct;
}

function takesByte({ node, at }: Frame): boolean {
  if (node.kind === 'bytes') return node.bytes.length > 0;
  return node.kind === 'terminal' && node.terminal.goesOn(at);
}
