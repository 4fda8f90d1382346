/** Characters of a PDF, one after the other as PDFium gives them, as pieces of lines. */
import type { Piece } from './layout.js';
import type { Box } from './page.js';

/** What PDFium gives for a hyphen at the end of a line. */
const BROKEN_HYPHEN = 0x02;

/** Joins characters to pieces of lines. A wide gap, a step back or another line ends a piece. */
export class PieceCollector {
  private readonly pieces: Piece[] = [];
  private text = '';
  private box: [number, number, number, number] = [0, 0, 0, 0];
  private last: Box | undefined;
  private spaced = false;
  characters = 0;

  add(code: number, box: Box): void {
    this.characters++;
    const size = box[3] - box[1];
    const { last } = this;
    if (last) {
      const gap = box[0] - last[2];
      const lower = Math.abs((box[1] + box[3]) / 2 - (last[1] + last[3]) / 2);
      // A raised number or a drop cap is on the line still; gaps of justified lines stay below 1.2 of the size.
      if (lower > 0.6 * Math.max(size, last[3] - last[1]) || gap > 1.2 * size || gap < -2 * size) this.end();
    }
    if (this.text === '') this.box = [...box];
    else {
      if (this.spaced) this.text += ' ';
      this.box[0] = Math.min(this.box[0], box[0]);
      this.box[1] = Math.min(this.box[1], box[1]);
      this.box[2] = Math.max(this.box[2], box[2]);
      this.box[3] = Math.max(this.box[3], box[3]);
    }
    this.text += code === BROKEN_HYPHEN ? '-' : String.fromCodePoint(code);
    this.last = box;
    this.spaced = false;
  }

  space(): void {
    this.spaced = this.text !== '';
  }

  end(): void {
    const text = this.text.trim();
    if (text !== '') {
      this.pieces.push({ text: asTyped(text), box: this.box, size: this.box[3] - this.box[1] });
    }
    this.text = '';
    this.last = undefined;
    this.spaced = false;
  }

  all(): Piece[] {
    this.end();
    return this.pieces;
  }
}

/** Ligatures as letters, and letters with their accents, as people type them. */
function asTyped(text: string): string {
  return text.normalize('NFC').replace(/[\ufb00-\ufb06]/g, (ligature) => ligature.normalize('NFKC'));
}
