/** What answers cite, in the forms in which models write it. */
import { describe, expect, test } from 'vitest';
import { type Citable, citationsOf, marksIn } from './citations.js';
import type { DocumentEntry, Hit } from './entries.js';

const marks = (text: string): string[] => marksIn(text).map(({ mark }) => mark);

// biome-ignore format: a line for each
test.each<[string, string[]]>([
  ['One [1]. Two [2, 3] [page 4].', ['[1]', '[2]', '[3]', '[page 4]']],
  ['[ p. 7 ] [Pages 8; 9] [pp. 3-4] [p12]', ['[page 7]', '[page 8]', '[page 9]', '[page 3]', '[page 4]', '[page 12]']],
  ['[Passage 1] [passages 1 and 3] [Source 2] [#2] [^3] [Ref. 1]', ['[1]', '[1]', '[3]', '[2]', '[2]', '[3]', '[1]']],
  ['[1-3] [1\u20133] [1, 3-4] [passages 2 to 3]', ['[1]', '[2]', '[3]', '[1]', '[2]', '[3]', '[1]', '[3]', '[4]', '[2]', '[3]']],
  ['[pages 12-14] [page 12\u201313]', ['[page 12]', '[page 13]', '[page 14]', '[page 12]', '[page 13]']],
  ['[1, page 12] [1: p. 3] [heron.pdf, page 2] [1, heron.pdf, page 2]', ['[1]', '[page 12]', '[1]', '[page 3]', '[page 2]', '[1]', '[page 2]']],
  ['\u30101\u3011 \u30142\u3015 \uff3b3\uff3d \u30101\u2020source\u3011 [\uff11\u3001\uff12]', ['[1]', '[2]', '[3]', '[1]', '[1]', '[2]']],
  ['[\u7b2c12\u9875] [12\u30da\u30fc\u30b8] [Seite 3] [S. 4 und 5]', ['[page 12]', '[page 12]', '[page 3]', '[page 4]', '[5]']],
  ['(page 12) (pp. 3-4) \uff08page 5\uff09', ['[page 12]', '[page 3]', '[page 4]', '[page 5]']],
  ['[a], a[i], [3 apples], [see 3.2], (3), (2019), [5-3], [1-2000], [], [x, 1], (in 1990)', []],
])('%s', (text, expected) => {
  expect(marks(text)).toEqual(expected);
});

test('the statement of a mark is the sentence before it', () => {
  const of = (text: string): (string | undefined)[] => marksIn(text).map(({ statement }) => statement.trim());
  expect(of('One thing [1]. Two more [2] [page 4].')).toEqual(['One thing', 'Two more', 'Two more']);
  expect(of('First. It is 3.5 m long. [1]')).toEqual(['It is 3.5 m long.']);
  expect(of('\u4e00\u3002\u4e8c\u3002\u30101\u3011')).toEqual(['\u4e8c\u3002']);
});

const hit = (name: string, page: number, text: string): Hit => ({
  passage: `${name} ${page}`,
  content: name,
  name,
  path: `/${name}`,
  page,
  text,
  heading: '',
  boxes: [],
  width: null,
  height: null,
  score: 1,
  words: [],
});
const given = [hit('birds', 12, 'The heron eats frogs and fish.'), hit('boats', 3, 'Submarines dive deep.')];
const read = { content: 'birds', name: 'birds', paths: ['/birds'] } as unknown as DocumentEntry;
const citable: Citable = {
  given,
  page: async (content, page) =>
    content === 'birds' && page <= 20
      ? { page, state: 'read', why: null, width: null, height: null, text: 'Herons nest in trees.' }
      : undefined,
};

describe('marks stand for', () => {
  const cited = async (answer: string, more: Partial<Citable> = {}) => {
    const { citations, unknown } = await citationsOf(answer, { ...citable, ...more });
    return [
      ...citations.map(
        ({ mark, content, page, hit: of }) => `${mark} ${content} ${page}${of ? ' passage' : ''}`,
      ),
      ...unknown,
    ];
  };
  test('passages with their pages, and other pages of their documents', async () => {
    expect(await cited('[1, page 12]')).toEqual(['[1] birds 12 passage']);
    expect(await cited('[1, page 13]')).toEqual(['[1] birds 12 passage', '[page 13] birds 13']);
    expect(await cited('[page 3]')).toEqual(['[page 3] boats 3 passage']);
    expect(await cited('[page 99] [7]')).toEqual(['[page 99]', '[7]']);
  });
  test('a page and a passage, or two pages, by what there is', async () => {
    expect(await cited('[page 13, 1]', { read })).toEqual(['[page 13] birds 13', '[1] birds 12 passage']);
    expect(await cited('[page 13, 14]', { read })).toEqual(['[page 13] birds 13', '[page 14] birds 14']);
  });
});

describe('a statement is compared with what it cites', () => {
  const supported = async (statement: string, text: string): Promise<boolean> => {
    const { citations } = await citationsOf(`${statement} [1]`, { ...citable, given: [hit('a', 1, text)] });
    return citations[0]!.supported;
  };
  // biome-ignore format: a line for each
  test.each([
    ['Herons are eating frogs', 'The heron eats frogs.', 'Submarines dive deep.'],
    ['\u82cd\u9e6d\u5403\u9752\u86d9\u548c\u9c7c\u3002', '\u5728\u6d45\u6c34\u4e2d\uff0c\u82cd\u9e6d\u6355\u98df\u9752\u86d9\u3002', '\u6f5c\u8247\u5728\u51ac\u5929\u4e0b\u6f5c\u5f88\u6df1\u3002'],
    ['\u30a2\u30aa\u30b5\u30ae\u306f\u30ab\u30a8\u30eb\u3092\u98df\u3079\u308b\u3002', '\u6d45\u3044\u6c34\u8fba\u3067\u30ab\u30a8\u30eb\u3092\u98df\u3079\u308b\u30a2\u30aa\u30b5\u30ae\u304c\u3044\u308b\u3002', '\u6f5c\u6c34\u8266\u306f\u51ac\u306b\u6df1\u304f\u6f5c\u308b\u3002'],
    ['\uc65c\uac00\ub9ac\ub294 \uac1c\uad6c\ub9ac\ub97c \uba39\ub294\ub2e4', '\uc595\uc740 \ubb3c\uac00\uc758 \uc65c\uac00\ub9ac\uac00 \uac1c\uad6c\ub9ac\ub9cc \uba39\ub294\ub2e4', '\uc7a0\uc218\ud568\uc740 \uaca8\uc6b8\uc5d0 \uae4a\uc774 \uc7a0\uc218\ud55c\ub2e4'],
    ['\u0e19\u0e01\u0e01\u0e23\u0e30\u0e2a\u0e32\u0e01\u0e34\u0e19\u0e01\u0e1a', '\u0e43\u0e19\u0e19\u0e49\u0e33\u0e15\u0e37\u0e49\u0e19\u0e19\u0e01\u0e01\u0e23\u0e30\u0e2a\u0e32\u0e08\u0e31\u0e1a\u0e01\u0e1a', '\u0e40\u0e23\u0e37\u0e2d\u0e14\u0e33\u0e19\u0e49\u0e33\u0e25\u0e07\u0e25\u0e36\u0e01'],
  ])('%s', async (statement, same, other) => {
    expect(await supported(statement, same)).toBe(true);
    expect(await supported(statement, other)).toBe(false);
  });
});
