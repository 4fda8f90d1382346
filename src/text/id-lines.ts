/** Token ids as numbers in a text, whose lines may exceed the longest string. */
import { createReadStream } from 'node:fs';
import { DataError } from '../errors.js';
import { reasonOf } from '../platform/unreadable.js';
import { GrowingIds } from './id-array.js';
import { HIGHEST_ID } from './id-files.js';

const [LINE_FEED, CARRIAGE_RETURN] = [10, 13];
/** The most characters of an id. */
const LONGEST = 40;

/**
 * The ids of each line, separated by spaces or commas; brackets are ignored, so a list in JSON is one document. Throws
 * `DataError`, with the line, for an invalid id.
 */
export async function readLines(path: string): Promise<Int32Array[]> {
  const documents: Int32Array[] = [];
  const ids = new GrowingIds(path);
  let line = 1;
  /** The start of a word that continues from the previous chunk. */
  let begun = '';
  let last = 0;
  const endWord = (word: string): void => {
    if (word === '') return;
    if (!/^\d+$/.test(word) || Number(word) > HIGHEST_ID)
      throw new DataError(
        `${path}, line ${line} has '${word.slice(0, LONGEST)}': expected token ids, whole numbers from 0 to ${HIGHEST_ID} with spaces or commas between them`,
      );
    ids.push(Number(word));
  };
  try {
    for await (const chunk of createReadStream(path, 'utf8') as AsyncIterable<string>) {
      let start = 0;
      for (let i = 0; i < chunk.length; i++) {
        const before = last;
        last = chunk.charCodeAt(i);
        if (!isBetween(last)) continue;
        endWord(begun + chunk.slice(start, i));
        begun = '';
        start = i + 1;
        if (last !== CARRIAGE_RETURN && (last !== LINE_FEED || before === CARRIAGE_RETURN)) continue;
        documents.push(ids.take());
        line++;
      }
      begun += chunk.slice(start);
      // The word is too long for an id.
      if (begun.length > LONGEST) endWord(`${begun}...`);
    }
    endWord(begun);
    documents.push(ids.take());
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
  }
  return documents;
}

/** Whether a character separates ids: white space, commas, brackets, a byte order mark. */
function isBetween(code: number): boolean {
  if (code < 128) return code <= 32 || code === 44 || code === 91 || code === 93;
  return /\s/.test(String.fromCharCode(code));
}
