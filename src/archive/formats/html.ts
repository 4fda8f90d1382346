/** HTML: its text in blocks, without scripts, styles and navigation; rows of tables as lines with tabs between the cells. */
import { Parser } from 'htmlparser2';
import { FlowPages } from './flow.js';
import type { OpenDocument } from './page.js';
import { textOf } from './text.js';

/** What is no text, and what is none that people come for. */
const NO_TEXT = ['script', 'style', 'template', 'svg'];
const BESIDE = ['noscript', 'nav'];
const HEADINGS = new Set(['h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'title']);
const INLINE = new Set(
  'a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark nobr output q s samp small span strike strong sub sup time tt u var wbr img input button'.split(
    ' ',
  ),
);

/** Throws `UnreadableError`; system errors. */
export async function openHtml(path: string): Promise<OpenDocument> {
  const html = await textOf(path);
  const pages = pagesOf(html, new Set([...NO_TEXT, ...BESIDE]));
  // Where nothing else has a text, the links of a `nav` are it, or what a `nav` has around it that nobody closed.
  return (pages.isEmpty ? pagesOf(html, new Set(NO_TEXT)) : pages).document();
}

/** The rows of a page without the elements that are skipped. Elements may be left open, and those that HTML implies may be missing. */
function pagesOf(html: string, skip: ReadonlySet<string>): FlowPages {
  const pages = new FlowPages();
  const block = new Block();
  let heading = false;
  let skipped = 0;
  let preformatted = 0;
  let cells = 0;
  const end = (): void => {
    const text = block.take();
    const lines = preformatted > 0 ? text.split('\n') : [text];
    for (const [i, line] of lines.entries()) {
      const shown = preformatted > 0 ? line.trimEnd() : line.trim();
      if (shown.trim() !== '') pages.add({ text: shown, begins: i === 0, ...(heading && { heading }) });
    }
  };
  const parser = new Parser(
    {
      onopentagname(name) {
        if (skip.has(name)) skipped++;
        if (INLINE.has(name)) return;
        if (name === 'td' || name === 'th') {
          if (cells++ > 0) block.endWith('\t');
          return;
        }
        if (name === 'br') {
          if (preformatted > 0) block.add('\n');
          else end();
          return;
        }
        // What stands in a cell stays in its line.
        if (cells > 0 && name !== 'tr' && name !== 'table') return;
        end();
        if (name === 'tr') cells = 0;
        if (name === 'pre') preformatted++;
        heading = HEADINGS.has(name);
      },
      ontext(data) {
        if (skipped > 0) return;
        if (preformatted > 0) block.add(data);
        else {
          const flat = data.replace(/[\s\u00a0]+/g, ' ');
          block.add(block.wantsNoSpace ? flat.trimStart() : flat);
        }
      },
      onclosetag(name) {
        if (skip.has(name)) skipped--;
        if (INLINE.has(name) || name === 'td' || name === 'th' || name === 'br') return;
        if (cells > 0 && name !== 'tr' && name !== 'table') {
          block.endWith(' ');
          return;
        }
        end();
        if (name === 'tr' || name === 'table') cells = 0;
        if (name === 'pre') preformatted = Math.max(0, preformatted - 1);
        heading = false;
      },
    },
    // XHTML writes `<script src="..."/>`, which would be open until the end.
    { decodeEntities: true, lowerCaseTags: true, recognizeSelfClosing: true },
  );
  parser.write(html);
  parser.end();
  end();
  return pages;
}

/** The text of a block. It comes in as many parts as it has entities and elements, so that none may cost as much as all before it. */
class Block {
  private parts: string[] = [];

  /** Whether it is empty, or ends with a space or a tab. */
  get wantsNoSpace(): boolean {
    return /^[ \t]?$/.test(this.parts.at(-1)?.at(-1) ?? '');
  }

  add(text: string): void {
    if (text !== '') this.parts.push(text);
  }

  /** Puts this in place of the white space at its end. */
  endWith(space: string): void {
    for (let last = this.parts.pop(); last !== undefined; last = this.parts.pop()) {
      const trimmed = last.trimEnd();
      if (trimmed === '') continue;
      this.parts.push(trimmed);
      break;
    }
    this.parts.push(space);
  }

  /** All of it; it is empty then. */
  take(): string {
    const text = this.parts.join('');
    this.parts = [];
    return text;
  }
}
