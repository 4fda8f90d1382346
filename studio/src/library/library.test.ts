/** The library of a server that has more documents than are shown, which is played. */
import { beforeEach, expect, test, vi } from 'vitest';
import { documents, follow, hasMore, known, open, showMore, totals } from './library.js';

const ALL = Array.from({ length: 1203 }, (_, i) => ({ content: `c${i}`, name: `document ${i}` }));
const asked: string[] = [];

beforeEach(() => {
  vi.stubGlobal('sessionStorage', { getItem: () => null });
  vi.stubGlobal('document', { hidden: false });
  vi.stubGlobal('fetch', async (path: string) => {
    asked.push(path);
    const { pathname, searchParams } = new URL(path, 'http://played');
    const [skip, limit] = [Number(searchParams.get('skip')), Number(searchParams.get('limit'))];
    if (pathname === '/v1/archive') return Response.json({ pages: { read: 1 }, left: 0 });
    if (pathname === '/v1/archive/documents') {
      return Response.json({ data: ALL.slice(skip, skip + limit), has_more: skip + limit < ALL.length });
    }
    return Response.json(ALL.find(({ content }) => pathname.endsWith(`/${content}`)));
  });
});

test('the first documents are shown, more where they are asked for, and any is known that is opened', async () => {
  const stop = follow((error) => {
    throw error;
  });
  await vi.waitFor(() => expect(totals.value).toBeDefined());
  stop();
  expect([documents.value.length, hasMore.value]).toEqual([200, true]);
  expect(known('c1202')).toBeUndefined();
  await open('c1202');
  expect(known('c1202')).toMatchObject({ name: 'document 1202' });
  asked.length = 0;
  await Promise.all([open('c1202'), open('c3')]);
  expect(asked).toEqual([]);
  for (let more = 0; more < 6; more++) await showMore();
  expect(documents.value.map(({ content }) => content)).toEqual(ALL.map(({ content }) => content));
  expect(hasMore.value).toBe(false);
});
