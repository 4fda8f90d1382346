import { expect, test } from 'vitest';
import { Random } from '../nn/index.js';
import { likeliest, likeliestOf } from './likeliest.js';

test.each([0, 1, 5, 32, 33, 200])(
  'the %i largest are those that sorting finds, with equals and what is left out',
  (count) => {
    const random = new Random(count + 1);
    const scores = Float32Array.from({ length: 400 }, () => {
      const share = random.uniform();
      return share < 0.1 ? Number.NEGATIVE_INFINITY : Math.round(share * 60) / 4;
    });
    for (const within of [Number.POSITIVE_INFINITY, 6, 0]) {
      const top = Math.max(...scores);
      const sorted = [...scores.keys()]
        .filter((id) => scores[id]! > Number.NEGATIVE_INFINITY && top - scores[id]! <= within)
        .sort((a, b) => scores[b]! - scores[a]! || a - b)
        .slice(0, count);
      expect([...likeliest(scores, count, within)]).toEqual(sorted);
      if (count > 0) expect([...likeliestOf([...scores.keys()], scores, count, within)]).toEqual(sorted);
    }
  },
);

test('of none, and of those that are all left out, there are none', () => {
  for (const count of [3, 100]) {
    expect(likeliest(new Float32Array(), count)).toHaveLength(0);
    expect(likeliest(new Float32Array(9).fill(Number.NEGATIVE_INFINITY), count)).toHaveLength(0);
  }
});
