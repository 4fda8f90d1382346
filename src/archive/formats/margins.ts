/**
 * Headers, footers and page numbers: what stands at the upper or lower edge of several pages that follow each other, at the same place and
 * with the same words but for the numbers in them. It belongs to no sentence, and would tear those apart that run over the end of a page.
 */
import type { Page, Row } from './page.js';

/** So many rows at each edge may be one. */
const EDGE = 3;
/** Points by which a header may move from page to page. */
const SAME_PLACE = 4;
/** Pages around one on which the same is looked for, and on how many it must stand. Left and right pages may differ. */
const NEAR = 6;
const OFTEN = 2;

const PAGE_NUMBER = /^\W*(page|seite|p\.)?\s*(\d{1,5}|[ivxlcdm]{1,8})(\s*(\/|of|von)\s*\d+)?\W*$/i;

/** The rows of each page that are no header and no footer. `pages` follow each other in a document. */
export function withoutMargins(pages: readonly Page[]): (readonly Row[])[] {
  const edges = pages.map(({ rows, height }) => edgesOf(rows, height));
  return pages.map(({ rows, height }, at) => {
    if (height === undefined) return rows;
    const margins = new Set<Row>();
    for (const edge of edges[at]!) {
      let count = 0;
      for (let i = Math.max(0, at - NEAR); i <= Math.min(pages.length - 1, at + NEAR); i++) {
        if (i === at) continue;
        if (edges[i]!.some((other) => isSame(edge, other))) count++;
        // The name of a chapter changes in it, and the number beside it goes on.
        if (edges[i]!.some((other) => goesOn(edge, other, i - at))) count += OFTEN;
      }
      const number = PAGE_NUMBER.test(edge.row.text) && edge.outermost;
      if (count >= OFTEN || (number && pages.length > 1)) margins.add(edge.row);
    }
    const rest = rows.filter((row) => !margins.has(row));
    // Where all repeats, as on forms, it is what the page says.
    return rest.length > 0 ? rest : rows;
  });
}

interface Edge {
  readonly row: Row;
  readonly words: string;
  readonly top: number;
  /** The numbers that it begins and ends with. */
  readonly numbers: readonly number[];
  /** Whether nothing stands between it and the edge. */
  readonly outermost: boolean;
}

function edgesOf(rows: readonly Row[], height: number | undefined): Edge[] {
  if (height === undefined) return [];
  const placed = rows.filter((row) => row.box !== undefined).sort((a, b) => a.box![1] - b.box![1]);
  const upper = placed.slice(0, EDGE).filter(({ box }) => box![1] < 0.2 * height);
  const lower = placed.slice(-EDGE).filter(({ box }) => box![3] > 0.8 * height);
  const of = (row: Row): Edge => ({
    row,
    words: row.text.replace(/[\d\s]+/g, '#').toLowerCase(),
    top: row.box![1],
    numbers: [/^\d{1,5}(?=\s|$)/, /(?<=^|\s)\d{1,5}$/].flatMap(
      (form) => form.exec(row.text)?.map(Number) ?? [],
    ),
    outermost: row === placed[0] || row === placed.at(-1),
  });
  return [...new Set([...upper, ...lower])].map(of);
}

function isSame(a: Edge, b: Edge): boolean {
  return a.words === b.words && Math.abs(a.top - b.top) <= SAME_PLACE;
}

/** Whether b, so many pages further, has a's number and as many more. */
function goesOn(a: Edge, b: Edge, pages: number): boolean {
  return (
    Math.abs(a.top - b.top) <= SAME_PLACE &&
    a.numbers.some((number) => b.numbers.some((other) => other === number + pages))
  );
}
