/** Tokenizers from GGUF metadata, compared with the tokenizer.json of the same vocabulary. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { TokenizerError } from '../errors.js';
import { generator } from '../graph/testing/random.js';
import { thrownBy } from '../testing/refusal.js';
import { ggufCompanion } from './gguf-tokenizer.js';
import { Tokenizer } from './tokenizer.js';

const folder = fileURLToPath(new URL('../../assets/sotu-hybrid', import.meta.url));
const json = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8'));
const added: { id: number; content: string; special: boolean }[] = json.added_tokens;

/** Metadata in the format of llama.cpp's converter: tokens by id with their kinds, and merges. */
function metadata(change: Record<string, unknown> = {}): Record<string, unknown> {
  const ids = new Map<number, string>(
    Object.entries(json.model.vocab).map(([token, id]) => [id as number, token]),
  );
  for (const { id, content } of added) ids.set(id, content);
  const count = Math.max(...ids.keys()) + 3;
  const kinds = Array.from({ length: count }, (_, id) => {
    const own = added.find((token) => token.id === id);
    if (own) return own.special ? 3 : 4;
    return ids.has(id) ? 1 : 5;
  });
  return {
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'gpt-2',
    'tokenizer.ggml.tokens': Array.from({ length: count }, (_, id) => ids.get(id) ?? `[PAD${id}]`),
    'tokenizer.ggml.token_type': kinds,
    'tokenizer.ggml.merges': json.model.merges.map((merge: string | string[]) =>
      typeof merge === 'string' ? merge : merge.join(' '),
    ),
    'tokenizer.ggml.eos_token_id': added[0]!.id,
    'tokenizer.chat_template': '{{ messages[0].content }}',
    ...change,
  };
}

function tokenizer(change: Record<string, unknown> = {}): Tokenizer {
  const gguf = { path: 'there/model.gguf', metadata: metadata(change), tensors: new Map() };
  return new Tokenizer({
    tokenizer: ggufCompanion(gguf, 'tokenizer.json')!,
    config: ggufCompanion(gguf, 'tokenizer_config.json')!,
  });
}

const texts = [
  'The state of the Union is strong.',
  "It's 1,234,567 dollars -- don't \t\n\n  ask; naïve café ÅŸ 漢字 🙂",
  `before${added[0]!.content}after`,
  '',
  '   x  ',
];

test('the ids of every text, and the end of a text', async () => {
  const own = await Tokenizer.load(folder);
  const read = tokenizer();
  for (const text of texts) {
    expect(read.encode(text), text).toEqual(own.encode(text));
    expect(read.decode(read.encode(text)), text).toBe(text);
  }
  expect(read.endOfText).toBe(added[0]!.id);
  expect(read.controlTokens).toEqual(own.controlTokens);
  expect(read.beginning).toEqual([]);
});

test('the ids of random texts', async () => {
  const own = await Tokenizer.load(folder);
  const read = tokenizer();
  const next = generator(5);
  const below = (count: number): number => Math.floor(next() * count);
  const kinds = [
    () => String.fromCodePoint(97 + below(26)),
    () => ' ',
    () => "'s \n\t0123456789.,;:!?-()"[below(24)] ?? '',
    () => String.fromCodePoint(0xc0 + below(0x500)),
    () => String.fromCodePoint(0x4e00 + below(0x2000)),
    () => String.fromCodePoint(0x1f300 + below(0x300)),
    () => ['the', ' state', 'Union', added[0]!.content][below(4)]!,
  ];
  for (let i = 0; i < 300; i++) {
    const text = Array.from({ length: below(40) }, () => kinds[below(kinds.length)]!()).join('');
    expect(read.encode(text), JSON.stringify(text)).toEqual(own.encode(text));
    expect(read.decode(read.encode(text)), JSON.stringify(text)).toBe(text);
  }
});

describe('every pre-tokenizer', () => {
  const known = /known \((.*)\)/.exec(refusal({ 'tokenizer.ggml.pre': 'other' }))![1]!.split(', ');

  test.each(known)('%s decodes to the text', (pre) => {
    const read = tokenizer({ 'tokenizer.ggml.pre': pre });
    // NFC changes nothing in these.
    for (const text of texts) expect(read.decode(read.encode(text)), text).toBe(text);
  });

  test('digits are separate, in groups of three, or together', () => {
    const merges = ['1 2', '12 3', '123 4'];
    const tokens = [...Object.keys(json.model.vocab).slice(0, 300), '12', '123', '1234'];
    const change = {
      'tokenizer.ggml.tokens': [...new Set([...tokens, ...'0123456789'])],
      'tokenizer.ggml.token_type': [],
      'tokenizer.ggml.merges': merges,
      'tokenizer.ggml.eos_token_id': undefined,
    };
    const pieces = (pre: string): string[] => {
      const read = tokenizer({ ...change, 'tokenizer.ggml.pre': pre });
      return read.encode('1234').map((id) => read.decode([id]));
    };
    expect(pieces('gpt-2')).toEqual(['1234']);
    for (const pre of ['llama-bpe', 'gpt-4o', 'kimi-k2']) expect(pieces(pre), pre).toEqual(['123', '4']);
    for (const pre of ['qwen2', 'qwen35', 'tekken', 'smollm']) {
      expect(pieces(pre), pre).toEqual(['1', '2', '3', '4']);
    }
  });
});

test("SentencePiece's pairs are merged by their scores", () => {
  const tokens = ['<unk>', '<s>', '</s>', '<0x0A>', '▁', 'a', 'b', 'c', 'ab', 'bc', '▁a', '▁ab', 'abc'];
  const read = tokenizer({
    'tokenizer.ggml.model': 'llama',
    'tokenizer.ggml.tokens': tokens,
    'tokenizer.ggml.token_type': [2, 3, 3, 6, ...Array(9).fill(1)],
    'tokenizer.ggml.scores': [0, 0, 0, 0, -9, -9, -9, -9, -2, -1, -3, -4, -5],
    'tokenizer.ggml.bos_token_id': 1,
    'tokenizer.ggml.eos_token_id': 2,
  });
  const pieces = (text: string): string[] => read.encode(text).map((id) => tokens[id]!);
  expect(pieces('abc')).toEqual(['▁a', 'bc']);
  expect(pieces('ab c')).toEqual(['▁ab', '▁', 'c']);
  expect(pieces('a\nb')).toEqual(['▁a', '<0x0A>', 'b']);
  expect(read.decode(read.encode('ab c'))).toBe('ab c');
  expect(read.beginning).toEqual([1]);
});

test('templates, and the tokens at which an answer ends', () => {
  const gguf = {
    path: 'model.gguf',
    metadata: metadata({ 'tokenizer.chat_template.tool_use': 'tools', 'tokenizer.ggml.eot_token_id': 7 }),
    tensors: new Map(),
  };
  expect(ggufCompanion(gguf, 'tokenizer_config.json')).toMatchObject({
    eos_token: added[0]!.content,
    chat_template: [
      { name: 'default', template: '{{ messages[0].content }}' },
      { name: 'tool_use', template: 'tools' },
    ],
  });
  expect(ggufCompanion(gguf, 'generation_config.json')).toEqual({ eos_token_id: [added[0]!.id, 7] });
  expect(ggufCompanion(gguf, 'chat_template.json')).toBeUndefined();
});

const refusal = (change: Record<string, unknown>): string =>
  thrownBy(TokenizerError, () => tokenizer(change)).message;

test.each([
  [
    { 'tokenizer.ggml.model': 'rwkv' },
    /there\/model\.gguf has the tokenizer\.ggml\.model "rwkv", which is not read/,
  ],
  [{ 'tokenizer.ggml.model': undefined }, /tokenizer\.ggml\.model "missing"/],
  [{ 'tokenizer.ggml.pre': 'poro-chat' }, /tokenizer\.ggml\.pre "poro-chat", which is not known/],
  [{ 'tokenizer.ggml.tokens': undefined }, /no tokens/],
  [{ 'tokenizer.ggml.merges': undefined }, /no merges/],
])('%j is refused', (change, words) => {
  expect(refusal(change)).toMatch(words);
});
