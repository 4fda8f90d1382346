/**
 * Which bytes may come next. A state is all the ways in which a grammar can go on after what was written, each a stack of what is
 * still to come. Stacks and states that are equal are the same object, so that what is known of one is found again.
 */
import { ConfigError } from '../../errors.js';
import { type Costs, costFrom, costsOf } from './costs.js';
import type { Node, RepeatNode } from './node.js';
import type { Terminal } from './terminal.js';

/** Texts that must not come again. */
interface Seen {
  readonly id: number;
  readonly texts: ReadonlySet<string>;
  /** What follows this one, by the text that was added. */
  readonly more: Map<string, Seen>;
}

/** A node that is partly done, and what comes after it. */
interface Frame {
  readonly id: number;
  readonly node: Node;
  /** Bytes, nodes or repetitions that are done; the state of a terminal. */
  readonly at: number | string;
  readonly rest: Frame | undefined;
  /** Of a repetition of distinct nodes, and of the captured terminals in it. */
  readonly seen: Seen | undefined;
  /** What a captured terminal has written, a character a byte. */
  readonly text: string;
  /** The fewest bytes to the end. */
  readonly cost: number;
  /** How many more there may be, because something must differ from what was written before. */
  readonly more: number;
}

export interface MatchState {
  /** Whether the text may end here. */
  readonly accepts: boolean;
  /** Whether it must: nothing can follow. */
  readonly final: boolean;
  /** Whose tops are bytes and terminals. */
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
const MANY_FRAMES = 200_000;
/** Ways to go on that a state keeps. Each can be completed, so that what is left out only narrows what may be written. */
const MANY_WAYS = 512;
/** Bytes by which a part may have to be longer to differ from others. */
const DIFFERENCE = 16;
/** A longer end is none that anybody waits for. */
export const LONGEST_END = 2 ** 16;

export class Matcher {
  readonly start: MatchState;
  private readonly costs: Costs;
  private readonly known = new Map<string, Frame>();
  private readonly states = new Map<string, MatchState>();
  private readonly nothing: Seen = { id: 0, texts: new Set(), more: new Map() };
  private frames = 0;
  private seens = 0;

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
    if (this.states.size > MANY_STATES) this.states.clear();
    if (this.known.size > MANY_FRAMES) this.known.clear();
    const after: (Frame | undefined)[] = [];
    for (const frame of state.frames) this.advance(frame, byte, after);
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

  /** How many bytes the text needs at least to end, and with how many it certainly can. */
  costToEnd(state: MatchState): { readonly least: number; readonly enough: number } {
    if (state.accepts) return { least: 0, enough: 0 };
    const { cost, more } = this.cheapestOf(state);
    return { least: cost, enough: cost + more };
  }

  /** Few bytes with which the text can end, if not the fewest; undefined where the grammar has no end that is near. */
  completion(state: MatchState): Uint8Array | undefined {
    if (state.accepts) return new Uint8Array(0);
    const frame = this.cheapestOf(state);
    return frame.cost <= LONGEST_END ? Uint8Array.from(this.bytesFrom(frame)) : undefined;
  }

  private cheapestOf({ frames }: MatchState): Frame {
    return frames.reduce((a, b) => (b.cost < a.cost ? b : a));
  }

  private frame(node: Node, at: number | string, rest: Frame | undefined, seen?: Seen, text = ''): Frame {
    // The text '0' is not the number.
    const place = typeof at === 'string' ? `"${at}` : at;
    const key = `${node.id} ${place} ${rest?.id ?? 0}${seen ? ` ${seen.id} ${text}` : ''}`;
    const found = this.known.get(key);
    if (found) return found;
    const own =
      node.kind === 'terminal'
        ? node.terminal.completion(at).length
        : at === 0
          ? this.costs.get(node)!
          : costFrom(node, at as number, this.costs);
    const cost = own + (rest?.cost ?? 0);
    const more = (rest?.more ?? 0) + (seen ? DIFFERENCE * pendingOf(node, at, seen, text) : 0);
    const frame = { id: ++this.frames, node, at, rest, seen, text, cost, more };
    this.known.set(key, frame);
    return frame;
  }

  /** A node from its beginning. Undefined where it cannot be completed. */
  private begin(node: Node, rest: Frame | undefined): Frame | undefined {
    if (this.costs.get(node) === Infinity) return undefined;
    if (node.kind !== 'terminal') return this.frame(node, 0, rest, distinctOf(node) && this.nothing);
    const { terminal } = node;
    if (!node.captured) return this.frame(node, terminal.start, rest);
    let around = rest;
    while (around && !distinctOf(around.node)) around = around.rest;
    const seen = around?.seen ?? this.nothing;
    return hasOther(terminal, terminal.start, '', seen.texts)
      ? this.frame(node, terminal.start, rest, seen)
      : undefined;
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

  /** Adds what a frame becomes with a byte. */
  private advance({ node, at, rest, seen, text }: Frame, byte: number, after: (Frame | undefined)[]): void {
    if (node.kind === 'bytes') {
      const done = at as number;
      if (node.bytes[done] !== byte) return;
      after.push(done + 1 === node.bytes.length ? rest : this.frame(node, done + 1, rest));
    } else if (node.kind === 'terminal') {
      const next = node.terminal.step(at, byte);
      if (next === undefined) return;
      if (!seen) after.push(this.frame(node, next, rest));
      else {
        const longer = text + String.fromCharCode(byte);
        if (hasOther(node.terminal, next, longer, seen.texts))
          after.push(this.frame(node, next, rest, seen, longer));
      }
    }
  }

  private expand(from: readonly (Frame | undefined)[]): Expanded {
    const frames: Frame[] = [];
    const seen = new Set<Frame>();
    let accepts = false;
    const todo = [...from];
    while (todo.length > 0 && frames.length < MANY_WAYS && seen.size < 32 * MANY_WAYS) {
      const now = todo.pop();
      if (now === undefined) accepts = true;
      else if (!seen.has(now)) {
        seen.add(now);
        if (takesByte(now)) frames.push(now);
        this.within(now, todo);
      }
    }
    return { frames, accepts };
  }

  /** Adds what a frame stands for where it takes no byte itself. */
  private within({ node, at, rest, seen, text }: Frame, to: (Frame | undefined)[]): void {
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
        if (!seen) to.push(rest);
        else if (!seen.texts.has(text)) to.push(this.withSeen(rest, text));
        return;
      case 'sequence': {
        const i = at as number;
        if (i === node.nodes.length) to.push(rest);
        else begin(node.nodes[i]!, i + 1 === node.nodes.length ? rest : this.frame(node, i + 1, rest));
        return;
      }
      case 'choice':
        // The last one is looked at first.
        for (let i = node.nodes.length - 1; i >= 0; i--) begin(node.nodes[i]!, rest);
        return;
      case 'repeat': {
        const count = at as number;
        if (count >= node.least) to.push(rest);
        if (count >= node.most) return;
        if (node.distinct && !node.distinct.some((each) => hasOther(each, each.start, '', seen!.texts)))
          return;
        // Beyond the least, and without a most, the count does not matter, but for whether a separator comes.
        const enough = Math.max(node.least, 1);
        const next = node.most === Infinity ? Math.min(count + 1, enough) : count + 1;
        const after = this.frame(node, next, rest, seen);
        begin(count === 0 ? node.node : node.again, after);
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
    if (!distinctOf(node)) return this.frame(node, at, this.withSeen(rest.rest, text), rest.seen, rest.text);
    const seen = rest.seen!;
    let more = seen.more.get(text);
    if (!more) {
      more = { id: ++this.seens, texts: new Set(seen.texts).add(text), more: new Map() };
      seen.more.set(text, more);
    }
    return this.frame(node, at, rest.rest, more);
  }

  private *bytesFrom(frame: Frame): Generator<number> {
    // What was captured, until the repetition that it belongs to.
    let captured: string[] = [];
    for (let now: Frame | undefined = frame; now; now = now.rest) {
      const { node, at, seen, text } = now;
      if (node.kind === 'bytes') yield* node.bytes.subarray(at as number);
      else if (node.kind === 'terminal') {
        if (!seen) yield* node.terminal.completion(at);
        else {
          const end = otherEnd(node.terminal, at, text, seen.texts);
          captured.push(text + end);
          for (const sign of end) yield sign.charCodeAt(0);
        }
      } else {
        const texts = new Set([...(seen?.texts ?? []), ...captured]);
        const isDistinct = distinctOf(node);
        yield* this.bytesOf(node, at as number, isDistinct ? texts : undefined);
        if (isDistinct) captured = [];
      }
    }
  }

  /** A node's fewest bytes. `seen` are texts from which what it captures must differ, and is added to. */
  private *bytesOf(root: Node, from: number, around: Set<string> | undefined): Generator<number> {
    const todo: { node: Node; at: number; seen: Set<string> | undefined }[] = [
      { node: root, at: from, seen: around },
    ];
    while (todo.length > 0) {
      const { node, at, seen } = todo.pop()!;
      if (node.kind === 'bytes') yield* node.bytes.subarray(at);
      else if (node.kind === 'terminal') {
        const { terminal, captured } = node;
        if (!captured || !seen) yield* terminal.completion(terminal.start);
        else {
          const word = otherEnd(terminal, terminal.start, '', seen);
          seen.add(word);
          for (const sign of word) yield sign.charCodeAt(0);
        }
      } else {
        const inner = distinctOf(node) && node !== root ? new Set<string>() : seen;
        for (const child of this.cheapest(node, at).reverse()) todo.push({ node: child, at: 0, seen: inner });
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

function distinctOf(node: Node): RepeatNode['distinct'] {
  return node.kind === 'repeat' ? node.distinct : undefined;
}

function takesByte({ node, at }: Frame): boolean {
  if (node.kind === 'bytes') return node.bytes.length > 0;
  return node.kind === 'terminal' && node.terminal.goesOn(at);
}

/** How many parts are still to come that must differ from others. */
function pendingOf(node: Node, at: number | string, { texts }: Seen, text: string): number {
  if (node.kind === 'repeat') return Math.max(0, node.least - (at as number));
  for (const each of texts) if (each.startsWith(text)) return 1;
  return 0;
}

/** Whether from a state, behind a text, a terminal can end with a text that is none of these. */
function hasOther(
  terminal: Terminal,
  state: number | string,
  text: string,
  seen: ReadonlySet<string>,
): boolean {
  // Without any that begins so, whatever comes differs.
  const alike = [...seen].filter((each) => each.startsWith(text));
  if (alike.length === 0 || (terminal.accepts(state) && !seen.has(text))) return true;
  if (!terminal.goesOn(state)) return false;
  const left = new Set(alike);
  for (let byte = 0; byte < 256; byte++) {
    const next = terminal.step(state, byte);
    if (next !== undefined && hasOther(terminal, next, text + String.fromCharCode(byte), left)) return true;
  }
  return false;
}

/** The shortest end of such a text, a character a byte. There must be one. */
function otherEnd(
  terminal: Terminal,
  state: number | string,
  text: string,
  seen: ReadonlySet<string>,
): string {
  const todo: { state: number | string; end: string }[] = [{ state, end: '' }];
  for (let i = 0; i < todo.length; i++) {
    const { state: now, end } = todo[i]!;
    const written = text + end;
    if (terminal.accepts(now) && !seen.has(written)) return end;
    if (![...seen].some((each) => each.startsWith(written))) {
      return end + String.fromCharCode(...terminal.completion(now));
    }
    for (let byte = 0; byte < 256; byte++) {
      const next = terminal.step(now, byte);
      if (next !== undefined) todo.push({ state: next, end: end + String.fromCharCode(byte) });
    }
  }
  throw new ConfigError('no text differs from those before');
}
