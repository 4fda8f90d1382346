/** Which passages are ranked: test/archive.test.ts searches. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Archive } from './archive.js';
import { fewFound, search, together, type Word } from './search.js';
import { comparable } from './words.js';

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

test('common words find passages that have all of them first, and of very many only some are ranked', () => {
  const old = word('old', 0.1);
  expect(together([old, said], 1000)).toEqual([
    { text: "'old' & 'said'", every: 1 },
    { text: "'old' | 'said'", every: 1 },
  ]);
  // 10,000 passages have 'old', and both at most so many; 40,000 have one of them.
  expect(together([old, said], 100_000)).toEqual([
    { text: "'old' & 'said'", every: 2 },
    { text: "'old' | 'said'", every: 7 },
  ]);
  expect(together([old, said, word('whale', 0.5)], 1000).map(({ text }) => text)).toEqual([
    "'old' & 'said' & 'whale'",
    "'old' & 'said'",
    "'old' | 'said' | 'whale'",
  ]);
  expect(together([said], 100_000)).toEqual([{ text: "'said'", every: 5 }]);
});

test('common words that stand together seldom are found wherever they do', async () => {
  const root = mkdtempSync(join(tmpdir(), 'heddle-search-'));
  const archive = await Archive.open({ place: join(root, 'library'), create: true });
  try {
    const { database } = archive;
    await database.query(`INSERT INTO archive_documents (content, name) VALUES ('a', 'a')`);
    await database.query(`INSERT INTO archive_pages (content, page, state) VALUES ('a', 1, 'done')`);
    await database.query(
      `INSERT INTO archive_passages (content, page, part, text, heading, boxes, words)
       SELECT 'a', 1, i, text, '', '[]', to_tsvector('english', text) FROM (
         SELECT i, CASE WHEN i % 5000 = 1 THEN 'river mountain' WHEN i % 2 = 1 THEN 'river' ELSE 'mountain' END AS text
         FROM generate_series(1, 25000) AS i
       ) t`,
    );
    await archive.learn();
    const { hits } = await search(archive, 'river mountain');
    expect(hits.slice(0, 5).map(({ passage }) => Number(passage) % 5000)).toEqual([1, 1, 1, 1, 1]);
  } finally {
    await archive.close();
    rmSync(root, { recursive: true, force: true });
  }
});

test('a sign behind a word is no letter of it, one in a formula is', () => {
  const words = (text: string) => comparable(text).split(' ').filter(Boolean);
  expect(words('Gizmo™ of the heron¹ at 2½ km² on №5')).toEqual([
    'Gizmo',
    'TM',
    'of',
    'the',
    'heron',
    '1',
    'at',
    '2',
    '1⁄2',
    'km',
    '2',
    'on',
    'No',
    '5',
  ]);
  expect(words('H₂O and ﬁnches')).toEqual(['H2O', 'and', 'finches']);
});
