/** Tables as people have them are read alike; what is no table of numbers is told with its line. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { DataError } from '../errors.js';
import { readNumberTable, standardization } from './table.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-table-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));

function file(text: string | Buffer): string {
  const path = join(here, 'table.csv');
  writeFileSync(path, text);
  return path;
}

const expected = [1, 2.5, 3, Number.NaN, -500, 0];

test.each([
  ['commas', 'when,a,b\n2020-01,1,2.5\n2020-02,3,\n2020-03,-5e2,0\n'],
  [
    'a byte order mark, CRLF and no last line end',
    '\ufeffwhen,a,b\r\n2020-01,1,2.5\r\n2020-02,3,NA\r\n2020-03,-500,0',
  ],
  ['semicolons and decimal commas', 'when;a;b\n1.1.2020;1;2,5\n2.1.2020;3;null\n3.1.2020;-500;0,0\n'],
  ['tabs', 'when\ta\tb\nx\t1\t2.5\ny\t3\t?\nz\t-500\t0\n'],
  [
    'quotes, comments and empty lines',
    '# of somebody\nwhen,"a","b"\n\n"1, 1",1,2.5\n"2, 1","3","NaN"\n"3, 1",-500,0\n\n',
  ],
])('%s', async (_, text) => {
  const table = await readNumberTable(file(text));
  expect(table.columns).toEqual(['a', 'b']);
  expect(table.leftOut).toEqual(['when']);
  expect(table.rows).toBe(3);
  expect([...table.values]).toEqual(expected);
});

test('columns are read in the order in which they are wanted', async () => {
  const table = await readNumberTable(file('a,b,c\n1,2,x\n3,4,y\n'), ['b', 'a']);
  expect([...table.values]).toEqual([2, 1, 4, 3]);
  expect(table.leftOut).toEqual(['c']);
});

test.each([
  ['', /is empty/],
  ['a,b\n', /no rows/],
  ['1,2\n3,4\n', /line 1 has numbers/],
  ['a,a\n1,2\n', /two columns 'a'/],
  ['a,b\n1,2\n3\n', /no table.*line 3/i],
  ['a,b\n1,2\n3,4\n5,wet\n', /line 4: the column 'b' has 'wet', which is no number/],
  ['a,b\n1,2\n3,4e99\n', /line 3: the column 'b' has '4e99'/],
  ['a,b\nx,y\n', /no column of numbers; there are a, b/],
  ['a,b\n1,"2\n', /no table/],
  [Buffer.from([0x61, 0x0a, 0xff, 0xfe]), /not UTF-8/],
])('%j is refused', async (text, message) => {
  const error = await readNumberTable(file(text)).catch((error: Error) => error);
  expect(error).toBeInstanceOf(DataError);
  expect((error as Error).message).toMatch(message);
});

test('a wanted column that is missing, empty or text, and a file that is not there', async () => {
  const path = file('a,b,c\n1,,x\n2,,y\n');
  await expect(readNumberTable(path, ['d'])).rejects.toThrow(/no column 'd'; there are a, b, c/);
  await expect(readNumberTable(path, ['b'])).rejects.toThrow(/'b' has no value at all/);
  await expect(readNumberTable(path, ['c'])).rejects.toThrow(/line 2: the column 'c' has 'x'/);
  await expect(readNumberTable(join(here, 'none.csv'))).rejects.toThrow(DataError);
});

test('standardization leaves gaps out, and a constant column as it is', () => {
  const values = Float32Array.from([1, 7, Number.NaN, 7, 3, 7]);
  expect(standardization({ columns: ['a', 'b'], values })).toEqual({ offset: [2, 7], scale: [1, 1] });
  const wide = Float32Array.from([10, 20]);
  expect(standardization({ columns: ['a'], values: wide })).toEqual({ offset: [15], scale: [5] });
});
