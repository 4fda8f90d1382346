/** Recall tasks: a fact is given once in a sequence and asked for later. */
import type { Random } from '../nn/index.js';
import { distinct, type Example, expectRoom, said, type TokenTask } from './tokens.js';

const VOCABULARY = 8192;
const HALF = VOCABULARY / 2;

/**
 * Multi-query associative recall in Zoology's setting: pairs of keys and values come first, then each key once more among
 * random tokens, more often early than late. After a repeated key the model has to predict its value; the input has a random token there.
 */
export function mqar(pairs: number): TokenTask {
  return {
    name: `mqar-${pairs}`,
    about: `${pairs} pairs of keys and values; each key comes again once, and its value is asked for`,
    source: 'Arora et al., 2023 (Zoology), arXiv 2312.04927',
    vocabulary: VOCABULARY,
    chance: 1 / HALF,
    lengths: { train: 8 * pairs, test: [8 * pairs, 16 * pairs] },
    reference: { score: 0.99, of: 'attention, at all numbers of pairs (figure 2)' },
    sample(random, length) {
      expectRoom(this.name, length, 4 * pairs);
      return associations(random, pairs, length, HALF);
    },
    // Fewer pairs, as in a part of Zoology's examples, and sometimes keys and values from a small range, on which the lookup is learned first.
    practice(random, length) {
      expectRoom(this.name, length, 4 * pairs);
      const count = random.below(2) === 0 ? pairs : Math.floor(pairs ** random.uniform());
      return associations(random, count, length, random.below(8) > 0 ? HALF : 2 * pairs);
    },
  };
}

/** Keys are drawn from the first `among` keys, values from the first `among` values. */
function associations(random: Random, count: number, length: number, among: number): Example {
  // Keys are below HALF, values from HALF on; token 0 is neither, and random tokens can be any.
  const keys = distinct(random, count, Math.min(among, HALF - 1)).map((key) => key + 1);
  const values = distinct(random, count, among).map((value) => HALF + value);
  const tokens = new Array<number>(length);
  for (let i = 0; i < length; i++) tokens[i] = random.below(VOCABULARY);
  for (let i = 0; i < count; i++) {
    tokens[2 * i] = keys[i]!;
    tokens[2 * i + 1] = values[i]!;
  }
  const slots = Math.floor((length - 2 * count) / 2);
  const answers = powerLawSlots(random, count, slots).map((slot, i) => {
    const after = 2 * count + 2 * slot;
    tokens[after] = keys[i]!;
    return { after, token: values[i]! };
  });
  return { tokens, answers: answers.sort((a, b) => a.after - b.after) };
}

/** Distinct slots with a preference for near ones: the density is proportional to 1 / slot; Zoology uses the power -0.99. */
function powerLawSlots(random: Random, count: number, slots: number): number[] {
  const taken = new Uint8Array(slots);
  const list: number[] = [];
  while (list.length < count) {
    const place = Math.exp(random.uniform() * Math.log(slots + 1)) - 1;
    let slot = Math.min(slots - 1, Math.floor(place));
    // A taken slot is replaced by the next free one.
    while (taken[slot]) slot = (slot + 1) % slots;
    taken[slot] = 1;
    list.push(slot);
  }
  return list;
}

/** Selective copying: data tokens among noise are to be repeated in order at the end. */
export const selectiveCopying: TokenTask = {
  name: 'selective-copying',
  about: '16 tokens strewn among noise are copied in their order',
  source: 'Gu & Dao, 2023 (Mamba), arXiv 2312.00752; Arjovsky et al., 2016',
  vocabulary: 18,
  chance: 1 / 16,
  lengths: { train: 4096, test: [4096] },
  reference: { score: 0.998, of: 'Mamba (S6), 4,096 tokens (table 1)' },
  sample(random, length) {
    expectRoom(this.name, length, 2 * COPIED + 1);
    return strewnTokens(random, length, COPIED, length - COPIED);
  },
  // Fewer tokens in a shorter span before the question: order is learned first on dense tokens, then skipping noise.
  practice(random, length) {
    expectRoom(this.name, length, 2 * COPIED + 1);
    const count = random.below(2) === 0 ? COPIED : 1 + random.below(COPIED);
    const most = length - COPIED;
    return strewnTokens(random, length, count, Math.ceil(count * (most / count) ** random.uniform()));
  },
};

const COPIED = 16;

/** `count` tokens within the last `within` before the question. Token 0 is noise, 1 asks for the copy, the 16 others are data. */
function strewnTokens(random: Random, length: number, count: number, within: number): Example {
  const body = length - COPIED;
  const tokens = new Array<number>(length + 1).fill(0);
  const places = distinct(random, count, within).sort((a, b) => a - b);
  for (const [i, place] of places.entries()) {
    const token = 2 + random.below(16);
    tokens[body - within + place] = token;
    tokens[body + 1 + i] = token;
  }
  tokens[body] = 1;
  return said(
    tokens,
    places.map((_, i) => body + 1 + i),
  );
}

/** Induction: a mark occurs twice; after the second one, the answer is the token that followed the first. */
export const induction: TokenTask = {
  name: 'induction',
  about: 'what stood behind a mark is said when the mark comes again',
  source: 'Olsson et al., 2022, arXiv 2209.11895; as in Gu & Dao, 2023, arXiv 2312.00752',
  vocabulary: 17,
  chance: 1 / 16,
  lengths: { train: 256, test: [256, 4096, 65_536] },
  reference: { score: 1, of: 'Mamba trained at 256, tested to 1,048,576 (table 2)' },
  sample(random, length) {
    expectRoom(this.name, length, 4);
    const tokens = Array.from({ length: length + 1 }, () => random.below(16));
    const place = random.below(length - 2);
    tokens[place] = 16;
    tokens[length - 1] = 16;
    tokens[length] = tokens[place + 1]!;
    return said(tokens, [length]);
  },
};

/** Passkey: a five-digit number, given once somewhere in a text, is asked for at its end. */
export const passkey: TokenTask = {
  name: 'passkey',
  about: 'a number of five digits, said once somewhere in a text, is asked for at its end',
  source: 'Mohtashami & Jaggi, 2023, arXiv 2305.16300',
  vocabulary: 76,
  chance: 1 / 10,
  lengths: { train: 512, test: [512, 8192, 65_536, 1_048_576] },
  sample(random, length) {
    const digits = 5;
    expectRoom(this.name, length, 2 * digits + 2);
    // 0 to 9 are digits, 10 stands before the number, 11 asks for it, the others are text.
    const body = length - digits;
    const tokens = Array.from({ length: length + 1 }, () => 12 + random.below(64));
    const number = Array.from({ length: digits }, () => random.below(10));
    tokens.splice(random.below(body - digits - 1), digits + 1, 10, ...number);
    tokens.splice(body, digits + 1, 11, ...number);
    return said(
      tokens,
      number.map((_, i) => body + 1 + i),
    );
  },
};

const [DIGITS, ENTRY] = [4, 7];
/** The tokens of a question and its answer: a mark, a name and a number. */
const CALL = 3 + DIGITS;

/** Phone book: as many entries as fit, each a name of two parts and a number of four digits; the number of one name is asked for. */
export const phonebook: TokenTask = {
  name: 'phonebook',
  about: 'a phone book is read; the number of one of its names is asked for',
  source: 'Jelassi et al., 2024 (Repeat after me), arXiv 2402.01032; Waleffe et al., 2024, arXiv 2406.07887',
  vocabulary: 12 + 2 * 64,
  chance: 1 / 10,
  lengths: { train: 256, test: [256, 1024] },
  most: (length) => DIGITS * Math.max(1, Math.floor((length + 1 - ENTRY) / CALL)),
  sample(random, length) {
    expectRoom(this.name, length, ENTRY - 1 + CALL);
    return calls(random, length, mostEntries(length), 1);
  },
  // Many questions about few entries, since one question behind a long book is a weak training signal.
  practice(random, length) {
    expectRoom(this.name, length, ENTRY - 1 + CALL);
    const entries = 1 + random.below(mostEntries(length));
    const asked = random.below(4) === 0 ? 1 : Math.floor((length + 1 - ENTRY * entries) / CALL);
    return calls(random, length, entries, asked);
  },
};

/** The number of entries that fit before one question. */
function mostEntries(length: number): number {
  return Math.min(64 * 64, Math.floor((length + 1 - CALL) / ENTRY));
}

/** A book, and `asked` questions about entries of it. */
function calls(random: Random, length: number, entries: number, asked: number): Example {
  // 0 to 9 are digits, 10 ends an entry, 11 asks; a name is one of 64 first parts and one of 64 second ones.
  const names = distinct(random, entries, 64 * 64).map((name) => [12 + (name >> 6), 76 + (name & 63)]);
  const numbers = names.map(() => Array.from({ length: DIGITS }, () => random.below(10)));
  const tokens = names.flatMap((name, i) => [...name, ...numbers[i]!, 10]);
  const places: number[] = [];
  for (let i = 0; i < asked; i++) {
    const which = random.below(entries);
    tokens.push(11, ...names[which]!);
    for (const digit of numbers[which]!) places.push(tokens.push(digit) - 1);
  }
  const before = length + 1 - tokens.length;
  return said(
    [...new Array<number>(before).fill(10), ...tokens],
    places.map((place) => place + before),
  );
}

interface FactOptions {
  /** The number of facts that were given before with another value; the last value counts. */
  readonly rewritten?: number;
  /** Whether a mark precedes each fact. Without marks, as many other facts are given that are never asked for, so that nothing tells which ones will be. */
  readonly marked?: boolean;
}

/**
 * Facts scattered over a long text of other tokens: a fact is a mark, a key and a value; at the end all keys are asked for in
 * another order.
 */
export function multiKeyRecall(facts: number, { rewritten = 0, marked = true }: FactOptions = {}): TokenTask {
  const keys = 256;
  const values = 256;
  // Token 0 marks a fact, 1 a question; then come keys, values, and 64 tokens of text.
  const text = 2 + keys + values;
  const width = marked ? 3 : 2;
  const others = marked ? 0 : facts;
  const least = width * (facts + rewritten + others) + 3 * facts;
  const name = [
    `facts-${facts}`,
    ...(rewritten > 0 ? ['rewritten'] : []),
    ...(marked ? [] : ['unmarked']),
  ].join('-');
  return {
    name,
    about: [
      `${facts} facts strewn over a long text are asked for at its end`,
      ...(rewritten > 0 ? [`${rewritten} of them were said otherwise before`] : []),
      ...(marked ? [] : ['nothing marks them, and as many others are never asked for']),
    ].join('; '),
    source: 'after RULER (Hsieh et al., 2024, arXiv 2404.06654), multi-key retrieval',
    vocabulary: text + 64,
    chance: 1 / values,
    lengths: { train: 1024, test: [1024, 8192, 65_536, 1_048_576] },
    sample(random, length) {
      expectRoom(name, length, least);
      return strewn(random, length, facts, rewritten);
    },
    practice(random, length) {
      expectRoom(name, length, least);
      const fewer = random.below(2) === 0 ? facts : 1 + random.below(facts);
      const among = random.below(2) === 0 ? keys : 2 * facts;
      return strewn(random, length, fewer, Math.min(fewer, rewritten), among);
    },
  };

  function strewn(random: Random, length: number, facts: number, rewritten: number, among = keys): Example {
    const told = facts + Math.min(others, facts);
    const mentioned = told + rewritten;
    const tail = 3 * facts;
    const body = length + 1 - tail;
    const tokens = Array.from({ length: length + 1 }, () => text + random.below(64));
    // The first `facts` of them are asked for.
    const chosen = distinct(random, told, among);
    const slots = distinct(random, mentioned, Math.floor(body / width)).sort((a, b) => a - b);
    const mentions = Array.from(random.permutation(mentioned), (i) => i % told);
    const known = new Map<number, number>();
    for (const [i, slot] of slots.entries()) {
      const key = chosen[mentions[i]!]!;
      const value = random.below(Math.min(values, among));
      known.set(key, value);
      tokens.splice(width * slot, width, ...(marked ? [0] : []), 2 + key, 2 + keys + value);
    }
    const places: number[] = [];
    for (const [i, which] of random.permutation(facts).entries()) {
      const key = chosen[which]!;
      tokens.splice(body + 3 * i, 3, 1, 2 + key, 2 + keys + known.get(key)!);
      places.push(body + 3 * i + 2);
    }
    return said(tokens, places);
  }
}
