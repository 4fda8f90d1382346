/**
 * Training on independent documents, unlike `textData`, which cuts one long text anywhere. Short documents are packed, several in a row. Long
 * ones may be carried: a row is then a piece of a document, and starts from the state after the previous piece, without gradients (truncated
 * backpropagation through time).
 *
 * Each position of a row reads a token and has the next token of its document as its target; `counted` says whether there is one.
 */
import type { StateSpec } from '../engine/index.js';
import { DataError } from '../errors.js';
import { crossEntropy, multiply, reshape, scalar, sum } from '../graph/index.js';
import { type ForwardResult, forward, logitsOf } from '../models/index.js';
import { Random, type StateTensors } from '../nn/index.js';
import { shuffled } from './batches.js';
import { carriedMemory, forwardCarried } from './carried.js';
import { type DataSource, digestOfAll, type Examples, type FiniteExamples, type Objective } from './data.js';
import type { TrainingSettings } from './settings.js';
import { expectKnownTokens } from './text.js';

/** `pack`: whole documents packed into rows; `carry`: documents in sequence, over as many rows as necessary. */
export const DOCUMENT_FORMS = ['pack', 'carry'] as const;
/** How documents are arranged in training rows. */
export type DocumentForm = (typeof DOCUMENT_FORMS)[number];

/** Next-token prediction within documents, in rows of `sequence` positions; with a memory, rows continue from carried states. */
export function nextTokensOfDocuments(sequence: number, memory?: readonly StateSpec[]): Objective {
  const place = (name: string, dtype: 'int64' | 'float32' = 'int64') => ({ name, dtype, shape: [sequence] });
  return {
    inputs: [place('tokens'), place('targets'), place('documents'), place('counted', 'float32')],
    ...(memory && { memory }),
    loss(model, registry, { tokens, targets, documents, counted }, before) {
      const result: ForwardResult & { memory?: StateTensors } = before
        ? forwardCarried(model, registry, tokens!, documents!, before)
        : forward(model, registry, tokens!, scalar(0, 'int64'), { documents });
      const rows = reshape(result.hidden, [-1, model.hiddenSize]);
      const logits = logitsOf(model, registry, rows);
      const isCounted = reshape(counted!, [-1]);
      return {
        total: sum(multiply(crossEntropy(logits, reshape(targets!, [-1])), isCounted)),
        count: sum(counted!),
        inside: { logits, counted: isCounted, residuals: result.residuals },
        ...(result.memory && { memory: result.memory }),
      };
    },
  };
}

/** Training and held-out documents. Throws `DataError` if there are none with at least two tokens. */
export function documentData(
  training: readonly Int32Array[],
  validation: readonly Int32Array[],
  form: DocumentForm,
): DataSource {
  return (model, settings) => {
    for (const [documents, what] of [
      [training, 'to learn from'],
      [validation, 'held out'],
    ] as const) {
      for (const tokens of documents) expectKnownTokens(tokens, model);
      if (!documents.some(({ length }) => length > 1))
        throw new DataError(`no document that is ${what} has two tokens or more: use longer texts`);
    }
    const { sequence } = settings;
    return {
      objective: nextTokensOfDocuments(
        sequence,
        form === 'carry' ? carriedMemory(model, sequence) : undefined,
      ),
      ...(form === 'pack'
        ? { training: packedForEver(training, settings), validation: packedOnce(validation, sequence) }
        : { training: lanes(training, settings), validation: lanesOnce(validation, settings) }),
      identity: {
        documents: form,
        'held-out text': digestOfDocuments(validation),
        corpus: digestOfDocuments(training),
      },
    };
  };
}

/** Positions `from` to `to` of a document, each with a token and a target. */
interface Piece {
  readonly tokens: Int32Array;
  readonly from: number;
  readonly to: number;
}

function placesOf(tokens: Int32Array): number {
  return Math.max(0, tokens.length - 1);
}

/**
 * Packs pieces into rows of `sequence` positions, the longest first, each into the fullest row with room (best fit decreasing). A document
 * longer than a row is split into pieces.
 */
export function packed(documents: readonly Int32Array[], sequence: number): Piece[][] {
  const byLength: Piece[][] = Array.from({ length: sequence + 1 }, () => []);
  for (const tokens of documents) {
    for (let from = 0; from < placesOf(tokens); from += sequence) {
      const to = Math.min(from + sequence, placesOf(tokens));
      byLength[to - from]!.push({ tokens, from, to });
    }
  }
  const rows: Piece[][] = [];
  const byRoom: Piece[][][] = Array.from({ length: sequence + 1 }, () => []);
  for (let length = sequence; length > 0; length--) {
    let room = length;
    for (const piece of byLength[length]!) {
      while (room <= sequence && byRoom[room]!.length === 0) room++;
      const row = byRoom[room]?.pop() ?? [];
      if (room > sequence) rows.push(row);
      row.push(piece);
      byRoom[(room > sequence ? sequence : room) - length]!.push(row);
    }
  }
  return rows;
}

function packedForEver(documents: readonly Int32Array[], { sequence, seed }: TrainingSettings): Examples {
  const rows = packed(documents, sequence);
  const order = shuffled(rows.length, seed);
  return { take: (first, count) => written(count, sequence, (i) => rows[order(first + i)]!) };
}

function packedOnce(documents: readonly Int32Array[], sequence: number): FiniteExamples {
  const rows = packed(documents, sequence);
  return {
    count: rows.length,
    take: (first, count) => written(count, sequence, (i) => rows[first + i]!),
  };
}

/** Rows of these pieces. The padding at the end of a row is a document of its own, without targets. */
function written(count: number, sequence: number, piecesOf: (row: number) => readonly Piece[]) {
  const places = count * sequence;
  const [tokens, targets, documents] = Array.from({ length: 3 }, () => new BigInt64Array(places)) as [
    BigInt64Array,
    BigInt64Array,
    BigInt64Array,
  ];
  const counted = new Float32Array(places);
  for (let row = 0; row < count; row++) {
    let place = row * sequence;
    let document = 0;
    for (const piece of piecesOf(row)) {
      // A row that begins within a document continues from the carried state.
      if (piece.from === 0 || place > row * sequence) document++;
      for (let i = piece.from; i < piece.to; i++, place++) {
        tokens[place] = BigInt(piece.tokens[i]!);
        targets[place] = BigInt(piece.tokens[i + 1]!);
        documents[place] = BigInt(document);
        counted[place] = 1;
      }
    }
    documents.fill(BigInt(document + 1), place, (row + 1) * sequence);
  }
  return { tokens, targets, documents, counted };
}

/** Documents in a certain order, as a stream of positions. */
class Stream {
  private readonly starts: Float64Array;
  readonly places: number;

  constructor(private readonly documents: readonly Int32Array[]) {
    this.starts = new Float64Array(documents.length);
    let places = 0;
    for (const [i, tokens] of documents.entries()) {
      this.starts[i] = places;
      places += placesOf(tokens);
    }
    this.places = places;
  }

  /** The pieces of positions `first` to `end` - 1. */
  *pieces(first: number, end: number): Generator<Piece> {
    let [low, high] = [0, this.documents.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.starts[middle]! <= first) low = middle;
      else high = middle;
    }
    for (let i = low; i < this.documents.length && this.starts[i]! < end; i++) {
      const tokens = this.documents[i]!;
      const from = Math.max(0, first - this.starts[i]!);
      const to = Math.min(placesOf(tokens), end - this.starts[i]!);
      if (from < to) yield { tokens, from, to };
    }
  }
}

/** Each row of a batch reads all documents, reshuffled in each epoch of that row. */
function lanes(documents: readonly Int32Array[], settings: TrainingSettings): Examples {
  const { sequence, seed } = settings;
  const count = lanesOf(settings);
  const known = new Map<number, { round: number; stream: Stream }>();
  const all = new Stream(documents).places;
  const streamOf = (lane: number, round: number): Stream => {
    const last = known.get(lane);
    if (last?.round === round) return last.stream;
    const random = new Random(Random.at(seed, round).uint32() ^ Math.imul(lane + 1, 0x9e3779b1));
    const stream = new Stream([...random.permutation(documents.length)].map((i) => documents[i]!));
    known.set(lane, { round, stream });
    return stream;
  };
  return {
    take: (first, examples) =>
      written(examples, sequence, (i) => {
        const lane = (first + i) % count;
        const pieces: Piece[] = [];
        const end = (Math.floor((first + i) / count) + 1) * sequence;
        for (let at = end - sequence; at < end; ) {
          const round = Math.floor(at / all);
          const stop = Math.min(end, (round + 1) * all);
          pieces.push(...streamOf(lane, round).pieces(at - round * all, stop - round * all));
          at = stop;
        }
        return pieces;
      }),
  };
}

/** Held-out documents, divided among the rows of a batch; shorter rows are padded. */
function lanesOnce(documents: readonly Int32Array[], { batch, sequence }: TrainingSettings): FiniteExamples {
  const shares = Array.from({ length: batch }, () => ({ places: 0, documents: [] as Int32Array[] }));
  for (const tokens of [...documents].sort((a, b) => b.length - a.length)) {
    const share = shares.reduce((least, other) => (other.places < least.places ? other : least));
    share.documents.push(tokens);
    share.places += placesOf(tokens);
  }
  const streams = shares.map((share) => new Stream(share.documents));
  const steps = Math.ceil(Math.max(...streams.map(({ places }) => places)) / sequence);
  return {
    count: steps * batch,
    take: (first, count) =>
      written(count, sequence, (i) => {
        const start = Math.floor((first + i) / batch) * sequence;
        return [...streams[(first + i) % batch]!.pieces(start, start + sequence)];
      }),
  };
}

function lanesOf({ batch, accumulate }: TrainingSettings): number {
  return batch * accumulate;
}

function digestOfDocuments(documents: readonly Int32Array[]): string {
  return digestOfAll([Int32Array.from(documents, ({ length }) => length), ...documents]);
}
