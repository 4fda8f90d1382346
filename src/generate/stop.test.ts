/** Stop strings in a stream: found wherever the pieces are cut, and nothing held back that need not be. */
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../errors.js';
import { StopStrings } from './stop.js';

/** What comes out of each piece, and at the end. */
function through(stops: readonly string[], pieces: readonly string[]): { out: string[]; stopped: boolean } {
  const watch = new StopStrings(stops);
  const out = pieces.map((piece) => watch.push(piece));
  return { out: [...out, watch.end()], stopped: watch.stopped };
}

describe('a stop string', () => {
  test('in one piece', () => {
    expect(through(['END'], ['one END two', 'three'])).toEqual({ out: ['one ', '', ''], stopped: true });
  });

  test('split over pieces', () => {
    expect(through(['END'], ['one E', 'N', 'D two'])).toEqual({ out: ['one ', '', '', ''], stopped: true });
  });

  test('that begins and does not come is let through as soon as that is clear', () => {
    expect(through(['END'], ['E', 'N', 'O'])).toEqual({ out: ['', '', 'ENO', ''], stopped: false });
    expect(through(['END'], ['EE', 'N'])).toEqual({ out: ['E', '', 'EN'], stopped: false });
  });

  test('whose beginning repeats in itself', () => {
    expect(through(['aab'], ['aaa', 'b'])).toEqual({ out: ['a', '', ''], stopped: true });
    expect(through(['abab!'], ['ababab', '!'])).toEqual({ out: ['ab', '', ''], stopped: true });
  });

  test('at the very beginning', () => {
    expect(through(['\n'], ['\n', 'x'])).toEqual({ out: ['', '', ''], stopped: true });
  });

  test('nothing is held back where there is none', () => {
    expect(through([], ['one', ' two'])).toEqual({ out: ['one', ' two', ''], stopped: false });
  });

  test('an empty one is refused', () => {
    expect(() => new StopStrings(['END', ''])).toThrow(ConfigError);
  });
});

describe('several', () => {
  test('the first to come ends the text', () => {
    expect(through(['two', 'one'], ['zero one two'])).toEqual({ out: ['zero ', ''], stopped: true });
  });

  test('of which one begins another', () => {
    expect(through(['ab', 'abcd'], ['x', 'abcd'])).toEqual({ out: ['x', '', ''], stopped: true });
    expect(through(['abcd', 'bx'], ['ab', 'c', '?'])).toEqual({ out: ['', '', 'abc?', ''], stopped: false });
  });

  test('that overlap: the one that is complete first', () => {
    expect(through(['abcd', 'bc'], ['ab', 'c', 'd'])).toEqual({ out: ['', 'a', '', ''], stopped: true });
  });
});

test('however the text is cut, what comes out is what precedes the first stop string', () => {
  const text = 'aabab\nabb\nabcab##ab#b';
  for (const stops of [
    ['ab#'],
    ['abc', '##'],
    ['b\nab', 'bb'],
    ['zz'],
    ['#b'],
    ['aabab\nabb\nabcab##ab#b'],
  ]) {
    const ends = stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
    const expected = ends.length > 0 ? text.slice(0, Math.min(...ends)) : text;
    for (let first = 1; first < text.length; first++) {
      for (const size of [1, 2, 3, 5]) {
        const pieces = [text.slice(0, first)];
        for (let at = first; at < text.length; at += size) pieces.push(text.slice(at, at + size));
        const { out, stopped } = through(stops, pieces);
        expect(out.join('')).toBe(expected);
        expect(stopped).toBe(ends.length > 0);
      }
    }
  }
});
