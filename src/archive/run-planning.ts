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
  /** Documents whose pages are fetched at a time. */
  readonly filling: number;
  /** Runs that are at work at a time. */
  readonly ahead: number;
  /** Documents whose states are being written, while others are read. */
  readonly finishing: number;
  /** The next run; undefined where there is nothing to read, or where it is better to wait for those that are at work. */
  next(open: readonly DocumentReading[], isWorking: boolean): Run | undefined;
}

/** For this many documents side by side. */
export function planningFor(model: LanguageModel, batch: number): Planning {
  return model.pieceOf
    ? inPieces(model.pieceOf(batch), batch, (tokens) => model.roomOf(tokens))
    : asTheyAre(model, batch);
}

/**
 * Rows of a run are of one length. What computes on this thread has no time for anything else meanwhile, so that no second run and no
 * second state is at work.
 */
function asTheyAre({ chunk }: LanguageModel, batch: number): Planning {
  return {
    open: batch,
    fetched: chunk,
    filling: batch,
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

/** Documents whose pages become tokens at a time: with more of them, the first would be ready as late as the last. */
const FILLING = 4;
/** States that are being written. Each waits for the runs that were asked for before it. */
const FINISHING = 8;

/**
 * What is left of a document behind its last long piece is read in many short ones, each of which takes about as long for a whole batch as
 * for one row. So documents wait there until a batch has come so far, while others take their places. Documents whose states need another
 * room wait for each other too, and none begins before it is known how much it needs.
 */
function inPieces(piece: number, batch: number, roomOf: (tokens: number) => number): Planning {
  return {
    open: BATCHES * batch,
    fetched: FETCHED,
    filling: FILLING,
    ahead: 2,
    finishing: FINISHING,
    next(open, isWorking) {
      const ready = open.filter(({ isReady }) => isReady);
      const long = byRoom(
        ready.filter(({ left }) => left >= piece),
        roomOf,
      );
      const short = byRoom(
        ready.filter(({ left, isFetched }) => left > 0 && left < piece && isFetched),
        roomOf,
      );
      const whole = [...long, ...short].find(({ length }) => length >= batch);
      if (!whole && isWorking) return undefined;
      const rows = (whole ?? long[0] ?? short[0])?.slice(0, batch);
      if (!rows) return undefined;
      const pieces = (left: number): number => Math.min(Math.floor(left / piece), PIECES) * piece;
      return rows.map((reading) => ({ reading, count: pieces(reading.left) || reading.left }));
    },
  };
}

/** Documents whose states need the same room, the most of them first. */
function byRoom(
  documents: readonly DocumentReading[],
  roomOf: (tokens: number) => number,
): DocumentReading[][] {
  const groups = new Map<number, DocumentReading[]>();
  for (const each of documents) {
    const room = roomOf(each.fetched);
    groups.set(room, [...(groups.get(room) ?? []), each]);
  }
  return [...groups.values()].sort((a, b) => b.length - a.length);
}
