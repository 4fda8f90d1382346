/** Vocabularies in other formats: RWKV's, compared with a direct implementation of its rule, and Kimi's, compared with that of tiktoken. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tokenizer as Library } from '@huggingface/tokenizers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TokenizerError } from '../errors.js';
import { loadTokenizerOrIds } from './id-tokenizer.js';
import { Tokenizer } from './tokenizer.js';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'heddle-vocabulary-'));
});
afterAll(() => rm(root, { recursive: true }));

async function folderWith(files: Readonly<Record<string, string | object>>): Promise<string> {
  const folder = await mkdtemp(join(root, 'model-'));
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return folder;
}

const utf8 = new TextEncoder();
/** A half of a surrogate pair becomes U+FFFD. */
const wellFormed = (text: string): string =>
  new TextDecoder('utf-8', { ignoreBOM: true }).decode(utf8.encode(text));
const sameBytes = (a: ArrayLike<number>, b: ArrayLike<number>): boolean =>
  a.length === b.length && Array.from(a).every((byte, i) => byte === b[i]);

/** Python's repr of a text. */
function repr(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const inside = Array.from(text, (character) => {
    const code = character.codePointAt(0)!;
    if (character === '\\' || character === quote) return `\\${character}`;
    const short = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }[character];
    if (short) return short;
    if (code < 32 || code === 127) return `\\x${code.toString(16).padStart(2, '0')}`;
    if (code === 0xa0 || code === 0xad) return `\\x${code.toString(16)}`;
    if (code === 0x2028 || code === 0x200b) return `\\u${code.toString(16)}`;
    return code === 0xe0001 ? `\\U${code.toString(16).padStart(8, '0')}` : character;
  });
  return quote + inside.join('') + quote;
}

const WORDS = [
  ...[
    '\n\n',
    '\r\n',
    ' the',
    'the',
    ' there',
    'there',
    'er',
    ' ',
    '  ',
    '    ',
    "'s",
    '"',
    '\\',
    '\\n',
    `'"`,
  ],
  ...[
    '10',
    ' 10',
    'é',
    'ée',
    '世',
    '世界',
    '界',
    '😀',
    '👍🏽',
    '\u2028',
    '\u200b',
    '\u00a0',
    '\u{e0001}',
    '\t\t',
  ],
  ...[
    '<|',
    '|>',
    'User',
    'User:',
    ' Assistant',
    '\n\nAssistant:',
    'aa',
    'aaaa',
    'aab',
    '__proto__',
    'constructor',
  ],
];
/** Each token as bytes, with its id; a few ids have none. */
const tokens: [Uint8Array, number][] = [
  ...Array.from({ length: 256 }, (_, byte): [Uint8Array, number] => [Uint8Array.of(byte), byte + 1]),
  [Uint8Array.of(0xe4, 0xb8), 258],
  [Uint8Array.of(0xf0, 0x9f), 259],
  ...WORDS.filter((word) => utf8.encode(word).length > 1).map((word, i): [Uint8Array, number] => [
    utf8.encode(word),
    261 + i,
  ]),
];
const literalOf = (bytes: Uint8Array): string => {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
  if (sameBytes(utf8.encode(text), bytes)) return repr(text);
  return `b'${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}'`;
};
const WORLD = tokens.map(([bytes, id]) => `${id} ${literalOf(bytes)} ${bytes.length}\n`).join('');
const NAME = 'rwkv_vocab_v20230424.txt';
const END = '<|rwkv_tokenizer_end_of_text|>';

/** As in flash-linear-attention's conversions. */
const FLA_CONFIG = {
  add_prefix_space: false,
  added_tokens_decoder: {
    '0': { content: END, lstrip: false, normalized: false, rstrip: false, single_word: false, special: true },
  },
  auto_map: { AutoTokenizer: ['hf_rwkv_tokenizer.RwkvTokenizer', null] },
  bos_token: END,
  eos_token: '\n\n',
  pad_token: END,
  unk_token: END,
  chat_template: "{{ bos_token }}{% for m in messages %}User: {{ m['content'] }}\n\n{% endfor %}Assistant:",
  tokenizer_class: 'RwkvTokenizer',
  use_fast: false,
};

/** The direct implementation: at each position the longest matching token. */
function longestFirst(text: string): number[] {
  const sorted = [...tokens].sort((a, b) => b[0].length - a[0].length);
  const bytes = utf8.encode(text);
  const ids: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    const [token, id] = sorted.find(([token]) => sameBytes(bytes.subarray(at, at + token.length), token))!;
    ids.push(id);
    at += token.length;
  }
  return ids;
}

function randomTexts(count: number): string[] {
  let state = 7;
  const next = (below: number): number => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * below);
  };
  const pieces = [...WORDS, 'a', 'b', 'x', 'ß', '😁', 't', 'h', '\0', '\ud800', '中'];
  return Array.from({ length: count }, () =>
    Array.from({ length: next(30) }, () => pieces[next(pieces.length)]).join(''),
  );
}

describe("RWKV's World vocabulary", () => {
  test('a text is encoded by the longest token at each position, and decodes to itself', async () => {
    const tokenizer = await Tokenizer.load(
      await folderWith({ [NAME]: WORLD, 'tokenizer_config.json': FLA_CONFIG }),
    );
    for (const text of randomTexts(300)) {
      const whole = wellFormed(text);
      expect(tokenizer.encode(text)).toEqual(longestFirst(whole));
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(whole);
      const stream = tokenizer.stream();
      expect(
        tokenizer
          .encode(text)
          .map((id) => stream.push(id))
          .join('') + stream.end(),
      ).toBe(whole);
    }
  });

  test('the equivalent tokenizer.json gives the same ids in the library', async () => {
    const { files } = await Tokenizer.load(await folderWith({ [NAME]: WORLD }));
    const library = new Library(files.tokenizer, files.config);
    for (const text of randomTexts(40)) {
      expect(library.encode(wellFormed(text), { add_special_tokens: false }).ids).toEqual(
        longestFirst(wellFormed(text)),
      );
    }
  });

  test('its end of a text is id 0, two newlines that end a turn stay the token that they are, and what is saved is read again', async () => {
    const folder = await folderWith({ [NAME]: WORLD, 'tokenizer_config.json': FLA_CONFIG });
    const loaded = await loadTokenizerOrIds(folder, 65_536);
    await loaded.save(join(folder, 'saved'));
    for (const tokenizer of [loaded, await Tokenizer.load(join(folder, 'saved'))]) {
      expect(tokenizer.encode(`${END}User: there\n\n`)).toEqual([0, ...longestFirst('User: there\n\n')]);
      expect(tokenizer.endOfText).toBe(261);
      expect(tokenizer.decode([0, 261])).toBe(`${END}\n\n`);
      expect(tokenizer.controlTokens).toEqual([END]);
      expect(tokenizer.byteVocabulary?.bytes[258]).toEqual(Uint8Array.of(0xe4, 0xb8));
      expect(tokenizer.leastTokens('a'.repeat(160))).toBe(6);
      expect((tokenizer.files.config as { chat_template?: string }).chat_template).toBe(
        FLA_CONFIG.chat_template,
      );
    }
    const plain = await Tokenizer.load(await folderWith({ [NAME]: WORLD }));
    expect(plain.endOfText).toBe(0);
    expect(plain.beginning).toEqual([]);
  });

  test('tokens that a checkpoint adds are read, and a file with other line ends', async () => {
    const added = { '0': { content: END, special: true }, '400': { content: '<think>' } };
    const tokenizer = await Tokenizer.load(
      await folderWith({
        [NAME]: WORLD.replaceAll('\n', '\r\n'),
        'tokenizer_config.json': { added_tokens_decoder: added },
      }),
    );
    expect(tokenizer.encode('a<think>a')).toEqual([98, 400, 98]);
    expect(tokenizer.vocabSize).toBe(401);
  });

  test('a long text takes time in proportion to its length', async () => {
    const tokenizer = await Tokenizer.load(await folderWith({ [NAME]: WORLD }));
    const text = 'the there 世界 '.repeat(20_000);
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  });

  test.each([
    ['a line that is none', "1 '\\x00' 1\nwhat\n", /line 2 of .*rwkv_vocab.*what/],
    ['a wrong length', "1 'ab' 3\n", /line 1 .*'?ab'? is not 3 bytes long/],
    ['an escape that Python does not have', "1 '\\q' 2\n", /line 1 .*no literal of Python/],
    ['a character among bytes', "1 b'世' 3\n", /line 1 /],
    ['a token that stands there twice', "1 'a' 1\n2 'a' 1\n", /line 2 .*repeats/],
    ['an id that stands there twice', "1 'a' 1\n1 'b' 1\n", /line 2 .*repeats/],
    ['nothing', '\n', /has no tokens/],
    ['a file that was cut', WORLD.slice(0, 900), /damaged/],
    ['a byte without a token', "1 'a' 1\n", /byte 0 has no token/],
  ])('%s is told', async (_, text, expected) => {
    const error = await Tokenizer.load(await folderWith({ [NAME]: text })).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(TokenizerError);
    expect((error as Error).message).toMatch(expected);
  });
});

const KIMI_CONFIG = {
  added_tokens_decoder: {
    '300': { content: '[BOS]', special: true },
    '301': { content: '[EOS]', special: true },
    '302': { content: '<|im_end|>', special: true },
    '305': { content: '<think>', special: false },
  },
  auto_map: { AutoTokenizer: ['tokenization_kimi.TikTokenTokenizer', null] },
  bos_token: '[BOS]',
  eos_token: '[EOS]',
  tokenizer_class: 'TikTokenTokenizer',
};

describe("Kimi's tiktoken.model", () => {
  const longer = [
    'th',
    'he',
    'the',
    ' the',
    '12',
    '世界',
    'in',
    'ing',
    '\n\n',
    'ab',
    'bc',
    'abc',
    'abcd',
    ' a',
  ];
  const ranks = [
    ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
    ...[0xe4, 0xe7].map((byte) => Uint8Array.of(byte, byte === 0xe4 ? 0xb8 : 0x95)),
    ...longer.map((text) => utf8.encode(text)),
    ...Array.from({ length: 28 }, (_, i) => utf8.encode(`q${String.fromCharCode(97 + i)}`)),
  ];
  const file = ranks.map((bytes, rank) => `${Buffer.from(bytes).toString('base64')} ${rank}`).join('\n');

  /** tiktoken's rule: a piece that is a token is kept, else neighbours are merged by the lowest rank. */
  function byRanks(piece: string): number[] {
    const rankOf = (bytes: number[]): number => ranks.findIndex((token) => sameBytes(token, bytes));
    const parts = Array.from(utf8.encode(piece), (byte) => [byte]);
    const whole = rankOf(parts.flat());
    if (whole >= 0) return [whole];
    for (;;) {
      const joined = parts.slice(1).map((part, i) => rankOf([...parts[i]!, ...part]));
      const lowest = Math.min(...joined.filter((rank) => rank >= 0), Infinity);
      if (lowest === Infinity) return parts.map(rankOf);
      parts.splice(joined.indexOf(lowest), 2, [...ranks[lowest]!]);
    }
  }

  test('pieces are merged by rank, Chinese is separated from other text, control tokens have their names', async () => {
    const folder = await folderWith({ 'tiktoken.model': file, 'tokenizer_config.json': KIMI_CONFIG });
    const tokenizer = await loadTokenizerOrIds(folder, 556);
    const cut: [string, string[]][] = [
      ['the thing abcdabc', ['the', ' thing', ' abcdabc']],
      ["in世界the123456's", ['in', '世界', 'the', '123', '456', "'s"]],
      ['a\n\n\n  b qa', ['a', '\n\n\n', ' ', ' b', ' qa']],
      ['世界abcd, ing!\n', ['世界', 'abcd', ',', ' ing', '!\n']],
    ];
    for (const [text, pieces] of cut) {
      expect(tokenizer.encode(text), text).toEqual(pieces.flatMap(byRanks));
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    }
    expect(tokenizer.encode('[BOS]a<think><|im_end|>')).toEqual([300, 97, 305, 302]);
    expect(tokenizer.encode('<|reserved_token_303|>')).toEqual([303]);
    expect(tokenizer.endOfText).toBe(301);
    expect(tokenizer.vocabSize).toBe(556);
  });

  test.each([
    ['of another family', file, { tokenizer_class: 'GPT2Tokenizer' }, /known of Kimi's alone/],
    ['with a damaged line', `${file}\n!!! 300`, KIMI_CONFIG, /line 301 of .*base64/],
    ['with a rank twice', `${file}\nenp6eg== 3`, KIMI_CONFIG, /repeats/],
  ])('a file %s is told', async (_, text, config, expected) => {
    const folder = await folderWith({ 'tiktoken.model': text, 'tokenizer_config.json': config });
    const error = await Tokenizer.load(folder).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(TokenizerError);
    expect((error as Error).message).toMatch(expected);
  });
});
