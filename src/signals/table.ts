/** Reading tables of numbers: a line of column names, then rows in order of time. */
import { basename } from 'node:path';
import { CsvError, parse } from 'csv-parse/sync';
import { DataError } from '../errors.js';
import { readTextFile } from '../platform/text-file.js';
import { timeIn } from './times.js';

/** A table of numbers. */
export interface NumberTable {
  readonly name: string;
  readonly columns: readonly string[];
  /** [rows, columns], flat; NaN where a value is missing. */
  readonly values: Float32Array;
  readonly rows: number;
  /** Columns that are not numeric (dates, names), which are skipped. */
  readonly leftOut: readonly string[];
  /** Of a table that is read with its times: the time of each row, in milliseconds since 1970. */
  readonly times?: readonly number[];
}

/**
 * Reads a CSV or TSV file (the delimiter is the most frequent of `,`, `;` and tab in the first line). Columns that are not numeric
 * are skipped, unless `wanted` names them; the column `time` has the times of the rows. The names may be in a comment, as `numpy.savetxt` writes them.
 *
 * Throws `DataError`, with the file, the line and the column, for a file that is missing, empty or not a table, for rows of different
 * lengths, for text in a column of numbers, for ambiguous numbers (`1,234`), and for a wanted column that does not exist.
 */
export async function readNumberTable(
  path: string,
  wanted?: readonly string[],
  time?: string,
): Promise<NumberTable> {
  // Excel writes the delimiter into a line of its own.
  const text = (await readTextFile(path, 'a table')).replace(/\r\n?/g, '\n').replace(/^sep=.(?=\n)/i, '#');
  const { header, rows, delimiter, lineOf } = recordsOf(path, text);
  const names = header.map((cell, i) => cell.trim() || `column ${i + 1}`);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new DataError(`${path} has two columns '${twice}': give each a name of its own`);
  if (rows.length === 0) throw new DataError(`${path} has names of columns, but no rows`);
  const missing = [...(wanted ?? []), ...(time === undefined ? [] : [time])].find(
    (name) => !names.includes(name),
  );
  if (missing !== undefined)
    throw new DataError(`${path} has no column '${missing}'; there are ${names.join(', ')}`);
  const columns = wanted ?? names.filter((name, place) => name !== time && isNumeric(rows, place, delimiter));
  if (columns.length === 0)
    throw new DataError(
      `${path} has no column of numbers; there are ${names.join(', ')} (columns are separated by commas, semicolons or tabs)`,
    );
  const places = columns.map((name) => names.indexOf(name));
  const marks = decimalMarks(rows, places);
  const values = new Float32Array(rows.length * columns.length);
  for (const [i, row] of rows.entries()) {
    for (const [j, place] of places.entries()) {
      const cell = row[place]!;
      const value = numberOf(cell, delimiter, marks[j]);
      const wrong = (what: string): DataError =>
        new DataError(
          `${path}, line ${lineOf(i, place)}: the column '${columns[j]}' has '${cell.trim().slice(0, 40)}', ${what}`,
        );
      if (typeof value === 'object')
        throw wrong(
          `which is ${value.join(' or ')}: nothing else says whether its sign groups thousands or stands before decimals. Write such numbers without groups`,
        );
      if (value === undefined || Math.abs(Math.fround(value)) === Number.POSITIVE_INFINITY)
        throw wrong(`which is no number${cell.includes(',') ? ' with a point before its decimals' : ''}`);
      values[i * columns.length + j] = value;
    }
  }
  const empty = columns.find((_, j) => rows.every((_, i) => Number.isNaN(values[i * columns.length + j]!)));
  if (empty !== undefined) throw new DataError(`${path}: the column '${empty}' has no value at all`);
  const leftOut = names.filter((name) => !columns.includes(name) && name !== time);
  const place = time === undefined ? -1 : names.indexOf(time);
  const times = rows.map((row, i) => {
    if (place === -1) return 0;
    const found = timeIn(row[place]!);
    if (found !== undefined) return found;
    throw new DataError(
      `${path}, line ${lineOf(i, place)}: the column '${time}' has '${row[place]!.trim().slice(0, 40)}', which is no time: write it as 2026-01-31 or 2026-01-31T13:00`,
    );
  });
  return {
    ...{ name: basename(path), columns, values, rows: rows.length, leftOut },
    ...(time !== undefined && { times }),
  };
}

/** The column names and rows of cells of a file. */
interface Records {
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
  readonly delimiter: string;
  /** The line of the file in which a cell starts, from 1. */
  lineOf(row: number, place: number): number;
}

function recordsOf(path: string, text: string): Records {
  const { comment, first } = beginningOf(text);
  if (first === undefined)
    throw new DataError(`${path} is empty: expected a line of column names, then rows`);
  const hasNumbers = (line: string): boolean =>
    line.split(delimiterOf(line)).some((cell) => NUMBER.test(cell.trim()));
  const isNamed = comment !== undefined && hasNumbers(first) && !hasNumbers(comment);
  const delimiter = delimiterOf(isNamed ? comment : first);
  // In a table of several columns blank lines are skipped; in a table of one column a blank line is a row whose value is missing.
  const hasOneColumn = !unquoted(first).includes(delimiter);
  // The line in which each record ends.
  const ends: number[] = [];
  try {
    const records: string[][] = parse(text, {
      delimiter,
      skip_empty_lines: !hasOneColumn,
      comment: '#',
      comment_no_infix: true,
      on_record(record: string[], { lines }) {
        ends.push(lines);
        return record;
      },
    });
    while (hasOneColumn && records[0]![0]!.trim() === '') {
      records.shift();
      ends.shift();
    }
    const [names] = isNamed ? (parse(comment, { delimiter, trim: true }) as string[][]) : [];
    const header = names?.length === records[0]!.length ? names : records.shift()!;
    if (header !== names) {
      const [line] = ends.splice(0, 1);
      if (header.some((cell) => NUMBER.test(cell.trim())))
        throw new DataError(`${path}: line ${line} has numbers: expected the columns' names there`);
    }
    const lineOf = (row: number, place: number): number =>
      records[row]!.slice(place).reduce((line, cell) => line - (cell.split('\n').length - 1), ends[row]!);
    return { header, rows: records, delimiter, lineOf };
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    throw new DataError(`${path} is no table: ${error.message}`, { cause: error });
  }
}

/** The first line that is neither empty nor a comment, and the last comment before it. */
function beginningOf(text: string): { comment?: string; first?: string } {
  let comment: string | undefined;
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf('\n', at);
    const line = text.slice(at, end === -1 ? text.length : end);
    at += line.length + 1;
    if (line.startsWith('#')) comment = line.replace(/^#+\s*/, '');
    else if (line.trim() !== '') return { ...(comment !== undefined && { comment }), first: line };
  }
  return {};
}

function delimiterOf(line: string): string {
  const plain = unquoted(line);
  const count = (delimiter: string): number => plain.split(delimiter).length;
  return [',', ';', '\t'].reduce((a, b) => (count(b) > count(a) ? b : a));
}

/** A line without its quoted cells, which may contain delimiters. */
function unquoted(line: string): string {
  return line.replaceAll(/"(?:[^"]|"")*"/g, '');
}

/** Spellings of a missing value. */
const MISSING = /^(na|n\/a|nan|null|none|nil|-|\?|\.)?$/i;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
/** With commas between groups of thousands. */
const GROUPED = /^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?$/;

/** The decimal separator of a column. */
type DecimalMark = '.' | ',';

/** Parses a number with a decimal point. */
function withPoint(text: string): number | undefined {
  if (NUMBER.test(text)) return Number(text);
  return GROUPED.test(text) ? Number(text.replaceAll(',', '')) : undefined;
}

/** Parses a number with a decimal comma, in which points group thousands. */
function withComma(text: string): number | undefined {
  return withPoint(text.replace(/[.,]/g, (sign) => (sign === '.' ? ',' : '.')));
}

/** The decimal separator of a cell, if only one is possible. */
function markOf(cell: string): DecimalMark | undefined {
  if (!/[.,]/.test(cell)) return undefined;
  const text = cell.trim();
  const [point, comma] = [withPoint(text), withComma(text)];
  if ((point === undefined) === (comma === undefined)) return undefined;
  return comma === undefined ? '.' : ',';
}

/**
 * The decimal separator of each column, if it is known. Cells with only one possible separator (`2,5`) decide for their column, and for
 * columns without such cells. If there are neither such cells nor commas, it is a point.
 */
function decimalMarks(rows: Records['rows'], places: readonly number[]): (DecimalMark | undefined)[] {
  const found = places.map(() => new Set<DecimalMark>());
  let hasCommas = false;
  for (const row of rows) {
    for (const [j, place] of places.entries()) {
      const mark = markOf(row[place]!);
      if (mark) found[j]!.add(mark);
      hasCommas ||= row[place]!.includes(',');
    }
  }
  const one = (marks: ReadonlySet<DecimalMark>): DecimalMark | undefined =>
    marks.size === 1 ? [...marks][0] : undefined;
  const all = new Set(found.flatMap((marks) => [...marks]));
  const ofFile = all.size === 0 && !hasCommas ? '.' : one(all);
  return found.map((marks) => (marks.size === 0 ? ofFile : one(marks)));
}

/** Whether most non-empty cells of a column are numbers in some format; other cells in it are then errors. */
function isNumeric(rows: Records['rows'], place: number, delimiter: string): boolean {
  let [numbers, others] = [0, 0];
  for (const row of rows) {
    const text = row[place]!.trim();
    if (MISSING.test(text)) continue;
    const mayHaveComma = delimiter !== ',' || text.includes(',');
    if ((withPoint(text) ?? (mayHaveComma ? withComma(text) : undefined)) === undefined) others++;
    else numbers++;
  }
  return numbers > others;
}

/**
 * Parses a cell: NaN for a missing value, undefined for text, and both possible numbers if the separator decides and is unknown. If commas
 * delimit the columns, the separator is a point.
 */
function numberOf(
  cell: string,
  delimiter: string,
  mark: DecimalMark | undefined,
): number | undefined | [number, number] {
  const text = cell.trim();
  if (MISSING.test(text)) return Number.NaN;
  const point = withPoint(text);
  const comma = delimiter === ',' ? undefined : withComma(text);
  if (point === undefined || comma === undefined || point === comma) return point ?? comma;
  if (mark === undefined) return [point, comma];
  return mark === '.' ? point : comma;
}

/**
 * Offset and scale that standardize each column to mean 0 and deviation 1; a constant column keeps its scale. `constant` lists the columns
 * whose values are all equal or all missing.
 */
export function standardization(table: Pick<NumberTable, 'columns' | 'values'>): {
  offset: number[];
  scale: number[];
  constant: string[];
} {
  const measured = table.columns.map((_, column) => spreadOf(table, column));
  return {
    offset: measured.map(({ mean }) => mean),
    scale: measured.map((spread) => (isConstant(spread) ? 1 : spread.deviation)),
    constant: table.columns.filter((_, column) => isConstant(measured[column]!)),
  };
}

/** The columns among the given ones whose values are all equal or all missing. */
export function constantColumns(
  table: Pick<NumberTable, 'columns' | 'values'>,
  among: readonly string[] = table.columns,
): string[] {
  return among.filter((name) => isConstant(spreadOf(table, table.columns.indexOf(name))));
}

interface Spread {
  readonly mean: number;
  readonly deviation: number;
}

/** Whether a column is constant up to rounding errors. */
function isConstant({ mean, deviation }: Spread): boolean {
  return deviation <= 1e-7 * Math.abs(mean);
}

/** Mean and deviation of a column's values that are not missing. */
function spreadOf({ columns, values }: Pick<NumberTable, 'columns' | 'values'>, column: number): Spread {
  let [count, mean, squares] = [0, 0, 0];
  for (let at = column; at < values.length; at += columns.length) {
    const value = values[at]!;
    if (Number.isNaN(value)) continue;
    count++;
    const before = value - mean;
    mean += before / count;
    squares += before * (value - mean);
  }
  return { mean, deviation: count > 0 ? Math.sqrt(squares / count) : 0 };
}
