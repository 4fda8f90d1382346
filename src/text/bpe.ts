/**
 * Learns a byte-level BPE vocabulary: the most frequent pair of neighbouring tokens becomes a token, repeatedly.
 *
 * A corpus repeats its words, so each distinct pre-token is stored once with its frequency. Each pair has a list of the
 * pre-tokens that contain it, and a merge visits only those and corrects the counts of the neighbouring pairs. The next pair
 * is taken from a heap, whose entries may be outdated and are then corrected when they are taken.
 */
import { expectIterable, expectObject } from '../arguments.js';
import { ConfigError, DataError } from '../errors.js';
import { ALPHABET, PRE_TOKEN, toByteSymbols } from './byte-level.js';

/** The special token that separates documents, if none is given. */
export const END_OF_TEXT = '<|endoftext|>';

/** Settings of the training. */
export interface BpeOptions {
  /** The size at which training stops, including special tokens and the 256 bytes. */
  vocabSize: number;
  /** They take the first ids; the first of them separates documents. Never merged and never split. Default: `<|endoftext|>`. */
  specialTokens?: readonly string[];
  /** The least frequency of a pair that becomes a token. Default: 2. */
  minFrequency?: number;
  /** Called after every merge with the tokens so far and `vocabSize`. */
  onProgress?: (tokens: number, vocabSize: number) => void;
}

/** A vocabulary and its merges, in the form of a tokenizer.json. */
export interface TrainedBpe {
  /** Token (special, or spelled in byte symbols) -> id: special tokens, then the 256 bytes, then merges. */
  vocab: Map<string, number>;
  /** The two tokens that each merge joins, first learned first. */
  merges: [string, string][];
  specialTokens: string[];
}

/**
 * Trains on `texts` (Sennrich et al., 2016, over bytes as in GPT-2). The same texts give the same tokens in whatever
 * order they come: of equally frequent pairs the one with the lower ids wins. The vocabulary stays smaller than
 * `vocabSize` when the text runs out of pairs that occur `minFrequency` times.
 *
 * Throws `ConfigError` for invalid sizes or special tokens, `DataError` when there is no text.
 */
export function trainBpe(texts: Iterable<string>, options: BpeOptions): TrainedBpe {
  expectIterable(texts, 'the texts are', 'texts');
  expectObject(options, 'the options are', 'an object with vocabSize');
  const { vocabSize, specialTokens = [END_OF_TEXT], minFrequency = 2, onProgress } = options;
  const tokens = startingTokens(specialTokens, vocabSize, minFrequency);
  const vocab = new Map(tokens.map((token, id) => [token, id]));
  const merges: [string, string][] = [];

  const pairs = new Pairs(wordsOf(texts, specialTokens, vocab));
  while (tokens.length < vocabSize) {
    const pair = pairs.mostFrequent();
    if (!pair || pair.count < minFrequency) break;
    const left = tokens[pair.left]!;
    const right = tokens[pair.right]!;
    const joined = left + right;
    // Only a special token can have this name already, and merging must not produce it.
    if (vocab.has(joined)) continue;
    pairs.merge(pair, tokens.length);
    vocab.set(joined, tokens.length);
    tokens.push(joined);
    merges.push([left, right]);
    onProgress?.(tokens.length, vocabSize);
  }
  return { vocab, merges, specialTokens: [...specialTokens] };
}

function startingTokens(specialTokens: readonly string[], vocabSize: number, minFrequency: number): string[] {
  const tokens = [...specialTokens, ...ALPHABET];
  if (specialTokens.includes('') || new Set(tokens).size < tokens.length) {
    throw new ConfigError(
      `special tokens must be different from each other and longer than one character, not ${JSON.stringify(specialTokens)}`,
    );
  }
  if (!Number.isInteger(vocabSize) || vocabSize < tokens.length) {
    throw new ConfigError(
      `vocabSize is ${vocabSize}; it must be a whole number of at least ${tokens.length} (256 bytes and ${specialTokens.length} special tokens)`,
    );
  }
  if (!(minFrequency >= 1)) throw new ConfigError(`minFrequency is ${minFrequency}; it must be at least 1`);
  return tokens;
}

/** A distinct pre-token: its current ids and its frequency. */
interface Word {
  symbols: number[];
  frequency: number;
}

function wordsOf(
  texts: Iterable<string>,
  specialTokens: readonly string[],
  vocab: Map<string, number>,
): Word[] {
  const frequencies = new Map<string, number>();
  for (const text of texts) {
    for (const section of withoutSpecialTokens(text, specialTokens)) {
      for (const preToken of section.match(PRE_TOKEN) ?? []) {
        frequencies.set(preToken, (frequencies.get(preToken) ?? 0) + 1);
      }
    }
  }
  if (frequencies.size === 0) throw new DataError('there is no text to learn a vocabulary from');
  return Array.from(frequencies, ([preToken, frequency]) => ({
    symbols: toByteSymbols(preToken).map((symbol) => vocab.get(symbol)!),
    frequency,
  }));
}

/** A tokenizer removes special tokens before merging, so their letters must not be trained on. */
function withoutSpecialTokens(text: string, specialTokens: readonly string[]): string[] {
  return specialTokens.reduce((sections, token) => sections.flatMap((s) => s.split(token)), [text]);
}

interface Pair {
  left: number;
  right: number;
  /** Occurrences in the whole corpus; an overlap counts, so that "aaa" holds two pairs. */
  count: number;
  /** Indices of the words that contain it, or contained it before another merge. */
  words: number[];
}

/** Every pair of neighbours in the words, with its current count. */
class Pairs {
  readonly #words: Word[];
  /** By left id, then right id. */
  readonly #pairs: Map<number, Pair>[] = [];
  readonly #queue = new PairQueue();

  constructor(words: Word[]) {
    this.#words = words;
    for (const [index, { symbols, frequency }] of words.entries()) {
      for (let i = 1; i < symbols.length; i++) this.#add(symbols[i - 1]!, symbols[i]!, frequency, index);
    }
    for (const pairs of this.#pairs) for (const pair of pairs?.values() ?? []) this.#queue.push(pair);
  }

  /** Removes the most frequent pair from the queue; among equals, the one with the lowest ids. */
  mostFrequent(): Pair | undefined {
    for (let entry = this.#queue.pop(); entry; entry = this.#queue.pop()) {
      if (entry.count === entry.pair.count) return entry.pair;
      if (entry.pair.count > 0) this.#queue.push(entry.pair);
    }
    return undefined;
  }

  /** Replaces every occurrence of the pair by `id`, from left to right. */
  merge(pair: Pair, id: number): void {
    const { left, right } = pair;
    const appeared = new Set<Pair>();
    for (const index of pair.words) {
      const { symbols, frequency } = this.#words[index]!;
      let length = 0;
      for (let i = 0; i < symbols.length; i++) {
        const symbol = symbols[i]!;
        if (symbol !== left || symbols[i + 1] !== right) {
          symbols[length++] = symbol;
          continue;
        }
        if (length > 0) {
          const before = symbols[length - 1]!;
          this.#add(before, left, -frequency, index);
          appeared.add(this.#add(before, id, frequency, index));
        }
        if (i + 2 < symbols.length) {
          const after = symbols[i + 2]!;
          this.#add(right, after, -frequency, index);
          appeared.add(this.#add(id, after, frequency, index));
        }
        symbols[length++] = id;
        i++;
      }
      symbols.length = length;
    }
    this.#pairs[left]!.delete(right);
    for (const newPair of appeared) if (newPair.count > 0) this.#queue.push(newPair);
  }

  #add(left: number, right: number, frequency: number, word: number): Pair {
    this.#pairs[left] ??= new Map();
    const pairs = this.#pairs[left];
    let pair = pairs.get(right);
    if (!pair) {
      pair = { left, right, count: 0, words: [] };
      pairs.set(right, pair);
    }
    pair.count += frequency;
    // Words are visited one after the other, so a word that is already here is the last one.
    if (frequency > 0 && pair.words.at(-1) !== word) pair.words.push(word);
    return pair;
  }
}

/** A pair and the count that it had when it was queued. */
interface QueuedPair {
  pair: Pair;
  count: number;
}

/** A binary heap: the highest count first, then the lower left id, then the lower right id. */
class PairQueue {
  readonly #heap: QueuedPair[] = [];

  push(pair: Pair): void {
    const heap = this.#heap;
    const entry = { pair, count: pair.count };
    let hole = heap.length;
    while (hole > 0) {
      const parent = (hole - 1) >> 1;
      if (!precedes(entry, heap[parent]!)) break;
      heap[hole] = heap[parent]!;
      hole = parent;
    }
    heap[hole] = entry;
  }

  pop(): QueuedPair | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (!last || heap.length === 0) return first;
    let hole = 0;
    for (;;) {
      let child = 2 * hole + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && precedes(heap[child + 1]!, heap[child]!)) child++;
      if (!precedes(heap[child]!, last)) break;
      heap[hole] = heap[child]!;
      hole = child;
    }
    heap[hole] = last;
    return first;
  }
}

function precedes(a: QueuedPair, b: QueuedPair): boolean {
  if (a.count !== b.count) return a.count > b.count;
  if (a.pair.left !== b.pair.left) return a.pair.left < b.pair.left;
  return a.pair.right < b.pair.right;
}
