/** Word documents (.docx): the text of their body, with the page breaks that Word noted when it last showed the document. */
import { Parser } from 'htmlparser2';
import { type Entry, open, type ZipFile } from 'yauzl';
import { FlowPages } from './flow.js';
import { type OpenDocument, UnreadableError } from './page.js';
import { MOST_TEXT } from './text.js';

const BODY = 'word/document.xml';

/** Throws `UnreadableError`; system errors. */
export async function openDocx(path: string): Promise<OpenDocument> {
  const pages = new FlowPages();
  let paragraph = '';
  let heading = false;
  let inText = false;
  let cells = 0;
  let depth = 0;
  let row = '';
  const parser = new Parser(
    {
      onopentag(name, attributes) {
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
    const text = paragraph.trim();
    paragraph = '';
    if (text === '') return;
    if (depth > 0) row += `${text} `;
    else pages.add({ text, begins: true, ...(heading && { heading }) });
  };
  const decoder = new TextDecoder();
  for await (const bytes of bodyOf(path)) parser.write(decoder.decode(bytes, { stream: true }));
  parser.end();
  return pages.document();
}

/** The bytes of the document's text. */
async function* bodyOf(path: string): AsyncGenerator<Uint8Array> {
  const file = await new Promise<ZipFile>((resolve, reject) => {
    open(path, { lazyEntries: true, autoClose: false }, (error, opened) => {
      if (opened) resolve(opened);
      else reject(new UnreadableError(`it is no .docx file: ${error?.message}`));
    });
  });
  try {
    const entry = await new Promise<Entry>((resolve, reject) => {
      file.on('error', (error: Error) => reject(new UnreadableError(`it is damaged: ${error.message}`)));
      file.on('end', () =>
        reject(new UnreadableError(`it is a zip file, but no .docx file: ${BODY} is missing`)),
      );
      file.on('entry', (each: Entry) => {
        if (each.fileName === BODY) resolve(each);
        else file.readEntry();
      });
      file.readEntry();
    });
    if (entry.uncompressedSize > MOST_TEXT) {
      throw new UnreadableError(`its text takes ${Math.round(entry.uncompressedSize / 1e6)} MB: split it`);
    }
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
  } finally {
    file.close();
  }
}
