/**
 * Word documents (.docx): the text of their body, with the page breaks that Word noted when it last showed the document, and each footnote and
 * endnote behind the paragraph that refers to it.
 */
import { Parser } from 'htmlparser2';
import { type Entry, open, type ZipFile } from 'yauzl';
import { FlowPages } from './flow.js';
import { type OpenDocument, UnreadableError } from './page.js';
import { MOST_TEXT } from './text.js';

const BODY = 'word/document.xml';
/** Where the notes are that such an element refers to, and what each is there. */
const NOTES = new Map([
  ['w:footnoteReference', { part: 'word/footnotes.xml', note: 'w:footnote' }],
  ['w:endnoteReference', { part: 'word/endnotes.xml', note: 'w:endnote' }],
]);

/** Throws `UnreadableError`; system errors. */
export async function openDocx(path: string): Promise<OpenDocument> {
  const file = await openZip(path);
  try {
    const parts = await partsOf(file, [BODY, ...[...NOTES.values()].map(({ part }) => part)]);
    const body = parts.get(BODY);
    if (!body) throw new UnreadableError(`it is a zip file, but no .docx file: ${BODY} is missing`);
    const size = [...parts.values()].reduce((sum, { uncompressedSize }) => sum + uncompressedSize, 0);
    if (size > MOST_TEXT) {
      throw new UnreadableError(`its text takes ${Math.round(size / 1e6)} MB: split it`);
    }
    const notes = new Map<string, ReadonlyMap<string, string>>();
    for (const [reference, { part, note }] of NOTES) {
      const entry = parts.get(part);
      if (entry) notes.set(reference, await notesOf(file, entry, note));
    }
    return await readBody(file, body, notes);
  } finally {
    file.close();
  }
}

async function readBody(
  file: ZipFile,
  body: Entry,
  notes: ReadonlyMap<string, ReadonlyMap<string, string>>,
): Promise<OpenDocument> {
  const pages = new FlowPages();
  /** Notes that the paragraph refers to. */
  let referred: string[] = [];
  let paragraph = '';
  let heading = false;
  let inText = false;
  let cells = 0;
  let depth = 0;
  let row = '';
  const parser = new Parser(
    {
      onopentag(name, attributes) {
        const note = notes.get(name)?.get(attributes['w:id'] ?? '');
        if (note !== undefined) referred.push(note);
        switch (name) {
          case 'w:p':
            paragraph = '';
            heading = false;
            break;
          case 'w:pStyle':
            heading = /^(heading|title|ueberschrift|berschrift|titre)/i.test(attributes['w:val'] ?? '');
            break;
          case 'w:t':
            inText = true;
            break;
          case 'w:tab':
            paragraph += ' ';
            break;
          case 'w:noBreakHyphen':
            paragraph += '-';
            break;
          case 'w:br':
            if (attributes['w:type'] === 'page') {
              end();
              pages.break();
            } else paragraph += ' ';
            break;
          case 'w:lastRenderedPageBreak':
            if (depth === 0) {
              end();
              pages.break();
            }
            break;
          case 'w:tbl':
            depth++;
            break;
          case 'w:tr':
            if (depth === 1) {
              row = '';
              cells = 0;
            }
            break;
          case 'w:tc':
            if (depth === 1 && cells++ > 0) row = `${row.trimEnd()}\t`;
            break;
        }
      },
      ontext(data) {
        if (inText) paragraph += data;
      },
      onclosetag(name) {
        if (name === 'w:t') inText = false;
        if (name === 'w:p') end();
        if (name === 'w:tr' && depth === 1 && row.trim() !== '')
          pages.add({ text: row.trim(), begins: true });
        if (name === 'w:tbl') depth--;
      },
    },
    { xmlMode: true, decodeEntities: true },
  );
  const end = (): void => {
    const texts = [paragraph.trim(), ...referred].filter((text) => text !== '');
    const isHeading = heading && paragraph.trim() !== '';
    paragraph = '';
    referred = [];
    for (const [i, text] of texts.entries()) {
      if (depth > 0) row += `${text} `;
      else pages.add({ text, begins: true, ...(isHeading && i === 0 && { heading: true }) });
    }
  };
  await parse(file, body, parser);
  return pages.document();
}

/** The notes of a part, by their ids. */
async function notesOf(file: ZipFile, entry: Entry, note: string): Promise<ReadonlyMap<string, string>> {
  const notes = new Map<string, string>();
  let id = '';
  let text = '';
  let inText = false;
  const parser = new Parser(
    {
      onopentag(name, attributes) {
        if (name === note) [id, text] = [attributes['w:id'] ?? '', ''];
        inText = name === 'w:t';
        if (name === 'w:p' || name === 'w:tab' || name === 'w:br') text += ' ';
      },
      ontext(data) {
        if (inText) text += data;
      },
      onclosetag(name) {
        if (name === 'w:t') inText = false;
        if (name === note) notes.set(id, text.trim());
      },
    },
    { xmlMode: true, decodeEntities: true },
  );
  await parse(file, entry, parser);
  return notes;
}

async function parse(file: ZipFile, entry: Entry, parser: Parser): Promise<void> {
  const decoder = new TextDecoder();
  for await (const bytes of bytesOf(file, entry)) parser.write(decoder.decode(bytes, { stream: true }));
  parser.end();
}

function openZip(path: string): Promise<ZipFile> {
  return new Promise((resolve, reject) => {
    open(path, { lazyEntries: true, autoClose: false }, (error, opened) => {
      if (opened) resolve(opened);
      else reject(new UnreadableError(`it is no .docx file: ${error?.message}`));
    });
  });
}

/** The entries of these names, as far as there are. */
function partsOf(file: ZipFile, names: readonly string[]): Promise<ReadonlyMap<string, Entry>> {
  const parts = new Map<string, Entry>();
  return new Promise((resolve, reject) => {
    file.on('error', (error: Error) => reject(new UnreadableError(`it is damaged: ${error.message}`)));
    file.on('end', () => resolve(parts));
    file.on('entry', (each: Entry) => {
      if (names.includes(each.fileName)) parts.set(each.fileName, each);
      file.readEntry();
    });
    file.readEntry();
  });
}

async function* bytesOf(file: ZipFile, entry: Entry): AsyncGenerator<Uint8Array> {
  const stream = await new Promise<NodeJS.ReadableStream>((resolve, reject) => {
    file.openReadStream(entry, (error, opened) => {
      if (opened) resolve(opened);
      else reject(new UnreadableError(`it cannot be unpacked: ${error?.message}`));
    });
  });
  try {
    for await (const bytes of stream) yield bytes as unknown as Uint8Array;
  } catch (error) {
    throw new UnreadableError(`it is damaged: ${(error as Error).message}`);
  }
}
