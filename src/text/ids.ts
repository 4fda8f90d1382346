/** Corpora of ids instead of texts: tokens of another tokenizer, notes, events. */
import { readdir, stat } from 'node:fs/promises';
import { basename, extname, join, resolve } from 'node:path';
import { ConfigError, DataError } from '../errors.js';
import { unreadable } from '../platform/unreadable.js';
import { heldOutPlaces } from './corpus.js';
import { roomForIds } from './id-array.js';
import { readArray, readBinary } from './id-files.js';
import { readLines } from './id-lines.js';

/** The formats of id files: numbers in a text with a document per line, or integers of 2 or 4 bytes. A `.npy` file declares its own format. */
export const ID_FORMS = ['text', 'uint16', 'uint32'] as const;
/** A format of token ids. */
export type IdForm = (typeof ID_FORMS)[number];

/** A corpus of token ids. */
export interface IdCorpus {
  readonly name: string;
  readonly documents: readonly Int32Array[];
  /** The documents that the corpus itself holds out. */
  readonly heldOut: readonly Int32Array[];
  /** The highest id. */
  readonly highest: number;
}

/** File names of ids. */
const ID_FILE = /\.(?:bin|npy)$/i;
const TEXT_FILE = /\.(?:txt|md)$/i;
const HELD_OUT = /(?:^|[^a-z])(?:val|valid|validation)(?:[^a-z]|$)/i;

/** Whether a corpus has ids by its name: a `.bin` or `.npy` file, or a folder with such files and no texts, also in its subfolders. */
export async function isOfIds(path: string): Promise<boolean> {
  const isFolder = await stat(path).then(
    (stats) => stats.isDirectory(),
    () => undefined,
  );
  if (isFolder === undefined) return false;
  if (!isFolder) return ID_FILE.test(path);
  const names = await readdir(path);
  if (!names.some((name) => ID_FILE.test(name))) return false;
  const all = await readdir(path, { recursive: true });
  return !all.some((name) => TEXT_FILE.test(name));
}

/**
 * Reads a file of ids, or a folder of `.bin` and `.npy` files (`.txt` files for the text format), of which those with `val` in their
 * names are held out:
 *
 * - numbers in a text, separated by spaces or commas: a line is a document;
 * - `.npy` of NumPy, integers of any size: a row of a matrix is a document;
 * - `.bin` as nanoGPT writes it (uint16, little-endian) or llm.c (with its header).
 *
 * Throws `DataError`, with the file and the line or offset, for an invalid id.
 */
export async function readIds(path: string, form?: IdForm): Promise<IdCorpus> {
  const isFolder = await stat(path).then(
    (stats) => stats.isDirectory(),
    (error: unknown) => {
      throw unreadable(path, error);
    },
  );
  const wanted = form === 'text' ? /\.(?:txt|npy)$/i : ID_FILE;
  const names = isFolder ? (await readdir(path)).filter((name) => wanted.test(name)).sort() : [];
  if (isFolder && names.length === 0) {
    const files = form === 'text' ? '.txt' : '.bin and no .npy';
    throw new DataError(`${path} has no ${files} files with token ids`);
  }
  const read: Record<'documents' | 'heldOut', Int32Array[]> = { documents: [], heldOut: [] };
  for (const file of isFolder ? names.map((name) => join(path, name)) : [path]) {
    const found = (await documentsOf(file, form)).filter(({ length }) => length > 0);
    const isHeldOut = isFolder && HELD_OUT.test(basename(file, extname(file)));
    for (const document of found) read[isHeldOut ? 'heldOut' : 'documents'].push(document);
  }
  if (read.documents.length === 0) throw new DataError(`${path} has no token ids to learn from`);
  let highest = 0;
  for (const ids of [...read.documents, ...read.heldOut])
    for (const id of ids) if (id > highest) highest = id;
  return { name: basename(resolve(path)), ...read, highest };
}

async function documentsOf(path: string, form: IdForm | undefined): Promise<Int32Array[]> {
  if (/\.npy$/i.test(path)) return readArray(path);
  if (form === 'text' || (form === undefined && !ID_FILE.test(path))) return readLines(path);
  return [await readBinary(path, form)];
}

/** Training and held-out documents, each with its end token if there is one. */
export interface IdSplit {
  readonly training: Int32Array[];
  readonly validation: Int32Array[];
}

/**
 * Uses the held-out documents of the corpus, else holds out whole documents at even distances, `fraction` of their number and at least one; of a single
 * document, the tail. `end` ends a document: inside a document it starts a new one, and it is added where it is missing.
 *
 * Throws `ConfigError` for a fraction outside (0, 1), `DataError` for a single document that is too short to split.
 */
export function splitIds({ name, documents, heldOut }: IdCorpus, fraction: number, end?: number): IdSplit {
  if (!(fraction > 0 && fraction < 1))
    throw new ConfigError(
      `the share that is held out is ${fraction}: it must lie between 0 and 1, such as 0.1`,
    );
  const ended = (some: readonly Int32Array[]): Int32Array[] =>
    some.flatMap((ids) => endedWith(ids, name, end));
  if (heldOut.length > 0) return { training: ended(documents), validation: ended(heldOut) };
  const all = ended(documents);
  const [first] = all;
  if (all.length > 1) {
    const held = heldOutPlaces(all.length, fraction);
    return {
      training: all.filter((_, i) => !held.has(i)),
      validation: all.filter((_, i) => held.has(i)),
    };
  }
  const cut = Math.round(first!.length * (1 - fraction));
  if (cut < 1 || cut >= first!.length)
    throw new DataError(
      `${name} has ${first!.length} ids, too few to hold ${fraction} of them out: use more`,
    );
  return { training: [first!.subarray(0, cut)], validation: [first!.subarray(cut)] };
}

function endedWith(ids: Int32Array, name: string, end: number | undefined): Int32Array[] {
  if (end === undefined) return [ids];
  const parts: Int32Array[] = [];
  let start = 0;
  for (let at = ids.indexOf(end); at >= 0; at = ids.indexOf(end, start)) {
    parts.push(ids.subarray(start, at + 1));
    start = at + 1;
  }
  if (start === ids.length) return parts;
  const last = roomForIds(ids.length - start + 1, name);
  last.set(ids.subarray(start));
  last[last.length - 1] = end;
  return [...parts, last];
}
