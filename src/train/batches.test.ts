/** Which tokens a step learns from: all of them once an epoch, and the same whoever asks, whenever. */
import { describe, expect, test } from 'vitest';
import { DataError } from '../errors.js';
import { Batches, consecutive } from './batches.js';

/** Tokens that say where they stand. */
const corpus = (length: number): Int32Array => Int32Array.from({ length }, (_, i) => i);

/** Sequences `first` to `first + count - 1`, each as numbers. */
function sequences(batches: Batches, first: number, count: number): number[][] {
  const flat = Array.from(batches.take(first, count), Number);
  const width = flat.length / count;
  return Array.from({ length: count }, (_, i) => flat.slice(i * width, (i + 1) * width));
}

describe('an epoch', () => {
  for (const [length, sequence] of [
    [100, 8],
    [97, 8],
    [64, 7],
    [33, 16],
    [1000, 13],
  ] as const) {
    test(`of ${length} tokens in sequences of ${sequence}`, () => {
      const count = Math.floor((length - 1) / sequence) - 1;
      const batches = new Batches(corpus(length), sequence, 1);
      const epochs = [0, 1, 2].map((epoch) => sequences(batches, epoch * count, count));
      for (const epoch of epochs) {
        for (const row of epoch) {
          // A piece of the corpus as it stands: the last token is the target of the one before.
          expect(row).toEqual(Array.from({ length: sequence + 1 }, (_, i) => row[0]! + i));
          expect(row.at(-1)).toBeLessThan(length);
        }
        // Windows lie side by side, and each comes once.
        const starts = epoch.map((row) => row[0]!).sort((a, b) => a - b);
        expect(starts).toEqual(Array.from({ length: count }, (_, i) => starts[0]! + i * sequence));
      }
    });
  }

  test('begins elsewhere and goes in another order than the one before', () => {
    const count = Math.floor(9999 / 10) - 1;
    const batches = new Batches(corpus(10_000), 10, 1);
    const [first, second] = [sequences(batches, 0, count), sequences(batches, count, count)];
    const starts = (epoch: number[][]): number[] => epoch.map((row) => row[0]!);
    expect(starts(first)).not.toEqual(starts(first).sort((a, b) => a - b));
    const places = (epoch: number[][]): number[] => {
      const lowest = Math.min(...starts(epoch));
      return starts(epoch).map((start) => (start - lowest) / 10);
    };
    expect(places(second)).not.toEqual(places(first));
    const offsets = Array.from({ length: 20 }, (_, epoch) =>
      Math.min(...starts(sequences(batches, epoch * count, count))),
    );
    expect(new Set(offsets).size).toBeGreaterThan(5);
  });

  test('over many epochs reaches every token, as input and as target', () => {
    const batches = new Batches(corpus(50), 8, 3);
    const rows = sequences(batches, 0, 5 * 200);
    expect(new Set(rows.flatMap((row) => row.slice(0, -1))).size).toBe(49);
    expect(new Set(rows.flatMap((row) => row.slice(1))).size).toBe(49);
  });
});

describe('what is asked decides, not what was asked before', () => {
  const take = (batches: Batches, first: number, count: number) => [...batches.take(first, count)];

  test('a run that begins in the middle sees what the other one saw', () => {
    const whole = sequences(new Batches(corpus(200), 9, 5), 0, 100);
    const resumed = sequences(new Batches(corpus(200), 9, 5), 63, 37);
    expect(resumed).toEqual(whole.slice(63));
  });

  test('in any portions, forwards and backwards over the end of an epoch', () => {
    const batches = new Batches(corpus(200), 9, 5);
    const whole = take(batches, 0, 60);
    expect([take(batches, 0, 7), take(batches, 7, 30), take(batches, 37, 23)].flat()).toEqual(whole);
    expect(take(batches, 0, 60)).toEqual(whole);
  });

  test('the seed', () => {
    const [a, b, c] = [5, 5, 6].map((seed) => take(new Batches(corpus(200), 9, seed), 0, 40));
    expect(a).toEqual(b);
    expect(a).not.toEqual(c);
  });
});

describe('short corpora', () => {
  test('one sequence and its last target is enough, and comes every time', () => {
    const rows = sequences(new Batches(corpus(9), 8, 1), 0, 5);
    expect(rows).toEqual(Array(5).fill([0, 1, 2, 3, 4, 5, 6, 7, 8]));
  });

  test('up to two sequences: one window that moves', () => {
    const rows = sequences(new Batches(corpus(16), 8, 1), 0, 200);
    expect(new Set(rows.map((row) => row[0]))).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7]));
  });

  test('fewer tokens are refused, with both numbers', () => {
    for (const length of [0, 1, 8]) {
      expect(() => new Batches(corpus(length), 8, 1)).toThrow(DataError);
      expect(() => new Batches(corpus(length), 8, 1)).toThrow(
        new RegExp(`has ${length} tokens, fewer than one sequence of 8`),
      );
    }
  });
});

describe('consecutive sequences', () => {
  const rows = (length: number): number[][] =>
    consecutive(corpus(length), 4).map((row) => Array.from(row, Number));

  test('share the token that is the last target of one and the first of the next', () => {
    expect(rows(10)).toEqual([
      [0, 1, 2, 3, 4],
      [4, 5, 6, 7, 8],
    ]);
  });

  test('leave out what fills none', () => {
    expect(rows(4)).toEqual([]);
    expect(rows(5)).toEqual([[0, 1, 2, 3, 4]]);
    expect(rows(8).length).toBe(1);
    expect(rows(9).length).toBe(2);
  });
});
