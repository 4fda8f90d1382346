/** What is read of a page, whatever the document's format. */

/** [left, top, right, bottom] in points (1/72 inch) from the page's upper left corner, as it is shown. */
export type Box = readonly [left: number, top: number, right: number, bottom: number];

/** A format of documents. */
export type Kind = 'pdf' | 'docx' | 'html' | 'markdown' | 'text';

/** A line of text, as it stands on the page; cells of a table are separated by tabs. */
export interface Row {
  readonly text: string;
  /** Absent where the format has no pages that are drawn. */
  readonly box?: Box;
  /** Of its characters, in points. */
  readonly size?: number;
  /** Whether the format itself says that it is a heading. */
  readonly heading?: boolean;
  /** Whether a paragraph begins with it, where the format says so. */
  readonly begins?: boolean;
}

/** `scanned`: a picture of a text, without the text. `failed`: it has something on it that could not be read. */
export type PageState = 'read' | 'empty' | 'scanned' | 'failed';

/** All states that a page can be in once it was opened. */
export const PAGE_STATES: readonly PageState[] = ['read', 'empty', 'scanned', 'failed'];

/** A page as a format gives it: its text in rows, or why there is none. */
export interface Page {
  readonly state: PageState;
  /** Why it failed. */
  readonly why?: string;
  /** In points; absent where nothing is drawn. */
  readonly width?: number;
  readonly height?: number;
  /** In the order in which they are read. */
  readonly rows: readonly Row[];
}

/** A document that is open for reading. */
export interface OpenDocument {
  readonly pages: number;
  /** Throws what is wrong with that page. Pages are counted from 1. */
  page(number: number): Promise<Page> | Page;
  /** The page as it is seen, `scale` pixels a point: bytes of RGBA. Absent where nothing is drawn. */
  render?(number: number, scale: number): { width: number; height: number; data: Uint8Array };
  close(): void;
}

/** A document cannot be read at all: encrypted, truncated, no such format. */
export class UnreadableError extends Error {}
