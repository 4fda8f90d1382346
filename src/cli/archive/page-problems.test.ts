/** Pages that were not read, as lines. */
import { expect, test } from 'vitest';
import { PageProblems } from './page-problems.js';

test('pages that follow each other for one reason are one line, in whatever order they come', () => {
  const lines: string[] = [];
  const problems = new PageProblems((line) => lines.push(line));
  for (const page of [65, 1, 66, 2, 67, 3, 64]) problems.add('a.pdf', page, 'it is damaged');
  problems.add('a.pdf', 4, 'it took more than 30 s');
  problems.add('b.pdf', 9, 'it is damaged');
  problems.flush('a.pdf');
  expect(lines).toEqual([
    'a.pdf, pages 1 to 3: it is damaged',
    'a.pdf, page 4: it took more than 30 s',
    'a.pdf, pages 64 to 67: it is damaged',
  ]);
  problems.add('a.pdf', 70, 'it is damaged');
  problems.flush();
  problems.flush();
  expect(lines.slice(3)).toEqual(['b.pdf, page 9: it is damaged', 'a.pdf, page 70: it is damaged']);
});
