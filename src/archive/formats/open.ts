/** Opens a document of any format. */
import { openDocx } from './docx.js';
import { openHtml } from './html.js';
import type { Kind, OpenDocument } from './page.js';
import type { Pdfium } from './pdf.js';
import { openText } from './text.js';

/** `pdfium` is called for PDFs alone. Throws `UnreadableError`; system errors. */
export const OPENERS: Readonly<
  Record<Kind, (path: string, pdfium: () => Promise<Pdfium>) => Promise<OpenDocument>>
> = {
  pdf: async (path, pdfium) => (await pdfium()).open(path),
  docx: openDocx,
  html: openHtml,
  markdown: (path) => openText(path, { markdown: true }),
  text: (path) => openText(path),
};
