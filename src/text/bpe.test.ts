import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { ConfigError, DataError } from '../errors.js';
import { END_OF_TEXT, trainBpe } from './bpe.js';
import { ALPHABET, PRE_TOKEN, toByteSymbols } from './byte-level.js';
import { loadCorpus } from './corpus.js';

/** The reference trainer, which counts all pairs again before every merge. */
function naiveMerges(texts: string[], mergeCount: number, minFrequency: number): [string, string][] {
  const words = texts.flatMap((text) => (text.match(PRE_TOKEN) ?? []).map(toByteSymbols));
  const tokens = [END_OF_TEXT, ...ALPHABET];
  const merges: [string, string][] = [];
  while (merges.length < mergeCount) {
    const counts = new Map<string, number>();
    for (const word of words) {
      for (let i = 1; i < word.length; i++) {
        const pair = `${word[i - 1]} ${word[i]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    const [best] = [...counts]
      .map(([pair, count]) => ({ pair: pair.split(' ') as [string, string], count }))
      .filter(({ count }) => count >= minFrequency)
      .sort(
        (a, b) =>
          b.count - a.count ||
          tokens.indexOf(a.pair[0]) - tokens.indexOf(b.pair[0]) ||
          tokens.indexOf(a.pair[1]) - tokens.indexOf(b.pair[1]),
      );
    if (!best) break;
    for (const word of words) {
      for (let i = 0; i + 1 < word.length; i++) {
        if (word[i] === best.pair[0] && word[i + 1] === best.pair[1]) word.splice(i, 2, best.pair.join(''));
      }
    }
    merges.push(best.pair);
    tokens.push(best.pair.join(''));
  }
  return merges;
}

function randomText(alphabet: string, length: number, seed: number): string {
  let state = seed;
  let text = '';
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    text += alphabet[Math.floor((state / 2 ** 32) * alphabet.length)];
  }
  return text;
}

const prose = [
  'Call me Ishmael. Some years ago—never mind how long precisely—having little or no money in my purse,',
  'and nothing particular to interest me on shore, I thought I would sail about a little and see the',
  'watery part of the world. It is a way I have of driving off the spleen. 鯨は海に、海は鯨に。',
];

describe('merges agree with a naive trainer', () => {
  test('on prose', () => {
    const { merges } = trainBpe(prose, { vocabSize: 257 + 40 });
    expect(merges).toHaveLength(40);
    expect(merges).toEqual(naiveMerges(prose, 40, 2));
  });

  // Texts of two or three letters have long runs, overlapping pairs and many ties.
  test.each([
    ['aab', 1],
    ['ab', 2],
    ['aaaaab ', 3],
    ['abc  ', 4],
  ])('on random text of "%s"', (alphabet, seed) => {
    const texts = [randomText(alphabet, 300, seed), randomText(alphabet, 100, seed + 10)];
    const { merges } = trainBpe(texts, { vocabSize: 257 + 60, minFrequency: 1 });
    expect(merges.length).toBeGreaterThan(20);
    expect(merges).toEqual(naiveMerges(texts, 60, 1));
  });
});

test("merges agree with Hugging Face's trainer on a novel", async () => {
  const { documents } = await loadCorpus('moby-dick');
  const { merges } = trainBpe(
    documents.map(({ text }) => text),
    { vocabSize: 1024 },
  );
  const digest = createHash('sha256').update(merges.map((merge) => merge.join(' ')).join('\n'));
  // BpeTrainer of Python's tokenizers 0.23.2: initial_alphabet = ByteLevel.alphabet(), min_frequency = 2.
  expect(digest.digest('hex')).toBe('2ed1ee6764f1183a01d39d23ee9f722c06ffcf47dc41754545af1ff133dae404');
});

test('ids: special tokens, then bytes, then merges in their order', () => {
  const { vocab, merges, specialTokens } = trainBpe(prose, {
    vocabSize: 300,
    specialTokens: ['<|end|>', '<|pad|>'],
  });
  expect(specialTokens).toEqual(['<|end|>', '<|pad|>']);
  expect([...vocab.values()]).toEqual(Array.from({ length: 300 }, (_, id) => id));
  expect([...vocab.keys()]).toEqual([
    '<|end|>',
    '<|pad|>',
    ...ALPHABET,
    ...merges.map((pair) => pair.join('')),
  ]);
});

test('texts in another order, or joined, give the same vocabulary', () => {
  const expected = trainBpe(prose, { vocabSize: 330 });
  expect(trainBpe([...prose].reverse(), { vocabSize: 330 })).toEqual(expected);
  expect(trainBpe([prose.join('\u0000')], { vocabSize: 330 }).merges).toEqual(expected.merges);
});

test('special tokens in the text are not trained on', () => {
  const separated = [`${prose[0]}${END_OF_TEXT}${prose[1]}${END_OF_TEXT}${prose[2]}`];
  expect(trainBpe(separated, { vocabSize: 330 })).toEqual(trainBpe(prose, { vocabSize: 330 }));
});

test('no merge spells a special token', () => {
  const { vocab, merges } = trainBpe(['b b b'], { vocabSize: 1000, specialTokens: ['Ġb'] });
  expect(merges).toEqual([]);
  expect(vocab.get('Ġb')).toBe(0);
});

test('stops when no pair is frequent enough', () => {
  const { vocab, merges } = trainBpe(['aba abc abd'], { vocabSize: 1000, minFrequency: 2 });
  expect(merges).toEqual([
    ['a', 'b'],
    ['Ġ', 'ab'],
  ]);
  expect(vocab.size).toBe(257 + 2);
});

test('reports every merge', () => {
  const reports: [number, number][] = [];
  trainBpe(prose, { vocabSize: 260, onProgress: (...report) => reports.push(report) });
  expect(reports).toEqual([
    [258, 260],
    [259, 260],
    [260, 260],
  ]);
});

test('refuses invalid settings', () => {
  expect(() => trainBpe(prose, { vocabSize: 256 })).toThrow(ConfigError);
  expect(() => trainBpe(prose, { vocabSize: 256 })).toThrow('at least 257');
  expect(() => trainBpe(prose, { vocabSize: 300.5 })).toThrow(ConfigError);
  expect(() => trainBpe(prose, { vocabSize: 300, specialTokens: ['<a>', '<a>'] })).toThrow(ConfigError);
  expect(() => trainBpe(prose, { vocabSize: 300, specialTokens: [''] })).toThrow(ConfigError);
  expect(() => trainBpe(prose, { vocabSize: 300, specialTokens: ['é'] })).toThrow(ConfigError);
  expect(() => trainBpe(prose, { vocabSize: 300, minFrequency: 0 })).toThrow(ConfigError);
  expect(() => trainBpe([''], { vocabSize: 300 })).toThrow(DataError);
  expect(() => trainBpe([], { vocabSize: 300 })).toThrow(DataError);
});
