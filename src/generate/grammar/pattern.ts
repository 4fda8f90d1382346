/**
 * Compiles regular expressions to automata. A pattern becomes a nondeterministic program (Thompson's construction), and sets of its threads
 * become states (subset construction). A lookahead is an automaton of its own, which a thread carries along until it is decided.
 */
import { type Automaton, DEAD, trimmed } from './automaton.js';
import { ALL, type Alphabet, type Characters, WORD } from './characters.js';
import type { Tree } from './pattern-syntax.js';
import { Work, WorkError } from './work.js';

type Op =
  | { readonly kind: 'accept' }
  | { readonly kind: 'set'; readonly set: Characters; readonly to: number }
  | { readonly kind: 'split'; readonly to: readonly number[] }
  | { readonly kind: 'begin' | 'end' | 'edge' | 'inside'; readonly to: number }
  | { readonly kind: 'ahead'; readonly look: Look; readonly negated: boolean; readonly to: number };

interface Program {
  readonly ops: readonly Op[];
  readonly start: number;
}

/** The context before a position. */
const START = 0;
const IN_WORD = 1;
const OUTSIDE = 2;
/** The end of the string, as the context after a position. */
const END = 3;

/** A lookahead: a pattern that must match, or must not match, at a position. */
interface Look {
  readonly id: number;
  readonly automaton: Automaton;
  /** [context before]: the start state. */
  readonly starts: readonly number[];
  /** [state]: whether it matches whatever follows. */
  readonly holds: readonly boolean[];
  readonly usesEdges: boolean;
}

/** A lookahead that is not decided yet. */
interface Pending {
  readonly look: Look;
  readonly negated: boolean;
  readonly state: number;
}

const MANY_OPS = 20_000;
/** The limit of steps of an attempt, which the first attempts exceed for nested counts. */
const STEPS = 100_000;
/**
 * The limits that are tried one after the other: the most threads of a state, and how far counts may exceed their minimum. Greedy threads
 * come first, so that with one thread something remains even of a pattern that is too large otherwise.
 */
const ATTEMPTS = [
  { threads: Infinity, slack: Infinity },
  { threads: 4, slack: Infinity },
  { threads: 4, slack: 64 },
  { threads: 4, slack: 12 },
  { threads: 1, slack: Infinity },
  { threads: 1, slack: 64 },
  { threads: 1, slack: 12 },
] as const;

/** All character sets of a pattern. */
export function setsOf(tree: Tree): Characters[] {
  switch (tree.kind) {
    case 'set':
      return [tree.set];
    case 'series':
      return tree.parts.flatMap(setsOf);
    case 'ways':
      return tree.ways.flatMap(setsOf);
    case 'count':
    case 'ahead':
      return setsOf(tree.tree);
    case 'edge':
    case 'inside':
      return [WORD];
    default:
      return [];
  }
}

/**
 * The automaton of the strings in which a pattern matches somewhere. If that is too large, one that accepts a subset of those strings, or,
 * with `exact`, an error. `alphabet` must include `setsOf(tree)`. Undefined if no string matches. Throws `WorkError`.
 */
export function patternAutomaton(
  tree: Tree,
  alphabet: Alphabet,
  work: Work,
  exact = false,
): Automaton | undefined {
  let refusal: unknown;
  for (const { threads, slack } of exact ? ATTEMPTS.slice(0, 1) : ATTEMPTS) {
    const own = new Work(STEPS);
    try {
      const program = new Assembler(alphabet, own, slack).assemble(tree);
      const useful = trimmed(new Determinizer(program, alphabet, own, threads).build([START]).automaton);
      if (useful || threads === Infinity) return useful;
    } catch (error) {
      if (!(error instanceof WorkError)) throw error;
      refusal = error;
    } finally {
      work.spend(own.spent);
    }
  }
  throw refusal ?? new WorkError('the pattern is too large');
}

/** Assembles programs, from end to beginning. */
class Assembler {
  private ops: Op[] = [];
  private looks = 0;

  constructor(
    private readonly alphabet: Alphabet,
    private readonly work: Work,
    private slack: number,
  ) {}

  assemble(tree: Tree): Program {
    const accept = this.add({ kind: 'accept' });
    const begin = this.emit(tree, accept);
    if (beginsOnly(tree)) return { ops: this.ops, start: begin };
    const start = this.add({ kind: 'split', to: [] });
    const skip = this.add({ kind: 'set', set: ALL, to: start });
    this.ops[start] = { kind: 'split', to: [begin, skip] };
    return { ops: this.ops, start };
  }

  private add(op: Op): number {
    if (this.ops.length >= MANY_OPS) throw new WorkError('the pattern is too large: use smaller counts');
    this.work.spend(1);
    return this.ops.push(op) - 1;
  }

  private emit(tree: Tree, to: number): number {
    switch (tree.kind) {
      case 'set':
        return this.add({ kind: 'set', set: tree.set, to });
      case 'series':
        return tree.parts.reduceRight((next, part) => this.emit(part, next), to);
      case 'ways':
        return this.add({ kind: 'split', to: tree.ways.map((way) => this.emit(way, to)) });
      case 'count':
        return this.count(tree, to);
      case 'ahead':
        return this.add({
          kind: 'ahead',
          look: this.look(tree.tree, tree.negated),
          negated: tree.negated,
          to,
        });
      default:
        return this.add({ kind: tree.kind, to });
    }
  }

  private count({ tree, least, most }: Tree & { kind: 'count' }, to: number): number {
    let next = to;
    if (most === Infinity) {
      next = this.add({ kind: 'split', to: [] });
      this.ops[next] = { kind: 'split', to: [this.emit(tree, next), to] };
    }
    const more = most === Infinity ? 0 : Math.min(most - least, this.slack);
    for (let i = 0; i < more; i++) next = this.add({ kind: 'split', to: [this.emit(tree, next), to] });
    for (let i = 0; i < least; i++) next = this.emit(tree, next);
    return next;
  }

  private look(tree: Tree, negated: boolean): Look {
    const { ops: outer, slack } = this;
    this.ops = [];
    // A pattern that must not match cannot be approximated by a subset.
    if (negated) this.slack = Infinity;
    const accept = this.add({ kind: 'accept' });
    const program = { ops: this.ops, start: this.emit(tree, accept) };
    this.ops = outer;
    this.slack = slack;
    const determinizer = new Determinizer(program, this.alphabet, this.work, Infinity);
    const { usesEdges } = determinizer;
    const { automaton, starts } = determinizer.build([START, IN_WORD, OUTSIDE]);
    const classes = this.alphabet.classes.length;
    const holds = Array.from(automaton.accepts, (accepts, state) => {
      if (accepts !== 1) return false;
      for (let symbol = 0; symbol < classes; symbol++) {
        if (automaton.next[state * classes + symbol] !== state) return false;
      }
      return true;
    });
    return { id: this.looks++, automaton, starts, holds, usesEdges };
  }
}

/** Whether a pattern matches at the beginning of a string only. */
function beginsOnly(tree: Tree): boolean {
  switch (tree.kind) {
    case 'begin':
      return true;
    case 'series': {
      const first = tree.parts.find((part) => part.kind !== 'ahead');
      return first !== undefined && beginsOnly(first);
    }
    case 'ways':
      return tree.ways.every(beginsOnly);
    case 'count':
      return tree.least > 0 && beginsOnly(tree.tree);
    default:
      return false;
  }
}

/** Turns programs into deterministic automata (subset construction). */
class Determinizer {
  /** For each set, a flag for each class. */
  private readonly members = new Map<Characters, Uint8Array>();
  private readonly kinds: readonly number[];
  private readonly pendings: (readonly Pending[])[] = [[]];
  private readonly pendingIds = new Map<string, number>([['', 0]]);
  private readonly usesStart: boolean;
  /** Whether the character before a position matters (for `\b` and `\B`). */
  readonly usesEdges: boolean;

  constructor(
    private readonly program: Program,
    private readonly alphabet: Alphabet,
    private readonly work: Work,
    /** The most threads of a state; the first ones are kept. */
    private readonly mostThreads: number,
  ) {
    const { ops } = program;
    this.usesEdges = ops.some((op) =>
      op.kind === 'ahead' ? op.look.usesEdges : 'edge inside'.includes(op.kind),
    );
    this.usesStart = this.usesEdges || ops.some(({ kind }) => kind === 'begin' || kind === 'ahead');
    this.kinds = alphabet.classes.map((set) => {
      const [from] = set[0]!;
      return this.usesEdges && WORD.some(([a, b]) => from >= a && from <= b) ? IN_WORD : OUTSIDE;
    });
  }

  build(befores: readonly number[]): { automaton: Automaton; starts: number[] } {
    const { alphabet, work } = this;
    const classes = alphabet.classes.length;
    const ids = new Map<string, number>();
    const states: { threads: readonly number[]; before: number }[] = [];
    const idOf = (threads: readonly number[], place: number): number => {
      // Once a thread accepts everything, the others do not matter.
      const before =
        threads.length === 1 && this.program.ops[threads[0]!]?.kind === 'accept' ? OUTSIDE : place;
      const key = `${before}:${(this.mostThreads === Infinity ? [...threads].sort((a, b) => a - b) : threads).join(',')}`;
      let id = ids.get(key);
      if (id === undefined) {
        id = states.push({ threads, before }) - 1;
        ids.set(key, id);
      }
      return id;
    };
    const starts = befores.map((before) => {
      const edge = before === IN_WORD && !this.usesEdges ? OUTSIDE : before;
      return idOf([this.program.start], this.usesStart ? edge : OUTSIDE);
    });
    const next: number[] = [];
    const accepts: number[] = [];
    for (let id = 0; id < states.length; id++) {
      const { threads, before } = states[id]!;
      const closed = new Map<number, readonly number[]>();
      const closure = (after: number): readonly number[] => {
        const kind = this.usesEdges || after === END ? after : OUTSIDE;
        let found = closed.get(kind);
        if (!found) {
          found = this.closure(threads, before, kind);
          closed.set(kind, found);
        }
        return found;
      };
      accepts.push(closure(END).some((thread) => this.mayEnd(thread)) ? 1 : 0);
      for (let symbol = 0; symbol < classes; symbol++) {
        const kind = this.kinds[symbol]!;
        const from = closure(kind);
        work.spend(1 + from.length);
        const to = this.step(from, symbol);
        next.push(to.length === 0 ? DEAD : idOf(to, kind));
      }
    }
    return { automaton: { alphabet, next, accepts }, starts };
  }

  private opOf(thread: number): Op {
    return this.program.ops[thread % this.program.ops.length]!;
  }

  private pendingOf(thread: number): number {
    return Math.floor(thread / this.program.ops.length);
  }

  /** The threads that take a character, or are at the end of the program, in the order of their priority. */
  private closure(threads: readonly number[], before: number, after: number): readonly number[] {
    const { ops } = this.program;
    const seen = new Set<number>();
    const found: number[] = [];
    const todo = [...threads].reverse();
    while (todo.length > 0) {
      const thread = todo.pop()!;
      if (seen.has(thread)) continue;
      seen.add(thread);
      this.work.spend(1);
      const op = this.opOf(thread);
      const pending = this.pendingOf(thread) * ops.length;
      switch (op.kind) {
        case 'accept':
        case 'set':
          found.push(thread);
          break;
        case 'split':
          for (let i = op.to.length - 1; i >= 0; i--) todo.push(pending + op.to[i]!);
          break;
        case 'ahead': {
          const with_ = this.withPending(this.pendings[this.pendingOf(thread)]!, {
            look: op.look,
            negated: op.negated,
            state: op.look.starts[before]!,
          });
          if (with_ !== undefined) todo.push(with_ * ops.length + op.to);
          break;
        }
        default:
          if (passes(op.kind, before, after)) todo.push(pending + op.to);
      }
    }
    return found;
  }

  private step(closed: readonly number[], symbol: number): readonly number[] {
    const { ops } = this.program;
    const found = new Set<number>();
    for (const thread of closed) {
      const op = this.opOf(thread);
      const pending = this.stepped(this.pendingOf(thread), symbol);
      if (pending === undefined) continue;
      if (op.kind === 'accept') {
        // Nothing is left to look at: whatever follows is accepted, so no other thread matters.
        if (pending === 0) return [thread % ops.length];
        found.add(pending * ops.length + (thread % ops.length));
      } else if (op.kind === 'set' && this.membersOf(op.set)[symbol] === 1) {
        found.add(pending * ops.length + op.to);
      }
      if (found.size >= this.mostThreads) break;
    }
    return [...found];
  }

  private membersOf(set: Characters): Uint8Array {
    let members = this.members.get(set);
    if (!members) {
      members = new Uint8Array(this.alphabet.classes.length);
      for (const symbol of set === ALL ? members.keys() : this.alphabet.classesOf(set)) members[symbol] = 1;
      this.members.set(set, members);
    }
    return members;
  }

  /** The looks of a thread after a character; undefined where one of them fails. */
  private stepped(pending: number, symbol: number): number | undefined {
    if (pending === 0) return 0;
    let now: number | undefined = 0;
    for (const { look, negated, state } of this.pendings[pending]!) {
      const to = look.automaton.next[state * this.alphabet.classes.length + symbol]!;
      now = this.withPending(this.pendings[now!]!, { look, negated, state: to });
      if (now === undefined) return undefined;
    }
    return now;
  }

  /** One look more, unless it is decided; undefined where it fails. */
  private withPending(list: readonly Pending[], { look, negated, state }: Pending): number | undefined {
    this.work.spend(1 + list.length);
    const holds = state !== DEAD && look.holds[state]!;
    if (state === DEAD || holds) return holds === negated ? undefined : this.idOf(list);
    if (list.some((each) => each.look === look && each.state === state && each.negated === negated)) {
      return this.idOf(list);
    }
    const more = [...list, { look, negated, state }];
    return this.idOf(more.sort((a, b) => a.look.id - b.look.id || a.state - b.state));
  }

  private idOf(list: readonly Pending[]): number {
    const key = list.map(({ look, state, negated }) => `${look.id}${negated ? '!' : '='}${state}`).join(' ');
    let id = this.pendingIds.get(key);
    if (id === undefined) {
      id = this.pendings.push(list) - 1;
      this.pendingIds.set(key, id);
    }
    return id;
  }

  private mayEnd(thread: number): boolean {
    return (
      this.opOf(thread).kind === 'accept' &&
      this.pendings[this.pendingOf(thread)]!.every(
        ({ look, negated, state }) => (look.automaton.accepts[state] === 1) !== negated,
      )
    );
  }
}

function passes(kind: 'begin' | 'end' | 'edge' | 'inside', before: number, after: number): boolean {
  if (kind === 'begin') return before === START;
  if (kind === 'end') return after === END;
  return ((before === IN_WORD) !== (after === IN_WORD)) === (kind === 'edge');
}
