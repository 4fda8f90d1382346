/** Which passages are ranked: test/archive.test.ts searches. */
import { expect, test } from 'vitest';
import { fewFound, type Word } from './search.js';

const word = (lexeme: string, share: number, position = 1): Word => {
  return { lexeme, asked: lexeme, position, share, weight: -Math.log(share) };
};
const heron = word('heron', 0.001);
const bird = word('bird', 0.04);
const water = word('water', 0.05);
const said = word('said', 0.3);

test('in a small archive each word finds passages', () => {
  expect(fewFound([heron, bird, water], [heron, bird, water, said], 5000)).toBe("'heron' | 'bird' | 'water'");
});

test('in a large one the rarest do, and others where a second word stands, as many passages as are ranked', () => {
  const words = [said, heron, bird, water];
  expect(fewFound([heron, bird, water], words, 12_000)).toBe("'heron' | 'bird' | ('water' & ('said'))");
  expect(fewFound([heron, bird, water], words, 100_000)).toBe(
    "'heron' | ('bird' & ('said' | 'water')) | ('water' & ('said' | 'bird'))",
  );
});

test('a single word finds whatever has it, and so do words of an archive that was never counted', () => {
  expect(fewFound([water], [water], 1e6)).toBe("'water'");
  expect(fewFound([heron, water], [heron, water], 0)).toBe("'heron' | 'water'");
  // What has the rarer one is found already.
  expect(fewFound([bird, water], [bird, water], 1e6)).toBe("'bird'");
});
