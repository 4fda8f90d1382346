/** What strings have to be, as terminals of a grammar. Patterns are read once for all schemas of a request. */
import { type Automaton, intersection, isAccepted } from '../automaton.js';
import { ALL, Alphabet, type Characters, charactersOf } from '../characters.js';
import { patternAutomaton, setsOf } from '../pattern.js';
import { parsePattern, type Tree } from '../pattern-syntax.js';
import type { Terminal } from '../terminal.js';
import { textOf, textOfLength } from '../text.js';
import type { Work } from '../work.js';
import { impossible, unfollowable } from './document.js';

/** Which strings are allowed; `least` and `most` count code points. */
export interface StringBounds {
  readonly least: number;
  readonly most: number;
  /** Each must match somewhere. */
  readonly patterns: readonly string[];
  /** None of them may match anywhere. */
  readonly refused: readonly string[];
  /** Strings that it must not be. */
  readonly words: readonly string[];
  /** Of each list one must match. */
  readonly formats: readonly (readonly string[])[];
}

/** Makes terminals of strings within bounds, and keeps the automata of their patterns. */
export class Strings {
  private readonly trees = new Map<string, Tree>();
  private readonly automata = new Map<string, Automaton | undefined>();
  private readonly terminals = new Map<string, Terminal>();

  constructor(readonly work: Work) {}

  /**
   * The strings within bounds. Throws `ConfigError` with the path for patterns that are not understood, and where there are no such
   * strings.
   */
  terminal(bounds: StringBounds, path: string): Terminal {
    const key = JSON.stringify(bounds, (_, value: unknown) => (value === Infinity ? 'any' : value));
    let known = this.terminals.get(key);
    if (!known) {
      known = this.make(bounds, path);
      this.terminals.set(key, known);
    }
    return known;
  }

  /** A pattern that is understood; `refused` ones must not match. Throws `Unfollowable` with its path. */
  checked(pattern: unknown, path: string, refused: boolean): string {
    this.tree(pattern, path, refused);
    return pattern as string;
  }

  /** Whether a pattern certainly matches a string. */
  matches(pattern: unknown, text: string, path: string): boolean {
    return this.find(pattern, text, path, false);
  }

  /** Whether a pattern may match a string, in one dialect or the other. */
  mayMatch(pattern: unknown, text: string, path: string): boolean {
    return this.find(pattern, text, path, true);
  }

  private find(pattern: unknown, text: string, path: string, wide: boolean): boolean {
    const tree = this.tree(pattern, path, wide);
    const key = `${wide} ${pattern as string}`;
    if (!this.automata.has(key)) {
      this.automata.set(key, patternAutomaton(tree, new Alphabet([ALL, ...setsOf(tree)]), this.work, true));
    }
    const automaton = this.automata.get(key);
    this.work.spend(text.length);
    return automaton !== undefined && isAccepted(automaton, text);
  }

  private make({ least, most, patterns, refused, words, formats }: StringBounds, path: string): Terminal {
    if (least > most) throw impossible(path, 'minLength is greater than maxLength');
    if (patterns.length + refused.length + words.length + formats.length === 0)
      return textOfLength(least, most);
    const accepted = patterns.map((pattern) => this.tree(pattern, `${path}/pattern`, false));
    const excluded = refused.map((pattern) => this.tree(pattern, `${path}/not/pattern`, true));
    // A pattern says more than the format beside it, of which there may be several forms.
    let choices: Tree[][] = [[]];
    for (const ways of formats) {
      const trees = ways.map((way) => this.tree(way, path, false));
      choices = choices.flatMap((chosen) => trees.map((tree) => [...chosen, tree]));
    }
    const sets = [ALL, ...[...accepted, ...excluded, ...choices.flat()].flatMap(setsOf), ...lettersOf(words)];
    const alphabet = new Alphabet(sets);
    // The bytes of all characters are found for each alphabet.
    this.work.spend(4_000 + sets.length + alphabet.classes.length * 100);
    const automatonOf = (tree: Tree): Automaton | undefined => patternAutomaton(tree, alphabet, this.work);
    const given = accepted.map(automatonOf);
    const out = excluded.map((tree) => patternAutomaton(tree, alphabet, this.work, true));
    if (words.length > 0)
      out.push(
        wordsAutomaton(
          words.filter((word) => !/\p{Surrogate}/u.test(word)),
          alphabet,
        ),
      );
    for (const chosen of choices) {
      const all = [...given, ...chosen.map(automatonOf)];
      if (all.includes(undefined)) continue;
      const found = intersection(
        alphabet,
        {
          accepted: all as Automaton[],
          refused: out.filter((each) => each !== undefined),
          least,
          most,
        },
        this.work,
      );
      if (found) return textOf(found);
    }
    throw impossible(path, 'no string satisfies its pattern, format and lengths together');
  }

  private tree(pattern: unknown, path: string, wide: boolean): Tree {
    if (typeof pattern !== 'string') throw unfollowable(path, 'it is no text');
    const key = `${wide} ${pattern}`;
    let tree = this.trees.get(key);
    if (!tree) {
      this.work.spend(pattern.length);
      try {
        tree = parsePattern(pattern, wide);
      } catch (error) {
        throw unfollowable(path, (error as Error).message);
      }
      this.trees.set(key, tree);
    }
    return tree;
  }
}

function lettersOf(words: readonly string[]): Characters[] {
  return Array.from(new Set(words.join(' ')), (sign) => {
    const point = sign.codePointAt(0)!;
    return charactersOf([[point, point]]);
  });
}

/** The automaton of some words. */
function wordsAutomaton(words: readonly string[], alphabet: Alphabet): Automaton {
  const classes = alphabet.classes.length;
  const next: number[] = new Array<number>(classes).fill(-1);
  const accepts = [0];
  for (const word of words) {
    let state = 0;
    for (const sign of word) {
      const at = state * classes + alphabet.classOf(sign.codePointAt(0)!);
      if (next[at] === -1) {
        next[at] = accepts.push(0) - 1;
        for (let i = 0; i < classes; i++) next.push(-1);
      }
      state = next[at]!;
    }
    accepts[state] = 1;
  }
  return { alphabet, next, accepts };
}
