import { expect, test } from 'vitest';
import { ALPHABET, BYTE_SYMBOLS, PRE_TOKEN, toByteSymbols } from './byte-level.js';

test('pre-tokens equal those of GPT-2', () => {
  const text = "I'll  meet 42 whales,\n\tde l'été—don't!  ";
  expect(text.match(PRE_TOKEN)).toEqual([
    'I',
    "'ll",
    ' ',
    ' meet',
    ' 42',
    ' whales',
    ',',
    '\n',
    '\t',
    'de',
    ' l',
    "'",
    'été',
    '—',
    'don',
    "'t",
    '!',
    '  ',
  ]);
});

test('pre-tokens cover the whole text', () => {
  const text = 'a\u0000b \u00a0\u2003 e\u0301 鯨 \ud83d\udc0b\ud83d \u200d\r\n\r\n½ ';
  expect(text.match(PRE_TOKEN)?.join('')).toBe(text);
});

test('every byte has a distinct visible symbol, by the rule of GPT-2', () => {
  expect(new Set(BYTE_SYMBOLS).size).toBe(256);
  expect(BYTE_SYMBOLS.filter((symbol) => /[\s\p{C}]/u.test(symbol))).toEqual([]);
  expect([0x20, 0x0a, 0x00, 0x41, 0x7f, 0xa0, 0xad, 0xff].map((byte) => BYTE_SYMBOLS[byte])).toEqual([
    ...'ĠĊĀAġłŃÿ',
  ]);
  expect([ALPHABET[0], ALPHABET[93], ALPHABET[94], ALPHABET[187], ALPHABET[188], ALPHABET[255]]).toEqual([
    ...'!~¡ÿĀŃ',
  ]);
});

test('symbols spell UTF-8', () => {
  expect(toByteSymbols(' é')).toEqual(['Ġ', 'Ã', '©']);
  expect(toByteSymbols('\ud83d')).toEqual(toByteSymbols('\ufffd'));
});
