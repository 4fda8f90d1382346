/** Of which format a file is, by its first bytes where these tell, and else by its name. */
import { open } from 'node:fs/promises';
import { extname } from 'node:path';
import { type Kind, UnreadableError } from './page.js';

const BY_NAME: Readonly<Record<string, Kind>> = {
  '.pdf': 'pdf',
  '.docx': 'docx',
  '.html': 'html',
  '.htm': 'html',
  '.xhtml': 'html',
  '.md': 'markdown',
  '.markdown': 'markdown',
  '.txt': 'text',
  '.text': 'text',
  '.rst': 'text',
  '.log': 'text',
};

/** Names that a folder's files are read of; others are told as left out. A file that is named itself is read whatever its name is. */
export function isReadable(path: string): boolean {
  return extname(path).toLowerCase() in BY_NAME;
}

/** Throws `UnreadableError` for what is empty, or nothing that can be read; system errors. */
export async function kindOf(path: string): Promise<Kind> {
  const file = await open(path, 'r');
  let head: Buffer;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(1024), 0, 1024, 0);
    head = buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
  const named = BY_NAME[extname(path).toLowerCase()];
  if (head.length === 0) throw new UnreadableError('it is empty');
  // Something may stand before a PDF's first line.
  if (head.includes('%PDF-')) return 'pdf';
  if (head.subarray(0, 4).equals(Buffer.from('PK\x03\x04', 'latin1'))) {
    if (named === 'docx' || named === undefined) return 'docx';
    throw new UnreadableError(`it is a zip file, not ${named}`);
  }
  if (head.subarray(0, 4).equals(Buffer.from([0xd0, 0xcf, 0x11, 0xe0]))) {
    throw new UnreadableError(
      'it is an Office file of the old form, or an encrypted one: save it as .docx or PDF',
    );
  }
  if (named === 'pdf') throw new UnreadableError('it is no PDF: it does not begin as one');
  if (named === 'docx') throw new UnreadableError('it is no .docx file: it is not even a zip file');
  const wide = head[0] === 0xff && head[1] === 0xfe ? true : head[0] === 0xfe && head[1] === 0xff;
  if (!wide && head.includes(0))
    throw new UnreadableError('it is neither PDF, Word, HTML nor text: it has bytes of zero in it');
  if (named !== undefined) return named;
  return /^\s*(<!doctype html|<html)/i.test(head.toString('latin1')) ? 'html' : 'text';
}
