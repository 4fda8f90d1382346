/**
 * Prefill and decoding with programs of few sizes, since XLA compiles each size separately: a text is read in pieces of fixed lengths, and
 * batches are padded to a power of two rows with spare states.
 */
import { MOST_STOPS, SAMPLING_SETTINGS, WRITING_ARGUMENTS } from '../../graph/index.js';
import { holding } from '../lifetime.js';
import type { Decoder, Executable, State, WritingRow, WrittenRow } from '../program.js';
import { float32, type HostTensor, int64 } from '../tensors.js';
import type { XlaExecutable } from './executable.js';
import type { ReadingTogether } from './reading-together.js';
import { Spare } from './spare.js';
import { XlaState } from './state.js';

/** Tokens of the longest piece. */
export const LONG_PIECE = 4096;
/**
 * The lengths of pieces. The last tokens are read one by one, by the decoding program. A text is read exactly: no layer masks padding, which would
 * change recurrent states, so a piece has no tokens to spare. Each length is a program that takes seconds to half a minute to compile the
 * first time, for the sake of runs of some milliseconds: 90 tokens are 5 pieces of 16 and 10 of 1. With 64 and 4 besides they would be 6, and
 * with all powers of two 4, for two and six more programs a model.
 */
const PIECES: readonly number[] = [LONG_PIECE, 256, 16, 1];
/** Tokens that the device generates in one run, by default. */
export const WRITING_STEPS = 32;
/** Pieces that are enqueued at a time. */
export const PIECES_AHEAD = 3;
/** The prefill chunk in tokens: several pieces, so that the device does not idle between them. */
const CHUNK = 4 * LONG_PIECE;

type Feeds = Readonly<Record<string, HostTensor>>;

/** A decoder from executables of one device, with inputs `ids` [batch, sequence], `position` [batch] and `places`. Long pieces have programs of their own. */
export function decoderOf(
  { long, short }: Readonly<Record<'long' | 'short', XlaExecutable>>,
  writer: XlaExecutable,
  together: ReadingTogether,
  steps: number,
): Decoder {
  const spare = new Spare(() => writer.newState());
  const readPieces = async (feeds: Feeds, rows: readonly State[]): Promise<Record<string, HostTensor>> => {
    const { ids, position, places } = feeds as Record<'ids' | 'position' | 'places', HostTensor>;
    const sequence = ids.dims[1]!;
    const pieces = piecesOf(sequence);
    const fillers = spare.of(2 ** Math.ceil(Math.log2(rows.length)) - rows.length);
    // If a later piece fails, the rows are restored to the state before the first one.
    const before = pieces.length > 1 ? rows.map((row) => row.fork()) : [];
    let failure: unknown;
    try {
      const logits = new Logits(places);
      const asked: (() => Promise<void>)[] = [];
      let start = 0;
      try {
        for (const size of pieces) {
          const wanted = logits.within(start, size, sequence, rows.length + fillers.length);
          const run = (size === 1 ? writer : size === LONG_PIECE ? long : short).run(
            {
              ids: filledIds(ids, start, size, rows.length + fillers.length),
              position: filledPositions(position, start, rows.length + fillers.length),
              places: int64(wanted.places, [wanted.places.length]),
            },
            [...rows, ...fillers],
          );
          // The next piece is enqueued while the device computes this one.
          run.catch(() => undefined);
          asked.push(async () => logits.put(wanted.indices, (await run).logits!));
          if (asked.length === PIECES_AHEAD) await asked.shift()!();
          start += size;
        }
      } finally {
        // All enqueued runs must end before anything else uses the rows.
        for (const answer of await Promise.allSettled(asked.map((each) => each())))
          if (answer.status === 'rejected') failure ??= answer.reason;
      }
      if (failure !== undefined) throw failure;
      return { logits: logits.tensor };
    } catch (error) {
      for (const [i, saved] of before.entries()) (rows[i] as Restorable).restore(saved);
      throw error;
    } finally {
      for (const state of before) state.dispose();
    }
  };
  /** Keeps the values of the rows until the last piece is read. */
  const run = (feeds: Feeds, rows: readonly State[] = []): Promise<Record<string, HostTensor>> =>
    holding(
      rows.filter((row) => row instanceof XlaState),
      () => readPieces(feeds, rows),
    );
  let isPrepared = false;
  /** Compiles the decoding program during the first prefill, in the background. An error is thrown by its first run. */
  const prepare = (): void => {
    if (!isPrepared) void writer.prepareWriting(steps).catch(() => undefined);
    isPrepared = true;
  };
  const write = async (rows: readonly WritingRow[]): Promise<WrittenRow[]> => {
    const count = 2 ** Math.ceil(Math.log2(rows.length));
    const fillers = spare.of(count - rows.length);
    const states = [...rows.map(({ state }) => state), ...fillers] as XlaState[];
    const made = await writer.write(steps, writingFeeds(rows, count, steps), states);
    try {
      const written = rows.map((_, row) => writtenBy(made, row, count, steps));
      for (const [row, { ids }] of written.entries()) states[row]!.length += ids.length;
      const ended = written.map(({ ids }, row) => rows[row]!.stops.includes(ids.at(-1)!));
      if (!ended.includes(true)) return written;
      const logits = new Float32Array(made.logits.bytes / Float32Array.BYTES_PER_ELEMENT);
      await made.logits.download(logits);
      const width = logits.length / count;
      return written.map((each, row) =>
        ended[row] ? { ...each, logits: logits.slice(row * width, (row + 1) * width) } : each,
      );
    } finally {
      made.logits.dispose();
    }
  };
  const side = (
    ...[executable, ...others]: readonly [Executable, ...Pick<Executable, 'dispose'>[]]
  ): Executable => ({
    newState: (...initial) => executable.newState(...initial),
    run,
    async dispose() {
      spare.dispose();
      for (const each of [executable, ...others]) await each.dispose();
    },
  });
  const reading = side(short, long, together);
  return {
    reader: {
      ...reading,
      run(feeds, rows) {
        prepare();
        return reading.run(feeds, rows);
      },
    },
    writer: side(writer),
    chunk: CHUNK,
    together,
    ahead: { steps, stops: MOST_STOPS, run: write },
  };
}

/** The inputs of a run that generates several tokens, for `count` rows; spare rows generate none. */
function writingFeeds(rows: readonly WritingRow[], count: number, steps: number): Feeds {
  const each = <T>(value: (row: WritingRow) => T, none: T): T[] =>
    Array.from({ length: count }, (_, i) => (rows[i] ? value(rows[i]) : none));
  const uniforms = new Float32Array(steps * count);
  for (const [i, row] of rows.entries())
    for (const [step, uniform] of row.uniforms.entries()) uniforms[step * count + i] = uniform;
  const settings = each((row) => SAMPLING_SETTINGS.map((name) => row[name]), [1, 1, 1, 0]);
  const stops = each<readonly number[]>((row) => row.stops, []).flatMap((ids) =>
    Array.from({ length: MOST_STOPS }, (_, i) => ids[i] ?? -1),
  );
  const int32 = (data: readonly number[], dims: readonly number[]): HostTensor => ({
    dtype: 'int32',
    dims,
    data: Int32Array.from(data),
  });
  return {
    ids: int64(
      each(({ id }) => id, 0),
      [count, 1],
    ),
    position: int64(
      each(({ position }) => position, 0),
      [count],
    ),
    [WRITING_ARGUMENTS.uniforms]: float32(uniforms, [steps, count]),
    [WRITING_ARGUMENTS.settings]: float32(settings.flat(), [count, SAMPLING_SETTINGS.length]),
    [WRITING_ARGUMENTS.stops]: int32(stops, [count, MOST_STOPS]),
    [WRITING_ARGUMENTS.counts]: int32(
      each(({ uniforms }) => uniforms.length, 0),
      [count],
    ),
  };
}

function writtenBy(
  { tokens, chosen }: { readonly tokens: Int32Array; readonly chosen: Float32Array },
  row: number,
  count: number,
  steps: number,
): WrittenRow {
  const column = (values: Int32Array | Float32Array): number[] =>
    Array.from({ length: steps }, (_, step) => values[step * count + row]!);
  const ids = column(tokens);
  const end = ids.indexOf(-1);
  const length = end < 0 ? steps : end;
  return { ids: ids.slice(0, length), chosen: column(chosen).slice(0, length) };
}

interface Restorable extends State {
  restore(saved: State): void;
}

function piecesOf(tokens: number): number[] {
  const pieces: number[] = [];
  let left = tokens;
  for (const size of PIECES) for (; left >= size; left -= size) pieces.push(size);
  return pieces;
}

/** Logits at places of the flattened ids, assembled from those of pieces. */
class Logits {
  private data: Float32Array = new Float32Array();
  private size = 0;
  private readonly places: readonly number[];

  constructor(places: HostTensor) {
    this.places = Array.from(places.data as BigInt64Array, Number);
  }

  /**
   * The places within a piece, relative to it. They are padded to a power of two, and to at least one for each row, so that all pieces of a
   * text run the same program.
   */
  within(
    start: number,
    size: number,
    sequence: number,
    rows: number,
  ): { indices: number[]; places: number[] } {
    const indices: number[] = [];
    const places: number[] = [];
    for (const [i, place] of this.places.entries()) {
      const at = (place % sequence) - start;
      if (at < 0 || at >= size) continue;
      indices.push(i);
      places.push(Math.floor(place / sequence) * size + at);
    }
    const count = 2 ** Math.ceil(Math.log2(Math.max(rows, places.length)));
    while (places.length < count) places.push(0);
    return { indices, places };
  }

  put(indices: readonly number[], { dims, data }: HostTensor): void {
    const width = dims[1]!;
    if (this.size === 0 && indices.length === this.places.length && dims[0] === indices.length) {
      // All places are in this piece, in order.
      this.size = width;
      this.data = data as Float32Array;
      return;
    }
    if (this.size === 0) {
      this.size = width;
      this.data = new Float32Array(width * this.places.length);
    }
    for (const [row, index] of indices.entries())
      this.data.set((data as Float32Array).subarray(row * width, (row + 1) * width), index * width);
  }

  get tensor(): HostTensor {
    return { dtype: 'float32', dims: [this.places.length, this.size], data: this.data };
  }
}

function filledIds({ dims, data }: HostTensor, start: number, size: number, rows: number): HostTensor {
  const [given, sequence] = dims as [number, number];
  const ids = new BigInt64Array(rows * size);
  for (let row = 0; row < given; row++) {
    const from = row * sequence + start;
    ids.set((data as BigInt64Array).subarray(from, from + size), row * size);
  }
  return { dtype: 'int64', dims: [rows, size], data: ids };
}

function filledPositions({ data }: HostTensor, start: number, rows: number): HostTensor {
  const positions = new BigInt64Array(rows);
  for (const [row, position] of (data as BigInt64Array).entries()) positions[row] = position + BigInt(start);
  return { dtype: 'int64', dims: [rows], data: positions };
}
