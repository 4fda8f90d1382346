import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { describe, expect, test } from 'vitest';
import { DataError, TokenizerError } from '../errors.js';
import { type TrainedBpe, trainBpe } from './bpe.js';
import { PRE_TOKEN, toByteSymbols } from './byte-level.js';
import { split, WORD_PATTERNS } from './cuttings.js';
import { Tokenizer } from './tokenizer.js';
import { tokenizerFiles } from './tokenizer-json.js';

const prose = [
  "Call me Ishmael. Some years ago—never mind how long precisely—having little or no money, I'll sail.",
  'and nothing particular to interest me on shore, I thought I would sail about a little and see the',
  'watery part of the world. It is a way I have of driving off the spleen.  aaaa aaaaaa aaaaaaaaa 1851 1851',
  'C’était l’été; l’été était là. été été Ελλάδα Ελλάδα 鯨は海に、海は鯨に。鯨は海に。',
];
const trained = trainBpe(prose, { vocabSize: 420 });
const files = tokenizerFiles(trained);
const tokenizer = new Tokenizer(files);

const hardTexts = [
  '',
  ' ',
  'plain words, and more words',
  '  leading, trailing and   inner space \t\n\r\n ',
  '👩‍👩‍👧‍👦🐋 emoji 🇫🇷 joined',
  '鯨は海に、白い鯨。 한국어 العربية हिन्दी',
  '\u0000\u0001\u001b\u007f\u0085\u00a0\u2028\ufeff\ufffd control',
  'e\u0301 \u0301 combining \u1e9b\u0323',
  '<|endoftext|> <|endoftext|>between<|endoftext|',
];

/** Pieces of text at the borders of pre-tokens; random sequences of them cover every case. */
const fragments = [
  ...[
    ' ',
    ' ',
    ' ',
    '  ',
    '\n',
    '\t',
    '\u00a0',
    '\u2003',
    'a',
    'little',
    'Ελλάδα',
    '鯨',
    '🐋',
    '𝔸',
    'ß',
    "'",
    "'s",
  ],
  ...[
    "'ll",
    '’',
    '1851',
    '½',
    '.',
    '—',
    '\u0301',
    '\u200d',
    '\ud83d',
    '\udc0b',
    '\u0000',
    '<|endoftext|>',
    '<|end',
  ],
  ...['<mask>', '<| x y|>', 'é', 'e\u0301'],
];

function* randomTexts(count: number): Generator<string> {
  let state = 7;
  for (let n = 0; n < count; n++) {
    let text = '';
    for (let i = 0; i < 12; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      text += fragments[Math.floor((state / 2 ** 32) * fragments.length)];
    }
    yield text;
  }
}

/** The definition of BPE: the earliest learned merge that applies is applied everywhere, until none applies. */
function applyMerges(text: string, { vocab, merges }: TrainedBpe): number[] {
  const ranks = new Map(merges.map((merge, rank) => [merge.join(' '), rank]));
  return (text.match(PRE_TOKEN) ?? []).flatMap((preToken) => {
    let symbols = toByteSymbols(preToken);
    for (;;) {
      const rankAt = (i: number) => ranks.get(`${symbols[i]} ${symbols[i + 1]}`) ?? Number.POSITIVE_INFINITY;
      const best = Math.min(...symbols.map((_, i) => rankAt(i)));
      if (best === Number.POSITIVE_INFINITY) return symbols.map((symbol) => vocab.get(symbol)!);
      const next: string[] = [];
      for (let i = 0; i < symbols.length; i++) {
        const merge = rankAt(i) === best;
        next.push(merge ? symbols[i]! + symbols[i + 1]! : symbols[i]!);
        if (merge) i++;
      }
      symbols = next;
    }
  });
}

test('merges are applied in the order in which they were learned', () => {
  const texts = [...prose, ...hardTexts, ...randomTexts(200)].map((text) =>
    text.replaceAll('<|endoftext|>', ''),
  );
  for (const text of texts) expect(tokenizer.encode(text)).toEqual(applyMerges(text, trained));
  // Otherwise this would test only bytes.
  expect(tokenizer.encode(prose[1]!).length).toBeLessThan(prose[1]!.length * 0.6);
});

test('any text is decoded from its ids', () => {
  for (const text of [...hardTexts, ...randomTexts(200)]) {
    const wellFormed = text.replace(/[\ud800-\udfff]/gu, '\ufffd');
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(wellFormed);
  }
});

describe('the ids of the pieces equal those of the whole text in the library', () => {
  const json = files.tokenizer as { added_tokens: object[]; pre_tokenizer: object; model: { vocab: object } };
  const { added_tokens: special, pre_tokenizer: byteLevel, model } = json;
  const added = (content: string, rest: object = {}): object => ({
    id: trained.vocab.size,
    content,
    ...rest,
  });

  test.each<[string, object]>([
    ['as trained', {}],
    ['with NFC', { normalizer: { type: 'NFC' } }],
    ...Object.entries(WORD_PATTERNS).map(([name, pattern]): [string, object] => [
      `by the pattern ${name}`,
      { pre_tokenizer: split(pattern) },
    ]),
    [
      'by a pattern that takes the space behind a word',
      { pre_tokenizer: split('\\p{L}+ ?|\\s+|[^\\s\\p{L}]+') },
    ],
    ['with a prefix space', { pre_tokenizer: { ...byteLevel, add_prefix_space: true } }],
    ['with a token that has a space in it', { added_tokens: [...special, added('<| x y|>')] }],
    ['with a token that ends with a space', { added_tokens: [...special, added('a ')] }],
    ['with a token that begins with a space', { added_tokens: [...special, added(' little')] }],
    ['with a token of spaces', { added_tokens: [...special, added('  ')] }],
    [
      'with a token that takes the space after it',
      { added_tokens: [...special, added('é', { rstrip: true })] },
    ],
    [
      'with a token that takes the space before it',
      { added_tokens: [...special, added('ß', { lstrip: true })] },
    ],
    [
      'with a normalizer that takes spaces',
      { normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '' } },
    ],
    [
      'with tokens across words',
      {
        pre_tokenizer: { ...byteLevel, use_regex: false },
        model: { ...model, vocab: { ...model.vocab, eĠ: trained.vocab.size }, merges: ['e Ġ'] },
      },
    ],
  ])('%s', (_, change) => {
    const variant = { tokenizer: { ...json, ...change }, config: files.config };
    const whole = new LibraryTokenizer(variant.tokenizer, variant.config);
    const inPieces = new Tokenizer(variant);
    for (const text of [...prose, ...hardTexts, ...randomTexts(400)]) {
      const { ids } = whole.encode(text, { add_special_tokens: false });
      expect(inPieces.encode(text), JSON.stringify(text)).toEqual(ids);
    }
  });
});

test('no tokens are added around a text', () => {
  const template = {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<|endoftext|>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [],
    special_tokens: {},
  };
  const withTemplate = new Tokenizer({
    ...files,
    tokenizer: { ...files.tokenizer, post_processor: template },
  });
  expect(withTemplate.encode('a little')).toEqual(tokenizer.encode('a little'));
});

test('spaces before punctuation are kept, whatever the config says', () => {
  const tidying = new Tokenizer({ ...files, config: { clean_up_tokenization_spaces: true } });
  expect(tidying.decode(tidying.encode("see , I 'm here ."))).toBe("see , I 'm here .");
});

test('ids without a token give no text', () => {
  const ids = tokenizer.encode('a little');
  expect(tokenizer.decode([5000, ...ids, tokenizer.vocabSize])).toBe('a little');
  expect(tokenizer.decode([5000])).toBe('');
  expect(tokenizer.decode(Int32Array.from(ids))).toBe('a little');
});

test('knows its size, its end of text and its tokens', () => {
  expect(tokenizer.vocabSize).toBe(trained.vocab.size);
  expect(tokenizer.endOfText).toBe(0);
  expect(tokenizer.tokenToId('Ġ')).toBe(trained.vocab.get('Ġ'));
  expect(tokenizer.tokenToId('no such token')).toBeUndefined();

  const padded = { id: 999, content: '<|pad|>', special: true };
  const added = { ...files.tokenizer, added_tokens: [padded] };
  expect(new Tokenizer({ tokenizer: added, config: { eos_token: { content: '<|pad|>' } } })).toMatchObject({
    vocabSize: 1000,
    endOfText: 999,
  });
  expect(new Tokenizer({ tokenizer: files.tokenizer, config: { eos_token: null } }).endOfText).toBe(0);
  const endless = tokenizerFiles(trainBpe(prose, { vocabSize: 300, specialTokens: [] }));
  expect(new Tokenizer(endless).endOfText).toBeUndefined();
});

test('a normalizer that the library does not know is named', () => {
  const strange = { ...files.tokenizer, normalizer: { type: 'Strange' } };
  expect(() => new Tokenizer({ tokenizer: strange, config: {} }, 'models/odd')).toThrow(TokenizerError);
  expect(() => new Tokenizer({ tokenizer: strange, config: {} }, 'models/odd')).toThrow(
    /models\/odd\/tokenizer\.json.*Strange/,
  );
});

describe('the beginning of a sequence', () => {
  const bos = { id: 260, content: '<s>', special: true };
  const eos = { id: 261, content: '</s>', special: true };
  const base = tokenizerFiles(trainBpe(['of whales'], { vocabSize: 260 }));
  const special = (...ids: string[]) => ids.map((id) => ({ SpecialToken: { id, type_id: 0 } }));
  const sequence = { Sequence: { id: 'A', type_id: 0 } };
  const made = (post_processor: unknown, config: object = {}): Tokenizer =>
    new Tokenizer({
      tokenizer: { ...base.tokenizer, added_tokens: [bos, eos], post_processor },
      config: { bos_token: '<s>', ...config },
    });
  const template = (...single: unknown[]) => ({
    type: 'TemplateProcessing',
    single,
    pair: single,
    special_tokens: {},
  });

  test.each<[string, Tokenizer, number[]]>([
    ['of a template', made(template(...special('<s>'), sequence)), [260]],
    [
      'of a template that also ends it',
      made(template(...special('<s>'), sequence, ...special('</s>'))),
      [260],
    ],
    [
      'of a template in a row',
      made({ type: 'Sequence', processors: [{ type: 'ByteLevel' }, template(...special('<s>'), sequence)] }),
      [260],
    ],
    ['that the config asks for', made(null, { add_bos_token: true, bos_token: { content: '<s>' } }), [260]],
    ['that the config forbids', made(template(...special('<s>'), sequence), { add_bos_token: false }), []],
    ['of none', made(null), []],
    ['of one that only ends it', made(template(sequence, ...special('</s>'))), []],
  ])('%s', (_, tokenizer, beginning) => {
    expect(tokenizer.beginning).toEqual(beginning);
    const plain = tokenizer.encode('of whales');
    expect(tokenizer.encodeFromStart('of whales')).toEqual([...beginning, ...plain]);
    // If the text starts with it, it is not added again.
    expect(tokenizer.encodeFromStart('<s>of whales')).toEqual([260, ...plain]);
    expect(tokenizer.encodeFromStart('')).toEqual(beginning);
  });
});

test('values that are not a text or a list of tokens are refused', () => {
  const tokenizer = new Tokenizer(tokenizerFiles(trainBpe(['of whales'], { vocabSize: 260 })));
  for (const nothing of [null, undefined, 5, ['a']] as unknown as string[])
    expect(() => tokenizer.encode(nothing)).toThrow(DataError);
  for (const nothing of [null, undefined, 5] as unknown as number[][])
    expect(() => tokenizer.decode(nothing)).toThrow(DataError);
});

test('the text of one token: inside a text, and as bytes if it has a part of a character', () => {
  const tokenizer = new Tokenizer(tokenizerFiles(trainBpe(['of whales'], { vocabSize: 260 })));
  expect(
    tokenizer
      .encode(' é')
      .map((id) => tokenizer.textOf(id))
      .join(''),
  ).toBe(' bytes:\\xc3bytes:\\xa9');
});
