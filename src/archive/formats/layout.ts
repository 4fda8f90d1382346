/**
 * The reading order of a page. Pieces of lines come in the order in which they were drawn, which need not be that in which they are
 * read: columns may be drawn line by line across, footers first. So the order is made of where they stand: columns are found as strips of
 * white that run down between pieces of prose, and are read one after the other; what stands side by side without being prose is a table,
 * and is kept as lines with tabs between the cells.
 */
import type { Box, Row } from './page.js';

/** A piece of a line without wide gaps in it. */
export interface Piece {
  readonly text: string;
  readonly box: Box;
  /** Of its characters. */
  readonly size: number;
}

/** Pieces that stand on one line, from left to right. */
interface Line {
  readonly pieces: readonly Piece[];
  readonly top: number;
  readonly bottom: number;
}

/** A gutter between columns has at least so many lines with text on each of its sides. */
const COLUMN_LINES = 4;
/** Prose fills its column: the lines of a column are, in the median, at least this share of its width... */
const FILLED = 0.6;
/** ...and this many characters. Cells of a table are shorter. */
const PROSE = 18;

/** Rows in the order in which they are read. */
export function readingOrder(pieces: readonly Piece[]): Row[] {
  return inColumns(linesOf(pieces)).map(({ pieces: parts }) => ({
    text: parts.map(({ text }) => text).join('\t'),
    box: around(parts.map(({ box }) => box)),
    size: Math.max(...parts.map(({ size }) => size)),
  }));
}

/** The smallest box around others. */
export function around(boxes: readonly Box[]): Box {
  let [left, top, right, bottom] = boxes[0]!;
  for (const [l, t, r, b] of boxes) {
    left = Math.min(left, l);
    top = Math.min(top, t);
    right = Math.max(right, r);
    bottom = Math.max(bottom, b);
  }
  return [left, top, right, bottom];
}

/** Lines from the top down. A piece belongs to a line when the middle of the smaller of the two lies within the other. */
function linesOf(pieces: readonly Piece[]): Line[] {
  const sorted = [...pieces].sort((a, b) => middle(a.box) - middle(b.box));
  const lines: { pieces: Piece[]; top: number; bottom: number }[] = [];
  for (const piece of sorted) {
    const [, top, , bottom] = piece.box;
    const line = lines.at(-1);
    const onIt =
      line !== undefined &&
      middle(piece.box) < line.bottom - 0.2 * (line.bottom - line.top) &&
      // One above another would overlap: such pieces are lines of their own, however tight they are set.
      !line.pieces.some((other) => overlap(other.box, piece.box) > 1);
    if (!onIt) lines.push({ pieces: [piece], top, bottom });
    else {
      line.pieces.push(piece);
      // A raised or large character makes the line no taller than its text.
      if (piece.text.length > 2) {
        line.top = Math.min(line.top, top);
        line.bottom = Math.max(line.bottom, bottom);
      }
    }
  }
  for (const line of lines) line.pieces.sort((a, b) => a.box[0] - b.box[0]);
  return lines;
}

function middle([, top, , bottom]: Box): number {
  return (top + bottom) / 2;
}

/** Points that two boxes share across. */
function overlap(a: Box, b: Box): number {
  return Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
}

/** The lines with each column's after one another. */
function inColumns(lines: readonly Line[], depth = 0): Line[] {
  const found = depth > 8 ? undefined : gutterOf(lines);
  if (!found) return [...lines];
  const { x, first, last } = found;
  const within = lines.slice(first, last + 1);
  return [
    ...inColumns(lines.slice(0, first), depth + 1),
    ...inColumns(
      sideOf(within, (box) => box[2] <= x),
      depth + 1,
    ),
    ...inColumns(
      sideOf(within, (box) => box[2] > x),
      depth + 1,
    ),
    ...inColumns(lines.slice(last + 1), depth + 1),
  ];
}

/** What stands on one side of a gutter, in lines of its own. */
function sideOf(lines: readonly Line[], isThere: (box: Box) => boolean): Line[] {
  return linesOf(lines.flatMap(({ pieces }) => pieces.filter(({ box }) => isThere(box))));
}

/** The gutter between columns that runs down the most lines. */
function gutterOf(lines: readonly Line[]): { x: number; first: number; last: number } | undefined {
  const candidates = new Set<number>();
  for (const { pieces } of lines) {
    for (const [i, { box }] of pieces.entries()) {
      const next = pieces[i + 1];
      if (next) candidates.add(Math.round((box[2] + next.box[0]) / 2));
      else candidates.add(Math.round(box[2] + 6));
    }
  }
  let best: { x: number; first: number; last: number; length: number } | undefined;
  for (const x of candidates) {
    for (const run of runsBeside(lines, x)) {
      const length = run.last - run.first;
      if (length > (best?.length ?? 0) && isGutter(lines.slice(run.first, run.last + 1), x)) {
        best = { x, ...run, length };
      }
    }
  }
  return best;
}

/** Stretches of lines that nothing crosses at `x`. */
function runsBeside(lines: readonly Line[], x: number): { first: number; last: number }[] {
  const runs: { first: number; last: number }[] = [];
  let first = 0;
  for (let i = 0; i <= lines.length; i++) {
    const crossed = lines[i]?.pieces.some(({ box }) => box[0] < x - 2 && box[2] > x + 2) ?? true;
    if (!crossed) continue;
    if (i - first >= COLUMN_LINES) runs.push(trimmed(lines, x, first, i - 1));
    first = i + 1;
  }
  return runs;
}

/** Without lines at either end that stand on one side alone: a heading above two columns belongs to neither. */
function trimmed(
  lines: readonly Line[],
  x: number,
  first: number,
  last: number,
): { first: number; last: number } {
  const rightAt = (i: number): boolean => lines[i]!.pieces.some(({ box }) => box[0] >= x - 2);
  const leftAt = (i: number): boolean => lines[i]!.pieces.some(({ box }) => box[2] <= x + 2);
  let from = first;
  // The last column may be the shorter one, so that only the beginning is cut where lines stand on the left alone.
  while (from < last && !(rightAt(from) || rightAt(from + 1))) from++;
  while (from < last && !(leftAt(from) || leftAt(from + 1))) from++;
  return { first: from, last };
}

/** Whether what stands on both sides is prose. */
function isGutter(lines: readonly Line[], x: number): boolean {
  const left = lines.flatMap(({ pieces }) => pieces.filter(({ box }) => box[2] <= x + 2));
  const right = lines.flatMap(({ pieces }) => pieces.filter(({ box }) => box[0] >= x - 2));
  return [left, right].every((side) => {
    if (side.length < COLUMN_LINES) return false;
    const [from, , to] = around(side.map(({ box }) => box));
    const widths = side.map(({ box }) => box[2] - box[0]);
    const counts = side.map(({ text }) => text.length);
    return median(widths) >= FILLED * (to - from) && median(counts) >= PROSE;
  });
}

/** The middle value, the upper one of two; 0 where there is none. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
}
