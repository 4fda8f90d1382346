/** Layer patterns: repetition, nesting, and errors that show the pattern and say what is wrong with it. */
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../errors.js';
import { BLOCKS, countLayers, layerLetters, parsePattern } from './pattern.js';

/** The layers, of which one that shares weights is followed by the number of the layer whose they are. */
function written(pattern: string): string {
  return parsePattern(pattern)
    .map((layer) => layerLetters(layer) + (layer.shares ?? ''))
    .join('');
}

describe('patterns', () => {
  const cases: Record<string, string> = {
    M: 'M',
    'M*WS-': 'M*WS-',
    '(M-)x3': 'M-M-M-',
    '(M-M-M-M-S-)x2': 'M-M-M-M-S-M-M-M-M-S-',
    'M(*-)x2W': 'M*-*-W',
    '((M)x2-)x2': 'MM-MM-',
    '(M(S(-)x2)x2)x1': 'MS--S--',
    '(M)x12': 'MMMMMMMMMMMM',
    ' ( M - ) x2\n*': 'M-M-*',
    'M(S)x0': 'M',
    '[M*]-': '[M*]-',
    '([M*]-)x2G': '[M*]-[M*]-G',
    '(M{*-})x3': 'M*-M*1-2M*1-2',
    '({M})x3': 'MM0M0',
    '{*}M{*}{*-}': '*M*0*-',
    '{(M)x2}{(M)x2}': 'MMM0M1',
    '({[M*]}-)x2': '[M*]-[M*]0-',
  };
  for (const [pattern, letters] of Object.entries(cases)) {
    test(JSON.stringify(pattern), () => expect(written(pattern)).toBe(letters));
  }
});

describe('counted', () => {
  const cases: Record<string, string> = {
    M: '1 Mamba-2',
    '(M-M-M-M-S-)x2': '8 Mamba-2, 10 MLP, 2 selective attention',
    'M(S(-)x2)x2W': '1 Mamba-2, 2 selective attention, 4 MLP, 1 sliding-window attention',
    '([M*]-)x3': '3 Mamba-2 + attention, 3 MLP',
    'C- C- *E': '2 short convolution, 2 MLP, 1 attention, 1 mixture of experts',
    '(M{*-})x2': '2 Mamba-2, 2 attention, 2 MLP',
    '(GE)x2': '2 gated delta net, 2 mixture of experts',
    'K-K-K-L-': '3 Kimi delta attention, 4 MLP, 1 lightning attention',
  };
  for (const [pattern, words] of Object.entries(cases)) {
    test(JSON.stringify(pattern), () => {
      const counts = countLayers(pattern);
      expect(counts.map(({ count, name }) => `${count} ${name}`).join(', ')).toBe(words);
    });
  }
});

test('kinds of layers are told by their letters, too', () => {
  expect(countLayers('([M*]-)x3').map(({ letters }) => letters)).toEqual(['M*', '-']);
});

describe('errors', () => {
  const cases: Record<string, RegExp> = {
    MZM: /'MZM' has the letter 'Z'; known are M \(Mamba-2\), \* \(attention\)/,
    q: /letter 'q'/,
    M2: /letter '2'/,
    'M💥': /the letter/,
    Mx2: /letter 'x'/,
    '(M-': /'\(' without '\)x' and a number/,
    '(M-)': /'\(' without '\)x' and a number/,
    '(M-)3': /'\(' without '\)x' and a number/,
    '(M-)x': /'\(' without '\)x' and a number/,
    '(M-)x-1': /'\(' without '\)x' and a number/,
    '((M)x2': /'\(' without '\)x' and a number/,
    'M)': /'\)' too many/,
    '(M)x2)x2': /'\)' too many/,
    '[M]': /less than two mixers side by side/,
    '[M*': /'\[' without '\]'/,
    '[M(*)x2]': /letter '\('/,
    'M]': /'\]' too many/,
    '{M': /'\{' without '\}'/,
    'M}': /'\}' too many/,
    '{M(*}': /'\(' without '\)x'/,
    '{M{*}}': /'\{' inside of another/,
    'M{}': /nothing in it/,
    toString: /letter 't'/,
    '': /no layers/,
    ' ': /no layers/,
    '(M)x0': /no layers/,
    '()x5': /no layers/,
    '(M-)x99999999999': /more than \d+ layers/,
    '((((M)x999)x999)x999)x999': /more than \d+ layers/,
  };
  for (const [pattern, message] of Object.entries(cases)) {
    test(JSON.stringify(pattern), () => {
      expect(() => parsePattern(pattern)).toThrow(ConfigError);
      expect(() => parsePattern(pattern)).toThrow(message);
    });
  }

  test('every letter that is known is named', () => {
    for (const letter of Object.keys(BLOCKS)) {
      expect(() => parsePattern('?')).toThrow(new RegExp(`[ ,]\\${letter} \\(`));
    }
  });
});

test('mixers in both directions are read, counted and named', () => {
  expect(written('(<M>-)x2[<*>v]')).toBe('<M>-<M>-[<*>v]');
  expect(countLayers('(<M>-)x2[<*>v]/')).toEqual([
    { letters: '<M>', name: 'Mamba-2 both ways', count: 2 },
    { letters: '-', name: 'MLP', count: 2 },
    { letters: '<*>v', name: 'attention both ways + MambaVision mixer', count: 1 },
    { letters: '/', name: 'halving of an image', count: 1 },
  ]);
  for (const [pattern, message] of [
    ['<M', /a '<' without a letter and '>'/],
    ['<MM>', /a '<' without a letter and '>'/],
    ['<->', /'<->', and MLP has no direction/],
    ['<v>', /'<v>', and MambaVision mixer has no direction/],
    ['<?>', /the letter '\?'/],
    ['<', /a '<' without a letter/],
    ['<<M>>', /a '<' without a letter/],
    ['[M/]', /a '\/' side by side with others/],
  ] as const) {
    expect(() => parsePattern(pattern), pattern).toThrow(message);
  }
});
