/** Pairs of texts, a line each: what is given, a tab, and what is to be written. */
import { readFile } from 'node:fs/promises';
import { DataError } from '../errors.js';

/** A text, and the one that a model shall write for it. */
export interface TextPair {
  readonly source: string;
  readonly target: string;
}

/** Stands between the two in what a model reads. */
export const PAIR_SEPARATOR = '\t';

/**
 * Reads a TSV file of two columns, without a line of names; blank lines do not count. Throws `DataError`, with the file and the line, for a file
 * that is missing, not UTF-8 or empty, for a line that is no pair, and for a pair with an empty side.
 */
export async function readPairs(path: string): Promise<TextPair[]> {
  const bytes = await readFile(path).catch((error: Error) => {
    throw new DataError(`${path} cannot be read: ${error.message}`, { cause: error });
  });
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new DataError(`${path} is not UTF-8 text: save it in UTF-8`, { cause: error });
  }
  const pairs = text.split(/\r\n|\n|\r/).flatMap((line, i): TextPair[] => {
    if (line.trim() === '') {
      if (line.includes('\t'))
        throw new DataError(`${path}, line ${i + 1}: both sides of the pair are empty`);
      return [];
    }
    const cells = line.split('\t').map((cell) => cell.trim());
    if (cells.length !== 2) {
      throw new DataError(
        `${path}, line ${i + 1} has ${cells.length === 1 ? 'no tab' : `${cells.length} columns`}: expected a source, a tab and a target (of a table of numbers, name the columns to forecast with --target)`,
      );
    }
    const [source, target] = cells as [string, string];
    if (source === '' || target === '')
      throw new DataError(`${path}, line ${i + 1}: the ${source === '' ? 'source' : 'target'} is empty`);
    return [{ source, target }];
  });
  if (pairs.length < 2)
    throw new DataError(
      `${path} has ${pairs.length} pairs: expected two at least, to learn from and to hold out`,
    );
  return pairs;
}
