/** Which documents a model reads next, and how many tokens of each, so that the device is busy and its programs are few. */
import type { LanguageModel } from '../generate/index.js';
import type { DocumentReading } from './document-reading.js';

/** What one run reads: so many tokens of each document. */
export type Run = readonly { readonly reading: DocumentReading; readonly count: number }[];

/** How documents are read side by side on a model's device. */
export interface Planning {
  /** Documents that are open at most. */
  readonly open: number;
  /** Tokens of each that are fetched before they are read; none are waited for while others can be read, if the device computes by itself. */
  readonly fetched: number;
  /** Runs that are at work at a time. */
  readonly ahead: number;
  /** Documents whose states are being written, while others are read. */
  readonly finishing: number;
  /** The next run; undefined where there is nothing to read, or where it is better to wait for those that are at work. */
  next(open: readonly DocumentReading[], isWorking: boolean): Run | undefined;
}

/** For this many documents side by side. */
export function planningFor(model: LanguageModel, batch: number): Planning {
  return model.pieceOf ? inPieces(model.pieceOf(batch), batch) : asTheyAre(model, batch);
}

/**
 * Rows of a run are of one length. What computes on this thread has no time for anything else meanwhile, so that no second run and no
 * second state is at work.
 */
function asTheyAre({ chunk }: LanguageModel, batch: number): Planning {
  return {
    open: batch,
    fetched: chunk,
    ahead: 1,
    finishing: 1,
    next(open) {
      const groups = new Map<number, DocumentReading[]>();
      for (const each of open) {
        const count = Math.min(each.left, chunk);
        if (count > 0) groups.set(count, [...(groups.get(count) ?? []), each]);
      }
      // The most of them, and of as many those with more to read.
      const [best] = [...groups].sort(([a, some], [b, others]) => others.length - some.length || b - a);
      return best?.[1].map((reading) => ({ reading, count: best[0] }));
    },
  };
}

/** Documents that are open, in batches: one is read, one comes to its documents' ends, and one waits. */
const BATCHES = 3;
/** Pieces of each row in a run. */
const PIECES = 2;
/**
 * Tokens of a document that are fetched ahead: those that are read stay the same ones then, and are not copied to another batch, and a text
 * whose memory grows gets as much room as it needs at once.
 */
const FETCHED = 32_768;

/**
 * What is left of a document behind its last long piece is read in many short ones, each of which takes about as long for a whole batch as
 * for one row. So documents wait there until a batch has come so far, while others take their places.
 */
function inPieces(piece: number, batch: number): Planning {
  return {
    open: BATCHES * batch,
    fetched: FETCHED,
    ahead: 2,
    finishing: 4,
    next(open, isWorking) {
      const long = open.filter(({ left }) => left >= piece);
      const short = open.filter(({ left, isFetched }) => left > 0 && left < piece && isFetched);
      const whole = [long, short].find(({ length }) => length >= batch);
      if (!whole && isWorking) return undefined;
      const rows = (whole ?? (long.length > 0 ? long : short)).slice(0, batch);
      if (rows.length === 0) return undefined;
      const pieces = (left: number): number => Math.min(Math.floor(left / piece), PIECES) * piece;
      return rows.map((reading) => ({ reading, count: pieces(reading.left) || reading.left }));
    },
  };
}
