/** Reasoning: answers that no single token holds. */
import { ConfigError } from '../errors.js';
import type { Random } from '../nn/index.js';
import { distinct, said, type TokenTask } from './tokens.js';

/** After each bit, whether there was an odd number of ones so far. */
export const parity: TokenTask = {
  name: 'parity',
  about: 'after a row of bits: is the number of ones odd?',
  source: 'as in Grazzi et al., 2024, arXiv 2411.12537',
  vocabulary: 5,
  chance: 0.5,
  lengths: { train: 40, test: [40, 256] },
  reference: { score: 1, of: 'DeltaNet with eigenvalues in [-1, 1], to 256 (table 1)' },
  sample(random, length) {
    // 0 and 1 are bits, 2 asks, 3 and 4 are even and odd.
    const tokens = Array.from({ length: length - 1 }, () => random.below(2));
    const odd = tokens.reduce((a, b) => a ^ b, 0);
    return said([...tokens, 2, 3 + odd], [length]);
  },
};

/** The permutations of `size` things, by their number. */
function permutations(size: number): number[][] {
  if (size === 0) return [[]];
  return permutations(size - 1).flatMap((rest) =>
    Array.from({ length: size }, (_, i) => [...rest.slice(0, i), size - 1, ...rest.slice(i)]),
  );
}

/** Products in the permutation group S5: after each generator, which permutation all so far make. */
export const s5: TokenTask = (() => {
  const elements = permutations(5);
  const number = new Map(elements.map((each, i) => [each.join(), i]));
  const size = elements.length;
  return {
    name: 's5',
    about: 'permutations of five things, one after the other: which one do all so far make?',
    source: 'Liu et al., 2022, arXiv 2210.10749; Merrill et al., 2024, arXiv 2404.08819',
    vocabulary: size,
    chance: 1 / size,
    lengths: { train: 64, test: [64, 256] },
    sample(random, length) {
      let made = elements[number.get('0,1,2,3,4')!]!;
      const tokens = Array.from({ length }, () => random.below(size));
      const answers = tokens.map((token, after) => {
        made = elements[token]!.map((from) => made[from]!);
        return { after, token: number.get(made.join())! };
      });
      return { tokens, answers };
    },
  };
})();

/**
 * Nested lists of digits with the operators min, max, median and sum modulo 10; the value of the outermost is due. A list
 * takes at most `room` tokens.
 */
export const listOps: TokenTask = {
  name: 'listops',
  about: 'the value of nested lists with MIN, MAX, MEDIAN and SUM modulo 10',
  source: 'Nangia & Bowman, 2018, arXiv 1804.06028; Long Range Arena, arXiv 2011.04006',
  vocabulary: 17,
  chance: 0.17,
  lengths: { train: 256, test: [256, 512] },
  reference: { score: 0.63, of: 'Mega, lists of 500 to 2,000 tokens (arXiv 2209.10655)' },
  sample(random, length) {
    if (length < 16) throw new ConfigError(`listops needs 16 tokens at least, and ${length} were asked for`);
    // 0 to 9 are digits, 10 to 13 open a list with its operator, 14 closes it, 15 asks, 16 fills before it.
    const room = length - 1 - random.below(Math.ceil(length / 2));
    const { tokens, value } = list(random, room, 0);
    const filling = new Array<number>(length - 1 - tokens.length).fill(16);
    return said([...filling, ...tokens, 15, value], [length]);
  },
};

const OPERATORS: readonly ((values: readonly number[]) => number)[] = [
  (values) => Math.min(...values),
  (values) => Math.max(...values),
  (values) => [...values].sort((a, b) => a - b)[values.length >> 1]!,
  (values) => values.reduce((a, b) => a + b, 0) % 10,
];

/** A list that takes at most `room` tokens: 2 for its brackets, and 2 to 5 items. */
function list(random: Random, room: number, depth: number): { tokens: number[]; value: number } {
  const which = random.below(OPERATORS.length);
  const count = 2 + random.below(4);
  const tokens = [10 + which];
  const values: number[] = [];
  let left = room - 2;
  for (let i = 0; i < count && left > 0; i++) {
    const share = Math.floor(left / (count - i));
    const isNested = share >= 4 && depth < 10 && random.uniform() < 0.75;
    const item = isNested ? list(random, share, depth + 1) : digit(random);
    tokens.push(...item.tokens);
    values.push(item.value);
    left -= item.tokens.length;
  }
  return { tokens: [...tokens, 14], value: OPERATORS[which]!(values) };
}

function digit(random: Random): { tokens: number[]; value: number } {
  const value = random.below(10);
  return { tokens: [value], value };
}

/**
 * Chained inference: facts say that one thing leads to another, among others that lead elsewhere; from a first thing, what
 * is reached after `depth` of them is due, said at once or with the things between as written steps.
 */
export function inference(depth: number, written: boolean): TokenTask {
  const things = 64;
  const [rule, question, end] = [things, things + 1, things + 2];
  return {
    name: `inference-${depth}${written ? '-steps' : ''}`,
    about: `rules in random order among distractors: what is reached in ${depth} steps${written ? ', with the steps written out' : ''}?`,
    source:
      'after Clark et al., 2020 (RuleTaker), arXiv 2002.05867, and Saparov & He, 2022, arXiv 2210.01240',
    vocabulary: things + 3,
    chance: 1 / 30,
    lengths: { train: 96, test: [96, 192] },
    sample(random, length) {
      const tail = 3 + (written ? depth + 1 : 1);
      const rules = Math.min(things - 1, Math.floor((length + 1 - tail) / 3));
      if (rules < depth + 1)
        throw new ConfigError(
          `${this.name} needs ${3 * (depth + 1) + tail} tokens at least, and ${length} were asked for`,
        );
      // Every thing leads to one other at most, so that there is one answer; the chain is a part of a longer path.
      const path = distinct(random, rules + 1, things);
      const pairs = path.slice(1).map((to, i) => [path[i]!, to] as const);
      const start = random.below(rules + 1 - depth);
      const order = [...random.permutation(rules)];
      const tokens = order.flatMap((i) => [rule, ...pairs[i]!]);
      const steps = path.slice(start + 1, start + depth + 1);
      const due = written ? [...steps, end] : [steps.at(-1)!];
      const asked = [question, path[start]!, question];
      const filling = new Array<number>(length + 1 - tokens.length - asked.length - due.length).fill(end);
      const all = [...filling, ...tokens, ...asked, ...due];
      const first = all.length - due.length;
      return said(all, written ? steps.map((_, i) => first + i) : [first]);
    },
  };
}
