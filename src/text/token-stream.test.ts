import { describe, expect, test } from 'vitest';
import { trainBpe } from './bpe.js';
import { spacedTokenizer } from './testing/spaced.js';
import { DecodedStream } from './token-stream.js';
import { Tokenizer } from './tokenizer.js';
import { tokenizerFiles } from './tokenizer-json.js';
import { Vocabulary } from './vocabulary.js';

const byteLevel = new Tokenizer(tokenizerFiles(trainBpe(['of whales and of ships'], { vocabSize: 262 })));

/** Bytes without a token are `<0xE9>`, and the first space of all is dropped. */
const byteFallback = spacedTokenizer(
  [
    '▁',
    'a',
    'b',
    '▁a',
    '鯨',
    ...Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`),
  ],
  {
    model: { byte_fallback: true, merges: ['▁ a'] },
    decoders: [
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  },
);

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
    // Behind other tokens, the space that a first word begins with is one.
    const behind = tokenizer === byteFallback && ids.length > 0 ? ' ' : '';
    expect(parts.join('')).toBe(behind + text);
  });

  test('no part ends or begins inside a character', () => {
    const ids = tokenizer.encode('鯨🐋é ab🐋');
    const stream = tokenizer.stream();
    const parts = ids.map((id) => stream.push(id));
    expect(parts.filter((part) => part !== '').length).toBeGreaterThan(4);
    expect(parts.join('').trimStart()).toBe('鯨🐋é ab🐋');
    for (const part of parts) {
      expect(part).not.toContain('\ufffd');
      expect(part).not.toMatch(halfSurrogate);
    }
    expect(stream.end()).toBe('');
  });

  test('of any tokens in any order at most three bytes are held back, and nothing is lost', () => {
    let state = 3;
    const { bytes } = Vocabulary.of(tokenizer);
    for (let round = 0; round < 30; round++) {
      const ids = Array.from({ length: 60 }, () => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return Math.floor((state / 2 ** 32) * (tokenizer.vocabSize + 2));
      });
      const stream = tokenizer.stream();
      const all: number[] = [];
      let text = '';
      for (const id of ids) {
        text += stream.push(id);
        all.push(...(bytes[id] ?? []));
        const whole = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(all));
        // What is held back reads as one character that is not whole.
        expect([whole, whole.slice(0, -1)]).toContain(text);
        expect(text).not.toMatch(halfSurrogate);
      }
      text += stream.end();
      expect(text).toBe(new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(all)));
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
  expect([once(), once()]).toEqual([' a b', ' a b']);
});

test('bytes that no character begins with come at once', () => {
  const stream = byteLevel.stream();
  const lone = byteLevel.tokenToId('\u0122')!;
  expect(Vocabulary.of(byteLevel).bytes[lone]).toEqual(Uint8Array.of(0x80));
  expect([stream.push(lone), stream.push(lone)]).toEqual(['\ufffd', '\ufffd']);
});

test('a tokenizer whose bytes are not known holds back three tokens at most', () => {
  const stream = new DecodedStream((ids) => Array.from(ids, () => '\ufffd').join(''));
  expect([1, 2, 3, 4, 5].map((id) => stream.push(id))).toEqual(['', '', '', '\ufffd'.repeat(4), '']);
});
