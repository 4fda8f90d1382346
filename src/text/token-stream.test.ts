import { describe, expect, test } from 'vitest';
import { trainBpe } from './bpe.js';
import { Tokenizer } from './tokenizer.js';
import { tokenizerFiles } from './tokenizer-json.js';

const byteLevel = new Tokenizer(tokenizerFiles(trainBpe(['of whales and of ships'], { vocabSize: 262 })));

/** As Llama's: words begin with "▁", bytes without a token are `<0xE9>`, and the first space of all is dropped. */
const byteFallback = new Tokenizer({
  tokenizer: {
    added_tokens: [{ id: 0, content: '</s>', special: true }],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      byte_fallback: true,
      vocab: Object.fromEntries(
        [
          '</s>',
          '▁',
          'a',
          'b',
          '▁a',
          '鯨',
          ...Array.from(
            { length: 256 },
            (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
          ),
        ].map((token, id) => [token, id]),
      ),
      merges: ['▁ a'],
    },
  },
  config: { eos_token: '</s>' },
});

const halfSurrogate = /[\ud800-\udfff]/u;

const texts = [
  'of whales',
  '  a  b ',
  '鯨🐋 a鯨 👩‍👩‍👧‍👦',
  'a\ufffdb',
  '\ufeffa\ufeff',
  'ends with \ufffd',
  '',
];

describe.each([
  ['byte-level', byteLevel],
  ['byte fallback', byteFallback],
])('%s', (_, tokenizer) => {
  test.each(texts)('"%s" comes out whole', (text) => {
    const ids = tokenizer.encode(text);
    const stream = tokenizer.stream();
    const parts = [...ids.map((id) => stream.push(id)), stream.end()];
    expect(parts.join('')).toBe(tokenizer.decode(ids));
  });

  test('no part ends or begins inside a character', () => {
    const ids = tokenizer.encode('鯨🐋é ab🐋');
    const stream = tokenizer.stream();
    const parts = ids.map((id) => stream.push(id));
    expect(parts.filter((part) => part !== '').length).toBeGreaterThan(4);
    expect(parts.join('')).toBe('鯨🐋é ab🐋');
    for (const part of parts) {
      expect(part).not.toContain('\ufffd');
      expect(part).not.toMatch(halfSurrogate);
    }
    expect(stream.end()).toBe('');
  });

  test('any tokens in any order say what they say together', () => {
    let state = 3;
    for (let round = 0; round < 30; round++) {
      const ids = Array.from({ length: 60 }, () => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return Math.floor((state / 2 ** 32) * (tokenizer.vocabSize + 2));
      });
      const stream = tokenizer.stream();
      const parts = [...ids.map((id) => stream.push(id)), stream.end()];
      expect(parts.join('')).toBe(tokenizer.decode(ids));
      for (const part of parts) expect(part).not.toMatch(halfSurrogate);
    }
  });
});

test('half a character waits for the rest, or for the end', () => {
  const [first, second, third] = byteLevel.encode('鯨');
  const stream = byteLevel.stream();
  expect([stream.push(first!), stream.push(second!), stream.push(third!)]).toEqual(['', '', '鯨']);
  expect([stream.push(first!), stream.push(byteLevel.endOfText!)]).toEqual(['', '\ufffd<|endoftext|>']);
  expect([stream.push(first!), stream.end(), stream.end()]).toEqual(['', '\ufffd', '']);
});

test('after its end a stream starts anew', () => {
  const stream = byteFallback.stream();
  const ids = byteFallback.encode('a b');
  const once = () => ids.map((id) => stream.push(id)).join('') + stream.end();
  expect([once(), once()]).toEqual(['a b', 'a b']);
});
