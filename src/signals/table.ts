/** Tables of numbers as files have them: a line of names, then rows in the order of time. */
import { readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { CsvError, parse } from 'csv-parse/sync';
import { DataError } from '../errors.js';

/** Columns of numbers over rows in order. */
export interface NumberTable {
  readonly name: string;
  readonly columns: readonly string[];
  /** [rows, columns], flat; NaN where a value is missing. */
  readonly values: Float32Array;
  readonly rows: number;
  /** Columns of something other than numbers, which are not read: dates, names. */
  readonly leftOut: readonly string[];
}

/** How files write that there is no value. */
const MISSING = /^(na|n\/a|nan|null|none|nil|-|\?|\.)?$/i;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const DECIMAL_COMMA = /^[+-]?\d+,\d+$/;
const MOST_BYTES = 1e9;

/**
 * Reads a CSV or TSV file (the delimiter is the one of `,`, `;` and tab that the first line has most of). Columns that hold
 * something other than numbers are left out, unless `wanted` names them. Throws `DataError`, with the file, the line and the
 * column, for a file that is missing, empty or no table, for rows of different lengths, for text in a column of numbers, and
 * for a wanted column that there is not.
 */
export async function readNumberTable(path: string, wanted?: readonly string[]): Promise<NumberTable> {
  const text = await readText(path);
  const records = recordsOf(path, text);
  const [header, ...rows] = records;
  if (!header || header.length === 0)
    throw new DataError(`${path} is empty: expected a line of column names, then rows`);
  if (header.some((cell) => NUMBER.test(cell.trim())))
    throw new DataError(`${path}: line 1 has numbers: expected the columns' names there`);
  const names = header.map((cell, i) => cell.trim() || `column ${i + 1}`);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new DataError(`${path} has two columns '${twice}': give each a name of its own`);
  if (rows.length === 0) throw new DataError(`${path} has names of columns, but no rows`);
  const missing = wanted?.find((name) => !names.includes(name));
  if (missing !== undefined)
    throw new DataError(`${path} has no column '${missing}'; there are ${names.join(', ')}`);
  const columns = wanted ?? names.filter((_, place) => isNumeric(rows, place));
  if (columns.length === 0)
    throw new DataError(`${path} has no column of numbers; there are ${names.join(', ')}`);
  const places = columns.map((name) => names.indexOf(name));
  const values = new Float32Array(rows.length * columns.length);
  for (const [i, row] of rows.entries()) {
    for (const [j, place] of places.entries()) {
      const value = numberOf(row[place]!);
      if (value === undefined || Math.abs(Math.fround(value)) === Number.POSITIVE_INFINITY) {
        throw new DataError(
          `${path}, line ${i + 2}: the column '${columns[j]}' has '${row[place]!.slice(0, 40)}', which is no number`,
        );
      }
      values[i * columns.length + j] = value;
    }
  }
  const empty = columns.find((_, j) => rows.every((_, i) => Number.isNaN(values[i * columns.length + j]!)));
  if (empty !== undefined) throw new DataError(`${path}: the column '${empty}' has no value at all`);
  const leftOut = names.filter((name) => !columns.includes(name));
  return { name: basename(path), columns, values, rows: rows.length, leftOut };
}

async function readText(path: string): Promise<string> {
  const size = await stat(path).then(
    ({ size }) => size,
    () => 0,
  );
  if (size > MOST_BYTES)
    throw new DataError(`${path} has ${Math.round(size / 1e6)} MB: a table of up to 1 GB is read`);
  const bytes = await readFile(path).catch((error: Error) => {
    throw new DataError(`${path} cannot be read: ${error.message}`, { cause: error });
  });
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new DataError(`${path} is not UTF-8 text: save the table as CSV in UTF-8`, { cause: error });
  }
}

function recordsOf(path: string, text: string): string[][] {
  const first = text.slice(0, text.search(/[\r\n]|$/));
  const count = (delimiter: string): number => first.split(delimiter).length;
  const delimiter = [',', ';', '\t'].reduce((a, b) => (count(b) > count(a) ? b : a));
  try {
    return parse(text, {
      delimiter,
      skip_empty_lines: true,
      bom: true,
      comment: '#',
      comment_no_infix: true,
    });
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    throw new DataError(`${path} is no table: ${error.message}`, { cause: error });
  }
}

/** A column of which most cells that say something are numbers: what else is in it is a mistake, and told. */
function isNumeric(rows: readonly string[][], place: number): boolean {
  let [numbers, others] = [0, 0];
  for (const row of rows) {
    const value = numberOf(row[place]!);
    if (value === undefined) others++;
    else if (!Number.isNaN(value)) numbers++;
  }
  return numbers > others;
}

/** NaN for a missing value, undefined for something else. */
function numberOf(cell: string): number | undefined {
  const text = cell.trim();
  if (MISSING.test(text)) return Number.NaN;
  if (NUMBER.test(text)) return Number(text);
  return DECIMAL_COMMA.test(text) ? Number(text.replace(',', '.')) : undefined;
}

/** What centres a column and brings it to a deviation of 1; a constant one keeps its scale. */
export function standardization({ columns, values }: Pick<NumberTable, 'columns' | 'values'>): {
  offset: number[];
  scale: number[];
} {
  const width = columns.length;
  const measured = columns.map((_, j) => {
    let [count, total, squares] = [0, 0, 0];
    for (let at = j; at < values.length; at += width) {
      const value = values[at]!;
      if (Number.isNaN(value)) continue;
      count++;
      const before = value - total;
      total += before / count;
      squares += before * (value - total);
    }
    const deviation = count > 0 ? Math.sqrt(squares / count) : 0;
    // What is left of rounding is no deviation.
    return { offset: total, scale: deviation > 1e-7 * Math.abs(total) ? deviation : 1 };
  });
  return { offset: measured.map(({ offset }) => offset), scale: measured.map(({ scale }) => scale) };
}
