/** Tables in common formats give the same numbers; an error names the line. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { DataError } from '../errors.js';
import { constantColumns, readNumberTable, standardization } from './table.js';

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

test('in a table of one column an empty line is a missing value, so that no row shifts', async () => {
  const table = await readNumberTable(file('\n# of a sensor\n\nload\n1\n\n3\n \n5\n\n\n'));
  expect([...table.values]).toEqual([1, Number.NaN, 3, Number.NaN, 5, Number.NaN, Number.NaN]);
  await expect(readNumberTable(file('\nload\n1\n\nx\n3\n'))).rejects.toThrow(
    "line 5: the column 'load' has 'x'",
  );
});

test('a delimiter within a quoted name separates no columns', async () => {
  const one = await readNumberTable(file('"load, in kW"\n1\n\n3\n'));
  expect(one.columns).toEqual(['load, in kW']);
  expect([...one.values]).toEqual([1, Number.NaN, 3]);
  const two = await readNumberTable(file('"load, in kW, at noon";"said ""a, b"""\n1;2\n\n3;4\n'));
  expect(two.columns).toEqual(['load, in kW, at noon', 'said "a, b"']);
  expect([...two.values]).toEqual([1, 2, 3, 4]);
});

test.each([
  ['of two columns', '\r\na,b\r\n1,2\r\n\r\n3,4\r\n', [1, 2, 3, 4]],
  ['of one column', ' \r\nload\r\n1\r\n\r\n3\r\n', [1, Number.NaN, 3]],
])('a blank first line says nothing of a table %s', async (_, text, expected) => {
  expect([...(await readNumberTable(file(text))).values]).toEqual(expected);
});

test.each([
  ['groups between commas', 'a,b\n"1,234",1\n"12,345.5",2\n', [1234, 1, 12345.5, 2]],
  [
    'groups and decimals with commas, by another cell',
    'a;b\n1.234;1\n2,5;2\n1.234,5;3\n',
    [1234, 1, 2.5, 2, 1234.5, 3],
  ],
  ['three decimals, by another column', 'a;b\n1,234;0,5\n5,678;1\n', [1.234, 0.5, 5.678, 1]],
  ['three decimals behind a zero', 'a\tb\n1,234\t1\n0,567\t2\n', [1.234, 1, 0.567, 2]],
  ['groups, by a column with points', 'a\tb\n1,234\t0.5\n5,678\t1\n', [1234, 0.5, 5678, 1]],
  ['points alone', 'a;b\n1.234;5.678\n9.012;3\n', [1.234, 5.678, 9.012, 3]],
  ['two marks in two columns', 'a;b\n1.5;2,5\n2.5;1,5\n', [1.5, 2.5, 2.5, 1.5]],
])('a comma and a point in numbers: %s', async (_, text, values) => {
  const table = await readNumberTable(file(text));
  expect([...table.values]).toEqual(Array.from(values, Math.fround));
});

test.each([
  ["Excel's line with the delimiter", 'sep=;\r\ntime;temp\r\n0;1,5\r\n1;2\r\n'],
  ['a comment that is the header', '# time,temp\n0,1.5\n1,2\n'],
  ['one behind other comments', '# a sensor, of ours; x;y;z;w\n#\n#time,temp\n\n0,1.5\n# a comment\n1,2\n'],
  ['spaces behind commas', '# time, temp\r\n0,1.5\r\n1,2\r\n'],
  ['tabs', '# time\ttemp\n0\t1.5\n1\t2\n'],
])('%s', async (_, text) => {
  const table = await readNumberTable(file(text));
  expect(table.columns).toEqual(['time', 'temp']);
  expect([...table.values]).toEqual([0, 1.5, 1, 2]);
});

test('columns are read in the order of `wanted`', async () => {
  const table = await readNumberTable(file('a,b,c\n1,2,x\n3,4,y\n'), ['b', 'a']);
  expect([...table.values]).toEqual([2, 1, 4, 3]);
  expect(table.leftOut).toEqual(['c']);
});

test.each([
  ['', /is empty/],
  [' \n\n', /is empty/],
  ['a,b\n', /no rows/],
  ['1,2\n3,4\n', /line 1 has numbers/],
  ['a,a\n1,2\n', /two columns 'a'/],
  ['a,b\n1,2\n3\n', /no table.*line 3/i],
  ['a,b\n1,2\n3,4\n5,wet\n', /line 4: the column 'b' has 'wet', which is no number/],
  ['a,b\n1,2\n3,4e99\n', /line 3: the column 'b' has '4e99'/],
  ['a,b\nx,y\n', /no column of numbers; there are a, b/],
  ['a,b\n1,"2\n', /no table/],
  [Buffer.from([0x61, 0x0a, 0xff, 0xfe]), /not UTF-8/],
  ['# of somebody\n\n1,2\n3,4\n', /line 3 has numbers/],
  ['# one\n1,2\n3,4\n', /line 2 has numbers/],
  ['# one\n\na,b\n# two\n1,2\n\n3,4\n5,wet\n', /line 8: the column 'b' has 'wet'/],
  ['a,b,c\r\n"x\r\ny",1,2\r\nx,2,3\r\n"x\r\n\r\ny",3,wet\r\n', /line 7: the column 'c' has 'wet'/],
  ['a;b\n1;2\n"wet\n";3\n3;4\n', /line 3: the column 'a' has 'wet'/],
  ['a,b,c\n# one\n"x\ny",1,2\n3\n', /no table.*line 5/i],
  ['a,b\n"1,234",1\n"2,5",2\n', /line 3: the column 'a' has '2,5', which is no number with a point/],
  ['a,b\n"0,5",1\n"0,7",2\n', /line 2: the column 'a' has '0,5', which is no number with a point/],
  [
    'a;b\n1,234;1\n2,345;2\n',
    /line 2: the column 'a' has '1,234', which is 1234 or 1.234: nothing else says/,
  ],
  ['a\tb\n1,5\t1\n2.5\t2\n1,234\t3\n', /line 4: the column 'a' has '1,234', which is 1234 or 1.234/],
])('%j is refused', async (text, message) => {
  const error = await readNumberTable(file(text)).catch((error: Error) => error);
  expect(error).toBeInstanceOf(DataError);
  expect((error as Error).message).toMatch(message);
});

test('a wanted column that is missing, empty or text, and a missing file, are errors', async () => {
  const path = file('a,b,c\n1,,x\n2,,y\n');
  await expect(readNumberTable(path, ['d'])).rejects.toThrow(/no column 'd'; there are a, b, c/);
  await expect(readNumberTable(path, ['b'])).rejects.toThrow(/'b' has no value at all/);
  await expect(readNumberTable(path, ['c'])).rejects.toThrow(/line 2: the column 'c' has 'x'/);
  await expect(readNumberTable(join(here, 'none.csv'))).rejects.toThrow(DataError);
});

test('constant and empty columns are found', () => {
  const values = Float32Array.from([1, 7.1, Number.NaN, 2, 7.1, Number.NaN, 3, Number.NaN, Number.NaN]);
  const table = { columns: ['a', 'b', 'c'], values };
  expect(constantColumns(table)).toEqual(['b', 'c']);
  expect(constantColumns(table, ['a', 'c'])).toEqual(['c']);
  expect(standardization(table).constant).toEqual(['b', 'c']);
});

test('standardization ignores missing values, and keeps a constant column', () => {
  const values = Float32Array.from([1, 7, Number.NaN, 7, 3, 7]);
  expect(standardization({ columns: ['a', 'b'], values })).toEqual({
    offset: [2, 7],
    scale: [1, 1],
    constant: ['b'],
  });
  const wide = Float32Array.from([10, 20]);
  expect(standardization({ columns: ['a'], values: wide })).toEqual({
    offset: [15],
    scale: [5],
    constant: [],
  });
});
