/** Small documents for tests, written by hand. */
import { deflateSync } from 'node:zlib';
import { ZipFile } from 'yazl';

/** A text at a place: points from the lower left corner, as PDF counts. */
interface Placed {
  readonly text: string;
  readonly x: number;
  readonly y: number;
  readonly size?: number;
}

/** What a page of a made-up PDF has. */
export interface PdfPage {
  readonly texts?: readonly Placed[];
  /** Operators of a content stream, before the texts. */
  readonly operators?: string;
  readonly rotate?: number;
  /** Entries of its resources, beside the font F1. */
  readonly resources?: string;
  readonly crop?: readonly number[];
  /** Numbers of the objects that are its annotations: fields of forms, for example. */
  readonly annotations?: readonly number[];
}

/** A PDF of Helvetica on pages of 600 x 800 points. `extra` are further objects, numbered from 10 on; `catalog` and `trailer` further entries. */
export function pdf(
  pages: readonly PdfPage[],
  { extra = [] as readonly (string | Buffer)[], catalog = '', trailer = '' } = {},
): Buffer {
  const first = 10 + extra.length;
  const objects = new Map<number, string | Buffer>();
  objects.set(1, `<< /Type /Catalog /Pages 2 0 R ${catalog} >>`);
  const kids = pages.map((_, i) => `${first + 2 * i} 0 R`).join(' ');
  objects.set(2, `<< /Type /Pages /Kids [${kids}] /Count ${pages.length} >>`);
  objects.set(3, '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>');
  for (const [i, body] of extra.entries()) objects.set(10 + i, body);
  for (const [i, page] of pages.entries()) {
    const { texts = [], operators = '', rotate = 0, resources = '', crop, annotations = [] } = page;
    objects.set(
      first + 2 * i,
      `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] ${crop ? `/CropBox [${crop.join(' ')}]` : ''} /Rotate ${rotate} /Annots [${annotations.map((id) => `${id} 0 R`).join(' ')}] /Resources << /Font << /F1 3 0 R >> ${resources} >> /Contents ${first + 2 * i + 1} 0 R >>`,
    );
    const shown = texts.map(
      ({ text, x, y, size = 10 }) =>
        `BT /F1 ${size} Tf ${x} ${y} Td (${text.replace(/[\\()]/g, '\\$&')}) Tj ET`,
    );
    objects.set(first + 2 * i + 1, stream([operators, ...shown].join('\n')));
  }
  return written(objects, trailer);
}

/** A stream with its dictionary. */
export function stream(content: string | Buffer, entries = ''): Buffer {
  const bytes = Buffer.from(content as string, 'latin1');
  return Buffer.concat([
    Buffer.from(`<< /Length ${bytes.length} ${entries} >>\nstream\n`),
    bytes,
    Buffer.from('\nendstream'),
  ]);
}

/** Bytes that take little as they stand and `size` when they are unpacked. */
export function packedZeros(size: number): Buffer {
  return deflateSync(Buffer.alloc(size), { level: 9 });
}

function written(objects: ReadonlyMap<number, string | Buffer>, trailer: string): Buffer {
  const parts: Buffer[] = [Buffer.from('%PDF-1.7\n')];
  const places = new Map<number, number>();
  let at = parts[0]!.length;
  for (const [id, body] of objects) {
    places.set(id, at);
    const part = Buffer.concat([
      Buffer.from(`${id} 0 obj\n`),
      Buffer.from(body as string, 'latin1'),
      Buffer.from('\nendobj\n'),
    ]);
    parts.push(part);
    at += part.length;
  }
  const size = Math.max(...objects.keys()) + 1;
  const rows = Array.from({ length: size }, (_, id) => {
    const place = places.get(id);
    return place === undefined ? '0000000000 65535 f \n' : `${String(place).padStart(10, '0')} 00000 n \n`;
  });
  parts.push(
    Buffer.from(
      `xref\n0 ${size}\n${rows.join('')}trailer\n<< /Size ${size} /Root 1 0 R ${trailer} >>\nstartxref\n${at}\n%%EOF\n`,
    ),
  );
  return Buffer.concat(parts);
}

/** A .docx file of this body (the XML within `w:body`), and of these notes (the XML within `w:footnotes` or `w:endnotes`). */
export async function docx(
  body: string,
  notes: { readonly footnotes?: string; readonly endnotes?: string } = {},
): Promise<Buffer> {
  const zip = new ZipFile();
  const add = (name: string, root: string, content: string): void =>
    zip.addBuffer(
      Buffer.from(
        `<?xml version="1.0" encoding="UTF-8"?><w:${root} xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">${content}</w:${root}>`,
      ),
      `word/${name}.xml`,
    );
  add('document', 'document', `<w:body>${body}</w:body>`);
  for (const [name, content] of Object.entries(notes)) add(name, name, content);
  zip.end();
  const parts: Buffer[] = [];
  for await (const part of zip.outputStream) parts.push(part as Buffer);
  return Buffer.concat(parts);
}
