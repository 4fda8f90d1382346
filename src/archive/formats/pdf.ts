/**
 * PDFs, by PDFium in WebAssembly: Chrome's own reader. It reads the file piece by piece as it needs it, so that a large one takes no more
 * memory than a small one, and it draws pages without any native library.
 */
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { WrappedPdfiumModule } from '@embedpdf/pdfium';
import { type Piece, readingOrder } from './layout.js';
import { type Box, type OpenDocument, type Page, type Row, UnreadableError } from './page.js';
import { PieceCollector } from './pieces.js';

/** `FPDF_GetLastError` after opening, of fpdfview.h. */
const REASONS: Readonly<Record<number, string>> = {
  2: 'it cannot be opened',
  3: 'it is no PDF, or is truncated or damaged',
  4: 'it is encrypted and needs a password',
  5: 'it is encrypted in a way that is not known',
  6: 'its page cannot be loaded',
};

/** Of `FPDFPageObj_GetType`, of fpdf_edit.h. */
const TEXT = 1;
const IMAGE = 3;
const FORM = 5;
/** Of `FPDFAnnot_GetSubtype`, of fpdf_annot.h: notes in the margin, links, and windows that open. They have no text on the page. */
const UNSEEN: ReadonlySet<number> = new Set([1, 2, 16]);
/** Of a page or a form so many objects are looked at, and so many forms within each other. */
const MOST_OBJECTS = 10_000;
const MOST_FORMS = 8;
/** More characters than a page of print can have: it is made to use up memory. */
const MOST_CHARACTERS = 500_000;
/** A page whose pictures cover this share of it and which has no more characters than these is a scan. */
const COVERED = 0.4;
const FEW_CHARACTERS = 12;
/**
 * So is a page that pictures cover nearly whole, with no more text over them than stamps have: a number, whence and when it was downloaded. A
 * text that is not shown is what somebody has recognised on the picture.
 */
const WHOLE = 0.8;
const STAMP_CHARACTERS = 250;
/** Of `FPDFTextObj_GetTextRenderMode`, of fpdf_edit.h. */
const INVISIBLE = 3;
/** A page with a larger share of characters that no font gives a meaning to cannot be read. */
const UNKNOWN_SHARE = 0.3;
/** Characters that are asked which way they run. */
const SAMPLES = 40;

/** Places on a page as it is shown, and on the same page turned so that text which leans by so many quarters runs to the right. */
type Turn = Record<'to' | 'back', (box: Box, width: number, height: number) => Box>;
const TURNS: readonly Turn[] = [
  { to: (box) => box, back: (box) => box },
  {
    to: ([l, t, r, b], _, height) => [height - b, l, height - t, r],
    back: ([l, t, r, b], _, height) => [t, height - r, b, height - l],
  },
  {
    to: ([l, t, r, b], width, height) => [width - r, height - b, width - l, height - t],
    back: ([l, t, r, b], width, height) => [width - r, height - b, width - l, height - t],
  },
  {
    to: ([l, t, r, b], width) => [t, width - r, b, width - l],
    back: ([l, t, r, b], width) => [width - b, l, width - t, r],
  },
];

/** PDFium, as WebAssembly. */
export class Pdfium {
  private readonly scratch: number;

  private constructor(private readonly module: WrappedPdfiumModule) {
    this.scratch = module.pdfium.wasmExports.malloc(64);
  }

  /** @param folder that of the package `@embedpdf/pdfium` */
  static async load(folder: string): Promise<Pdfium> {
    const { init } = (await import(
      pathToFileURL(join(folder, 'dist/index.js')).href
    )) as typeof import('@embedpdf/pdfium');
    const wasm = readFileSync(join(folder, 'dist/pdfium.wasm'));
    const wasmBinary = wasm.buffer.slice(wasm.byteOffset, wasm.byteOffset + wasm.byteLength) as ArrayBuffer;
    const module = await init({ wasmBinary });
    module.PDFiumExt_Init();
    return new Pdfium(module);
  }

  /** Throws `UnreadableError`. */
  open(path: string): PdfDocument {
    const { module } = this;
    const { pdfium } = module;
    const raw = rawOf(module);
    const file = openSync(path, 'r');
    const { size } = fstatSync(file);
    if (size >= 2 ** 32) {
      closeSync(file);
      throw new UnreadableError('it has more than 4 GB: split it');
    }
    // FPDF_FILEACCESS: the length, a function that reads, and what it is given.
    const access = pdfium.wasmExports.malloc(12);
    const read = pdfium.addFunction((_: number, position: number, buffer: number, length: number): number => {
      try {
        return Number(
          readSync(file, raw.HEAPU8, buffer >>> 0, length >>> 0, position >>> 0) === length >>> 0,
        );
      } catch {
        return 0;
      }
    }, 'iiiii');
    raw.HEAPU32.set([size, read, 0], access >> 2);
    const document = module.FPDF_LoadCustomDocument(access, '');
    const close = (): void => {
      if (document !== 0) module.FPDF_CloseDocument(document);
      pdfium.removeFunction(read);
      pdfium.wasmExports.free(access);
      closeSync(file);
    };
    // A file of a kilobyte may claim a million pages, each of which would be one that failed: it has no more pages than bytes.
    const pages = document === 0 ? 0 : Math.min(module.FPDF_GetPageCount(document), size);
    if (pages === 0) {
      const reason =
        document === 0 ? (REASONS[module.FPDF_GetLastError()] ?? 'it cannot be read') : 'it has no pages';
      close();
      throw new UnreadableError(reason);
    }
    return new PdfDocument(module, this.scratch, document, pages, close);
  }
}

class PdfDocument implements OpenDocument {
  private form: { readonly info: number; readonly environment: number } | undefined;

  constructor(
    private readonly module: WrappedPdfiumModule,
    private readonly scratch: number,
    private readonly document: number,
    readonly pages: number,
    private readonly closeFile: () => void,
  ) {}

  close(): void {
    if (this.form) {
      this.module.PDFiumExt_ExitFormFillEnvironment(this.form.environment);
      this.module.PDFiumExt_CloseFormFillInfo(this.form.info);
    }
    this.closeFile();
  }

  page(number: number): Page {
    return this.withPage(number, (page, width, height) => {
      const { pieces, turn, characters, unknown } = this.pieces(page, width, height);
      const rows = (): Row[] =>
        readingOrder(pieces).map((row) => ({ ...row, box: turn.back(row.box!, width, height) }));
      if (unknown > FEW_CHARACTERS && unknown > UNKNOWN_SHARE * (characters + unknown)) {
        const why = `its fonts do not say which characters they draw (${unknown} of ${characters + unknown})`;
        return { state: 'failed', why, width, height, rows: [] };
      }
      if (characters <= STAMP_CHARACTERS) {
        const { share, pictures, hidden, any } = this.drawn(page, width, height);
        if (characters <= FEW_CHARACTERS ? share >= COVERED : pictures >= WHOLE && !hidden) {
          return { state: 'scanned', width, height, rows: rows() };
        }
        if (characters === 0) {
          if (!any) return { state: 'empty', width, height, rows: [] };
          return { state: 'scanned', why: 'drawings without text', width, height, rows: [] };
        }
      }
      return { state: 'read', width, height, rows: rows() };
    });
  }

  /** The page as it is seen, `scale` pixels a point: bytes of RGBA. */
  render(number: number, scale: number): { width: number; height: number; data: Uint8Array } {
    const { module } = this;
    return this.withPage(number, (page, pointsWide, pointsHigh) => {
      const fitting = Math.min(scale, 4000 / Math.max(pointsWide, pointsHigh));
      const width = Math.max(1, Math.round(pointsWide * fitting));
      const height = Math.max(1, Math.round(pointsHigh * fitting));
      const bitmap = module.FPDFBitmap_Create(width, height, 0);
      if (bitmap === 0) throw new Error('there is not enough memory to draw it');
      try {
        module.FPDFBitmap_FillRect(bitmap, 0, 0, width, height, 0xffffffff);
        // With annotations, and bytes as RGBA.
        module.FPDF_RenderPageBitmap(bitmap, page, 0, 0, width, height, 0, 0x01 | 0x10);
        const from = module.FPDFBitmap_GetBuffer(bitmap);
        return { width, height, data: rawOf(module).HEAPU8.slice(from, from + 4 * width * height) };
      } finally {
        module.FPDFBitmap_Destroy(bitmap);
      }
    });
  }

  private withPage<T>(number: number, work: (page: number, width: number, height: number) => T): T {
    const { module } = this;
    let page = this.load(number);
    if (this.hasFields(page)) {
      this.drawFields(page);
      module.FPDF_ClosePage(page);
      page = this.load(number);
    }
    try {
      return work(page, module.FPDF_GetPageWidthF(page), module.FPDF_GetPageHeightF(page));
    } finally {
      module.FPDF_ClosePage(page);
    }
  }

  private load(number: number): number {
    const page = this.module.FPDF_LoadPage(this.document, number - 1);
    if (page === 0) throw new Error('it is damaged');
    return page;
  }

  /** Whether there is something on the page that is no content of it: fields of forms, texts that somebody has set on it, stamps. */
  private hasFields(page: number): boolean {
    const { module } = this;
    const count = Math.min(module.FPDFPage_GetAnnotCount(page), MOST_OBJECTS);
    for (let i = 0; i < count; i++) {
      const annotation = module.FPDFPage_GetAnnot(page, i);
      if (annotation === 0) continue;
      const subtype = module.FPDFAnnot_GetSubtype(annotation);
      module.FPDFPage_CloseAnnot(annotation);
      if (!UNSEEN.has(subtype)) return true;
    }
    return false;
  }

  /** Makes what fields show a part of the page's content, in memory, for whoever loads the page again: PDFium finds texts in content alone. */
  private drawFields(page: number): void {
    const { module } = this;
    if (!this.form) {
      const info = module.PDFiumExt_OpenFormFillInfo();
      this.form = { info, environment: module.PDFiumExt_InitFormFillEnvironment(this.document, info) };
    }
    // A field whose file says what it holds, and not how that looks, is drawn by its font.
    module.FORM_OnAfterLoadPage(page, this.form.environment);
    module.FORM_OnBeforeClosePage(page, this.form.environment);
    module.FPDFPage_Flatten(page, 0);
  }

  /** How most of the text is turned, as the page is shown: wide tables are often set so. */
  private turnOf(page: number, text: number, count: number): Turn {
    const { module } = this;
    const votes = [0, 0, 0, 0];
    const rotation = module.FPDFPage_GetRotation(page);
    for (let i = 0; i < count; i += Math.max(1, Math.floor(count / SAMPLES))) {
      if (module.FPDFText_IsGenerated(text, i) === 1) continue;
      const quarters = Math.round(module.FPDFText_GetCharAngle(text, i) / (Math.PI / 2)) - rotation;
      votes[((quarters % 4) + 4) % 4]!++;
    }
    return TURNS[votes.indexOf(Math.max(...votes))]!;
  }

  /** Pieces of lines, and how many characters stand for themselves and for nothing that is known. */
  private pieces(
    page: number,
    width: number,
    height: number,
  ): { pieces: Piece[]; turn: Turn; characters: number; unknown: number } {
    const { module, scratch } = this;
    const raw = rawOf(module);
    const text = module.FPDFText_LoadPage(page);
    if (text === 0) throw new Error('its text is damaged');
    try {
      const count = module.FPDFText_CountChars(text);
      if (count > MOST_CHARACTERS) throw new Error(`it has ${count} characters, and no page has as many`);
      const shown = this.shownFrom(page, width, height);
      const turn = this.turnOf(page, text, count);
      const collector = new PieceCollector();
      let unknown = 0;
      for (let i = 0; i < count; i++) {
        const code = raw._FPDFText_GetUnicode(text, i);
        if (code === 0x0d || code === 0x0a) {
          collector.end();
          continue;
        }
        const isUnknown = code === 0 || code === 0xfffd || (code >= 0xe000 && code <= 0xf8ff);
        if (isUnknown || (i & 7) === 0) {
          if (raw._FPDFText_HasUnicodeMapError(text, i) === 1) unknown += isUnknown ? 1 : 8;
          else if (isUnknown && code !== 0) unknown++;
        }
        if (isUnknown) continue;
        if (code === 0x20 || code === 0xa0) {
          collector.space();
          continue;
        }
        if (raw._FPDFText_GetLooseCharBox(text, i, scratch) === 0) continue;
        const [left, top, right, bottom] = raw.HEAPF32.subarray(
          scratch >> 2,
          (scratch >> 2) + 4,
        ) as unknown as Box;
        collector.add(code, turn.to(shown(left, top, right, bottom), width, height));
      }
      return { pieces: collector.all(), turn, characters: collector.characters, unknown };
    } finally {
      module.FPDFText_ClosePage(text);
    }
  }

  /** From coordinates of the file to those of the page as it is shown: turned, and cut to its crop box. */
  private shownFrom(
    page: number,
    width: number,
    height: number,
  ): (l: number, t: number, r: number, b: number) => Box {
    const { module, scratch } = this;
    const raw = rawOf(module);
    // Whole pixels come out, so that the page is taken to be large.
    const scale = 1000;
    const place = (x: number, y: number): [number, number] => {
      module.FPDF_PageToDevice(
        page,
        0,
        0,
        Math.round(width * scale),
        Math.round(height * scale),
        0,
        x,
        y,
        scratch,
        scratch + 4,
      );
      return [raw.HEAP32[scratch >> 2]! / scale, raw.HEAP32[(scratch >> 2) + 1]! / scale];
    };
    const [ox, oy] = place(0, 0);
    const [xx, xy] = place(100, 0);
    const [yx, yy] = place(0, 100);
    const [a, b, c, d] = [(xx - ox) / 100, (xy - oy) / 100, (yx - ox) / 100, (yy - oy) / 100];
    return (left, top, right, bottom) => {
      const x1 = ox + a * left + c * top;
      const y1 = oy + b * left + d * top;
      const x2 = ox + a * right + c * bottom;
      const y2 = oy + b * right + d * bottom;
      return [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
    };
  }

  /**
   * What is drawn: whether anything is; the share of the page that pictures and forms cover, and that of pictures and forms with pictures in
   * them; and whether there is text that is not shown.
   */
  private drawn(
    page: number,
    width: number,
    height: number,
  ): { any: boolean; share: number; pictures: number; hidden: boolean } {
    const { module, scratch } = this;
    const count = module.FPDFPage_CountObjects(page);
    let share = 0;
    let pictures = 0;
    let hidden = false;
    for (let i = 0; i < Math.min(count, MOST_OBJECTS); i++) {
      const object = module.FPDFPage_GetObject(page, i);
      const type = module.FPDFPageObj_GetType(object);
      if (type === TEXT) hidden ||= module.FPDFTextObj_GetTextRenderMode(object) === INVISIBLE;
      if (type !== IMAGE && type !== FORM) continue;
      if (!module.FPDFPageObj_GetBounds(object, scratch, scratch + 4, scratch + 8, scratch + 12)) continue;
      const [left, bottom, right, top] = rawOf(module).HEAPF32.subarray(scratch >> 2, (scratch >> 2) + 4);
      const part = (Math.max(0, right! - left!) * Math.max(0, top! - bottom!)) / (width * height);
      share += part;
      if (type === IMAGE) pictures += part;
      else {
        const within = this.inForm(object);
        if (within.picture) pictures += part;
        hidden ||= within.hidden;
      }
    }
    return { any: count > 0, share, pictures, hidden };
  }

  /** Whether there is a picture in a form, and text that is not shown. */
  private inForm(form: number, depth = 0): { picture: boolean; hidden: boolean } {
    const { module } = this;
    let picture = false;
    let hidden = false;
    const count = depth > MOST_FORMS ? 0 : module.FPDFFormObj_CountObjects(form);
    for (let i = 0; i < Math.min(count, MOST_OBJECTS); i++) {
      const object = module.FPDFFormObj_GetObject(form, i);
      const type = module.FPDFPageObj_GetType(object);
      if (type === IMAGE) picture = true;
      else if (type === TEXT) hidden ||= module.FPDFTextObj_GetTextRenderMode(object) === INVISIBLE;
      else if (type === FORM) {
        const within = this.inForm(object, depth + 1);
        picture ||= within.picture;
        hidden ||= within.hidden;
      }
    }
    return { picture, hidden };
  }
}

/** What the module's types leave out: its memory, and exports that are called for every character, past the wrappers that convert arguments. */
interface Raw {
  /** Views of the memory; where it grows there are new ones. */
  readonly HEAPU8: Uint8Array;
  readonly HEAPU32: Uint32Array;
  readonly HEAP32: Int32Array;
  readonly HEAPF32: Float32Array;
  _FPDFText_GetUnicode(text: number, index: number): number;
  _FPDFText_HasUnicodeMapError(text: number, index: number): number;
  _FPDFText_GetLooseCharBox(text: number, index: number, rect: number): number;
}

function rawOf({ pdfium }: WrappedPdfiumModule): Raw {
  return pdfium as unknown as Raw;
}
