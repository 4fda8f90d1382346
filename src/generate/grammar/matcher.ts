/**
 * A parser of grammars, byte by byte. Its state is the set of all stacks with which the grammar can continue after the text so far (as in a
 * nondeterministic pushdown automaton). Equal stacks and equal states are one object (hash consing), so that transitions are cached; only
 * stacks with a captured text that must differ from others are not shared.
 */
import { ConfigError } from '../../errors.js';
import { type Costs, captures, costBeside, costFrom, costsOf, costsOfDistinct } from './costs.js';
import type { Node, RepeatNode } from './node.js';
import { type Branch, otherEnd, Seen } from './seen.js';

/** A stack: a partly matched node, and the rest of the stack. */
interface Frame {
  readonly id: number;
  readonly node: Node;
  /** The number of matched bytes, nodes or repetitions; or the state of a terminal. */
  readonly at: number | string;
  readonly rest: Frame | undefined;
  /** What was captured in the nearest repetition of distinct nodes: this one, or one around it. */
  readonly seen: Seen | undefined;
  /** For a captured terminal. */
  readonly capture: Capture | undefined;
  /** The bytes that suffice to complete the text from here. */
  readonly cost: number;
}

/** The text of a captured terminal so far. */
interface Capture {
  /** One character for each byte. */
  readonly text: string;
  /** The earlier texts with this prefix; undefined if there are none, so that any continuation differs. */
  readonly alike: Branch | undefined;
}

/** A parser state: all stacks after a text. Equal states are one object. */
export interface MatchState {
  /** Whether the text may end here. */
  readonly accepts: boolean;
  /** Whether it must end here. */
  readonly final: boolean;
  /** The stacks; the top of each is a literal or a terminal. */
  readonly frames: readonly Frame[];
  /** The bytes that suffice to complete the text: one of the allowed bytes leads to a state with a cost of one less. */
  readonly cost: number;
  readonly steps: Map<number, MatchState | undefined>;
}

/** The epsilon closure of a stack: stacks that consume a byte next, and whether the stack may be complete. */
interface Expanded {
  readonly frames: readonly Frame[];
  readonly accepts: boolean;
}

/** The caches are cleared when their states have this many frames in total. */
const MANY = 200_000;
/** The most stacks of a state, always with the cheapest. Each can be completed, so dropping others only restricts the text. */
const MANY_WAYS = 512;
/** Bytes of the longest completion that is considered. */
export const LONGEST_END = 2 ** 16;

/** Parses bytes by a grammar, and caches states and transitions. */
export class Matcher {
  readonly start: MatchState;
  /** The work done so far: frames examined and bytes spelled. Cached transitions are free. */
  spent = 0;
  private readonly costs: Costs;
  private readonly costsOfRepeats = new Map<RepeatNode, Float64Array>();
  private readonly known = new Map<string, Frame>();
  private readonly states = new Map<string, MatchState>();
  private framesOfStates = 0;
  private frames = 0;

  /** Throws `ConfigError` for a grammar without any text. */
  constructor(root: Node) {
    this.costs = costsOf(root);
    if (this.costs.get(root) === Infinity) throw new ConfigError('no text follows this grammar');
    this.start = this.stateOf(this.expand([this.begin(root, undefined)]));
  }

  /** The state after a byte; undefined if the byte is not allowed. */
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
   * The bytes that suffice to complete the text after these; undefined if they are not allowed. As `run`, except that no states are created
   * for bytes within a captured text, since they would never be reused.
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

  /** A short, though not always the shortest, completion of the text; undefined if every completion is too long. */
  completion(state: MatchState): Uint8Array | undefined {
    if (state.accepts) return new Uint8Array(0);
    const frame = state.frames.reduce(cheaper);
    if (frame.cost > LONGEST_END) return undefined;
    const bytes: number[] = [];
    this.spell(frame, bytes);
    this.spent += bytes.length;
    return Uint8Array.from(bytes);
  }

  /** The unique frame of a node at a position, with this rest. */
  private frame(node: Node, at: number | string, rest: Frame | undefined, own?: Seen): Frame {
    // The quote distinguishes the string '0' from the number 0.
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

  /** A captured terminal's frame. Undefined if every completion equals a text that was captured before. */
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

  /** The frame of a node's beginning. Undefined if the node cannot be completed. */
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

  /** Adds the frames after a byte. */
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
    // The cheapest alternative is examined first, and always kept.
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
          // Beyond the minimum, and without an upper bound, the count only decides whether a separator comes, so such states are shared.
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

  /** The same stack with one more captured text in the nearest repetition of distinct nodes. */
  private withSeen(rest: Frame | undefined, text: string): Frame | undefined {
    if (!rest) return undefined;
    const { node, at } = rest;
    return isDistinct(node)
      ? this.frame(node, at, rest.rest, rest.seen!.with(text))
      : this.frame(node, at, this.withSeen(rest.rest, text));
  }

  /** Appends the cheapest completion of a stack; it has as many bytes as the stack's cost. */
  private spell(from: Frame, to: number[]): void {
    // What was captured in the nearest enclosing repetition of distinct nodes.
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

  /** Appends the bytes of a node from a position. Returns what is captured afterwards, in this repetition or the one around it. */
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

  /** The child nodes of a node's cheapest text. */
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
