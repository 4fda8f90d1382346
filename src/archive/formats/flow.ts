/** Documents that flow: they have no pages until somebody prints them, so that they are cut into pages of their own. */
import type { OpenDocument, Page, Row } from './page.js';

/** Characters of such a page: about as many as a printed one has. */
const PAGE_CHARACTERS = 3000;

/** Collects rows, and ends a page at a page break, or where a row begins a paragraph behind so many characters. */
export class FlowPages {
  private readonly pages: Page[] = [];
  private rows: Row[] = [];
  private characters = 0;

  add(row: Row): void {
    const full = this.characters >= PAGE_CHARACTERS && row.begins === true;
    if (full || this.characters >= 2 * PAGE_CHARACTERS) this.break();
    this.rows.push(row);
    this.characters += row.text.length;
  }

  break(): void {
    if (this.rows.length === 0) return;
    this.pages.push({ state: 'read', rows: this.rows });
    this.rows = [];
    this.characters = 0;
  }

  /** Whether no row was added. */
  get isEmpty(): boolean {
    return this.pages.length === 0 && this.rows.length === 0;
  }

  /** A document of these pages; one without text has a single empty one. */
  document(): OpenDocument {
    this.break();
    const pages: readonly Page[] = this.pages.length > 0 ? this.pages : [{ state: 'empty', rows: [] }];
    return { pages: pages.length, page: (number) => pages[number - 1]!, close() {} };
  }
}
