/** Reasoning: answers that depend on several tokens. */
import type { Random } from '../nn/index.js';
import { distinct, type Example, expectRoom, placesOfFact, said, type TokenTask } from './tokens.js';

/** Parity of a row of bits: asked at the end only, or written after each bit. */
function oddness(written: boolean): TokenTask {
  return {
    name: written ? 'parity-steps' : 'parity',
    about: `after a row of bits: is the number of ones odd?${written ? ' Written after each of them' : ''}`,
    source: 'as in Grazzi et al., 2024, arXiv 2411.12537',
    written,
    vocabulary: 5,
    chance: 0.5,
    lengths: { train: 40, test: [40, 256] },
    ...(!written && {
      reference: { score: 1, of: 'DeltaNet with eigenvalues in [-1, 1], to 256 (table 1)' },
    }),
    sample(random, length) {
      expectRoom(this.name, length, 2);
      // 0 and 1 are bits, 2 asks, 3 and 4 are even and odd.
      const bits = Array.from({ length: written ? Math.ceil(length / 2) : length - 1 }, () =>
        random.below(2),
      );
      let odd = 0;
      const sofar = bits.map((bit) => {
        odd ^= bit;
        return 3 + odd;
      });
      return written ? inSteps(bits, sofar, length) : said([...bits, 2, 3 + odd], [length]);
    },
    ...(written ? { sources: stepSources } : { practice: askedOften, most: questions }),
  };
}

/** The number of questions in a training row of `length` bits. */
function questions(length: number): number {
  return Math.ceil(length / 4);
}

/** A training example with questions anywhere among the bits; those after few bits are learned first. */
function askedOften(random: Random, length: number): Example {
  expectRoom('parity', length, 2);
  const asked = new Set([length - 1, ...distinct(random, questions(length) - 1, length - 1)]);
  let odd = 0;
  const answers: { after: number; token: number }[] = [];
  const tokens = Array.from({ length }, (_, after) => {
    if (asked.has(after)) {
      answers.push({ after, token: 3 + odd });
      return 2;
    }
    const bit = random.below(2);
    odd ^= bit;
    return bit;
  });
  return { tokens, answers };
}

/** Whether the number of ones is odd. */
export const parity: TokenTask = oddness(false);
/** The same, with the parity so far after each bit. */
export const paritySteps: TokenTask = oddness(true);

/** An example in which the intermediate result is predicted after each token and then read, so that the next step starts from it. */
function inSteps(tokens: readonly number[], sofar: readonly number[], length: number): Example {
  return {
    tokens: tokens.flatMap((token, i) => [token, sofar[i]!]).slice(0, length),
    answers: sofar.map((token, i) => ({ after: 2 * i, token })),
  };
}

/** A step follows from the last token and from the intermediate result before it. */
function stepSources(_: readonly number[], after: number): number[] {
  return after === 0 ? [0] : [after - 1, after];
}

/** The permutations of `size` things, by their number. */
function permutations(size: number): number[][] {
  if (size === 0) return [[]];
  return permutations(size - 1).flatMap((rest) =>
    Array.from({ length: size }, (_, i) => [...rest.slice(0, i), size - 1, ...rest.slice(i)]),
  );
}

const PERMUTATIONS = permutations(5);
const IDENTITY = PERMUTATIONS.findIndex((each) => each.every((from, to) => from === to));

let table: Uint8Array | undefined;

/** [first * 120 + second]: the product of two permutations. Computed on first use. */
function productTable(): Uint8Array {
  if (table) return table;
  const number = new Map(PERMUTATIONS.map((each, i) => [each.join(), i]));
  table = Uint8Array.from(
    PERMUTATIONS.flatMap((first) =>
      PERMUTATIONS.map((second) => number.get(second.map((from) => first[from]!).join())!),
    ),
  );
  return table;
}

/**
 * Products in the permutation group S5: after each token, the product of all so far. Tokens are all 120 permutations, or the ten
 * transpositions, which generate the group.
 */
function products(name: string, { swapsAlone = false, written = false }): TokenTask {
  const all = PERMUTATIONS.map((_, i) => i);
  const swaps = all.filter((i) => PERMUTATIONS[i]!.filter((from, to) => from !== to).length === 2);
  /** An example with a share `part` of arbitrary permutations; the other tokens are transpositions. */
  const made = (random: Random, length: number, part: number): Example => {
    const both = productTable();
    let product = IDENTITY;
    const tokens = Array.from({ length: written ? Math.ceil(length / 2) : length }, () => {
      const among = part === 1 || (part > 0 && random.uniform() < part) ? all : swaps;
      return among[random.below(among.length)]!;
    });
    const sofar = tokens.map((token) => {
      product = both[product * PERMUTATIONS.length + token]!;
      return product;
    });
    if (written) return inSteps(tokens, sofar, length);
    return { tokens, answers: sofar.map((token, after) => ({ after, token })) };
  };
  return {
    name,
    about: `${swapsAlone ? 'swaps' : 'permutations'} of five things, one after the other: which permutation do all so far make?${written ? ' Written after each of them' : ''}`,
    source:
      'Liu et al., 2022, arXiv 2210.10749; Merrill et al., 2024, arXiv 2404.08819; by swaps alone: Grazzi et al., 2024, arXiv 2411.12537',
    written,
    vocabulary: PERMUTATIONS.length,
    chance: 1 / PERMUTATIONS.length,
    lengths: { train: 64, test: [64, 256] },
    sample: (random, length) => made(random, length, swapsAlone ? 0 : 1),
    // Training examples with transpositions, from which products are easier to learn; each permutation is a product of at most four.
    ...(!swapsAlone &&
      !written && {
        practice: (random: Random, length: number) =>
          made(random, length, random.below(2) === 0 ? 1 : random.uniform()),
      }),
    ...(written && { sources: stepSources }),
  };
}

/** The product of permutations of five things (Merrill et al., 2024, arXiv 2404.08819). */
export const s5: TokenTask = products('s5', {});
/** The same with transpositions only. */
export const s5Swaps: TokenTask = products('s5-swaps', { swapsAlone: true });
/** The same, with the product so far written after each permutation. */
export const s5Steps: TokenTask = products('s5-steps', { written: true });

/**
 * Nested lists of digits with the operators min, max, median and sum modulo 10; the value of the outermost list is asked for, or, with
 * written steps, the value of each list after its end. A list takes at most `room` tokens.
 */
function lists(written: boolean): TokenTask {
  const name = written ? 'listops-steps' : 'listops';
  return {
    name,
    about: `the value of nested lists with MIN, MAX, MEDIAN and SUM modulo 10${written ? ', and of those within, each written behind it' : ''}`,
    source: 'Nangia & Bowman, 2018, arXiv 1804.06028; Long Range Arena, arXiv 2011.04006',
    written,
    vocabulary: 17,
    chance: 0.17,
    lengths: { train: 256, test: [256, 512] },
    ...(!written && {
      reference: { score: 0.63, of: 'Mega, lists of 500 to 2,000 tokens (arXiv 2209.10655)' },
    }),
    // A list has at least two items, so n lists have 3 n + 1 tokens at least, and 4 n with the values of the inner ones.
    ...(written && { most: (length: number) => Math.floor((length - 1) / 4) }),
    sample(random, length) {
      expectRoom(name, length, 16);
      // 0 to 9 are digits, 10 to 13 open a list with its operator, 14 closes it, 15 asks, 16 fills before it.
      const most = length - 1 - random.below(Math.ceil(length / 2));
      const { tokens, value } = list(random, written ? Math.floor((3 * most) / 4) : most, 0);
      const all = written ? withValues(tokens) : tokens;
      const filling = new Array<number>(length - 1 - all.length).fill(16);
      const whole = [...filling, ...all, 15, value];
      const within = written
        ? whole.flatMap((token, i) => (token === 14 && whole[i + 1]! < 10 ? [i + 1] : []))
        : [];
      return said(whole, [...within, length]);
    },
    ...(written && { sources: listSources }),
  };
}

/** The value of a nested expression of lists (Nangia & Bowman, 2018, arXiv 1804.06028). */
export const listOps: TokenTask = lists(false);
/** The same, with the value of each inner list written after it. */
export const listOpsSteps: TokenTask = lists(true);

/** The tokens of a list, with the value of each inner list after its end. */
function withValues(tokens: readonly number[]): number[] {
  const open: { which: number; values: number[] }[] = [];
  return tokens.flatMap((token) => {
    if (token < 10) {
      open.at(-1)!.values.push(token);
      return [token];
    }
    if (token < 14) {
      open.push({ which: token - 10, values: [] });
      return [token];
    }
    const { which, values } = open.pop()!;
    const outer = open.at(-1);
    if (!outer) return [token];
    outer.values.push(OPERATORS[which]!(values));
    return [token, outer.values.at(-1)!];
  });
}

/** The positions of the operator and the values of the list that ends at `after`, or just before a question there. */
function listSources(tokens: readonly number[], after: number): number[] {
  const places: number[] = [];
  let depth = 0;
  for (let at = tokens[after] === 15 ? after - 1 : after; at >= 0; at--) {
    const token = tokens[at]!;
    if (depth === 1 && token < 14) places.push(at);
    if (token === 14) depth++;
    else if (token >= 10 && --depth === 0) break;
  }
  return places.reverse();
}

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

/** The most steps of chained inference in training and in tests. */
const [LEARNED_DEPTH, DEEPEST] = [4, 6];

/**
 * Chained inference: rules say that one thing leads to another, among distractors. From a given thing, the one that is reached after
 * a number of steps (given by marks) is asked for, at once or with the intermediate things as written steps. It is trained with 1 to
 * 4 steps and tested with 1 to 6.
 */
function chains(written: boolean): TokenTask {
  const things = 64;
  const [rule, question, answer, filling] = [things, things + 1, things + 2, things + 3];
  const name = written ? 'inference-steps' : 'inference';
  // The number of rules is the same at every depth, so that it does not reveal the depth.
  const tail = DEEPEST + 2 + (written ? DEEPEST : 1);
  /** The least number of rules, with which any depth can be asked. */
  const least = DEEPEST + 1;
  const most = (length: number): number => {
    expectRoom(name, length, 3 * least + tail - 1);
    return Math.min(things - 1, Math.floor((length + 1 - tail) / 3));
  };
  /** Rules, and as many questions of these depths as fit. */
  const ask = (random: Random, length: number, rules: number, depths: Iterable<number>): Example => {
    // Each thing leads to at most one other, so the answer is unique; the chain is a part of a longer path.
    const path = distinct(random, rules + 1, things);
    const pairs = path.slice(1).map((to, i) => [path[i]!, to] as const);
    const all = [...random.permutation(rules)].flatMap((i) => [rule, ...pairs[i]!]);
    const places: number[] = [];
    for (const depth of depths) {
      const size = depth + 2 + (written ? depth : 1);
      if (all.length + size > length + 1) break;
      const start = random.below(rules + 1 - depth);
      const steps = path.slice(start + 1, start + depth + 1);
      all.push(...new Array<number>(depth).fill(question), path[start]!, answer);
      for (const due of written ? steps : steps.slice(-1)) places.push(all.push(due) - 1);
    }
    const before = length + 1 - all.length;
    return said(
      [...new Array<number>(before).fill(filling), ...all],
      places.map((place) => place + before),
    );
  };
  const once = (random: Random, length: number, depth: number): Example =>
    ask(random, length, most(length), [depth]);
  return {
    name,
    about: `rules in random order among distractors: what is reached in 1 to ${DEEPEST} steps${written ? ', with the steps written out' : ''}? Learned with 1 to ${LEARNED_DEPTH}`,
    source:
      'after Clark et al., 2020 (RuleTaker), arXiv 2002.05867, and Saparov & He, 2022, arXiv 2210.01240',
    written,
    vocabulary: things + 4,
    chance: 1 / 30,
    lengths: { train: 96, test: [96, 192] },
    most: (length) => Math.ceil(length / 2),
    sample: (random, length) => once(random, length, 1 + random.below(LEARNED_DEPTH)),
    // Many questions about few rules, most of few steps, since one answer in a long text is a weak training signal.
    practice(random, length) {
      if (random.below(4) === 0) return once(random, length, 1 + random.below(LEARNED_DEPTH));
      const rules = least + random.below(most(length) - least + 1);
      const depths = Array.from({ length }, () => 1 + random.below(1 + random.below(LEARNED_DEPTH)));
      return ask(random, length, rules, depths);
    },
    tests: Array.from({ length: DEEPEST }, (_, i) => ({
      of: `${i + 1} steps${i + 1 > LEARNED_DEPTH ? ', never learned' : ''}`.replace(/^1 steps/, '1 step'),
      sample: (random: Random, length: number) => once(random, length, i + 1),
    })),
    ...(written && {
      sources: (tokens: readonly number[], after: number) =>
        placesOfFact(tokens, after, { mark: rule, question: answer }),
    }),
  };
}

/** Chained inference, answered at once. */
export const inference: TokenTask = chains(false);
/** The same, with each step written. */
export const inferenceSteps: TokenTask = chains(true);
