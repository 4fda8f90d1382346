/**
 * Reading several texts side by side. Programs are compiled for each number of rows and each length of a piece, so there are few of both:
 * rows are filled up with states that nobody uses, and a text is read in long pieces and then in ever shorter ones, in which the rows take
 * part that have as many tokens left. The others keep their states, and need not leave the batch.
 */
import { holding } from '../lifetime.js';
import type { DecoderPrograms, Program, ReadingRow, ReadsTogether } from '../program.js';
import { type HostTensor, int64 } from '../tensors.js';
import { LONG_PIECE, PIECES_AHEAD } from './decoder.js';
import type { XlaExecutable } from './executable.js';
import { Spare } from './spare.js';
import { inTheirPlaces, type XlaState } from './state.js';

/** Tokens of all rows of a piece, which keep a large device busy. */
const TOKENS_AT_ONCE = 8192;
/** Each of the lengths of pieces is so many times the next one. A program may take half a minute to compile, and a short run some milliseconds. */
const STEP = 8;

/** The last piece of a row: what it waits for. */
interface Asked {
  readonly piece: Promise<Record<string, HostTensor>>;
  readonly row: number;
}

/** `ReadsTogether` of a device of XLA. */
export class ReadingTogether implements ReadsTogether {
  private readonly executables = new Map<number, Promise<XlaExecutable>>();
  private readonly prepared = new Set<string>();
  private readonly spare: Spare;
  readonly room: (tokens: number) => number;
  /** Pieces that are at work. */
  private readonly working: Promise<unknown>[] = [];
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly programs: Pick<DecoderPrograms, 'readSome'>,
    private readonly compile: (program: Program) => Promise<XlaExecutable>,
    short: Pick<XlaExecutable, 'newState' | 'roomOf'>,
  ) {
    this.spare = new Spare(() => short.newState());
    this.room = (tokens) => short.roomOf(tokens);
  }

  piece(batch: number): number {
    return Math.min(LONG_PIECE, 2 ** Math.floor(Math.log2(TOKENS_AT_ONCE / batch)));
  }

  run(rows: readonly ReadingRow[], batch: number): Promise<(Float32Array | undefined)[]> {
    const states = rows.map(({ state }) => state as XlaState);
    const reading = holding(states, async () => {
      const asking = this.last.then(() => this.ask(rows, batch));
      this.last = asking.catch(() => undefined);
      const { pieces, ends } = await asking;
      await Promise.all(pieces);
      return Promise.all(
        ends.map(async (end) => {
          if (!end) return undefined;
          const { dims, data } = (await end.piece).logits!;
          return (data as Float32Array).slice(end.row * dims[1]!, (end.row + 1) * dims[1]!);
        }),
      );
    });
    // A batch may be larger than the memory: it is freed with the caller's states, and not kept for rows that nobody uses.
    reading.catch(() => {
      this.last = this.last.then(() => this.spare.dispose());
    });
    return reading;
  }

  async dispose(): Promise<void> {
    this.spare.dispose();
    for (const executable of this.executables.values()) {
      await executable.then(
        (compiled) => compiled.dispose(),
        () => undefined,
      );
    }
  }

  /** Enqueues all pieces, of which a few are at work at a time. */
  private async ask(
    rows: readonly ReadingRow[],
    count: number,
  ): Promise<{ pieces: Promise<unknown>[]; ends: (Asked | undefined)[] }> {
    const all = [...rows.map(({ state }) => state), ...this.spare.of(count - rows.length)] as XlaState[];
    // Texts come and go: those that stay keep their places in the batch.
    const order = inTheirPlaces(all);
    const states = order.map((i) => all[i]!);
    const placed = order.map((i) => rows[i]);
    const sizes = sizesFrom(this.piece(count));
    const room = Math.max(...rows.map(({ expected }) => expected));
    this.prepare(sizes, count, room);
    const done = placed.map(() => 0);
    const ends: (Asked | undefined)[] = rows.map(() => undefined);
    const pieces: Promise<unknown>[] = [];
    const leftOf = (row: number): number => (placed[row] ? placed[row].ids.length - done[row]! : 0);
    for (const size of sizes) {
      const executable = await this.executable(size);
      for (;;) {
        const taking = states.map((_, row) => leftOf(row) >= size);
        if (!taking.includes(true)) break;
        while (this.working.length >= PIECES_AHEAD) await this.working.shift();
        const feeds = feedsOf(placed, done, taking, size);
        for (const [row, takesPart] of taking.entries()) if (takesPart) done[row]! += size;
        const ending = taking.flatMap((takesPart, row) =>
          takesPart && leftOf(row) === 0 && placed[row]!.needsLogits ? [row] : [],
        );
        const options = { room, taking };
        const piece =
          ending.length > 0
            ? executable.run(feeds, states, options)
            : executable.advance(feeds, states, options);
        // Whoever waits for the run hears of it.
        const settled = (piece as Promise<unknown>).catch(() => undefined);
        this.working.push(settled);
        pieces.push(piece);
        for (const row of ending) ends[order[row]!] = { piece: piece as Asked['piece'], row };
      }
    }
    return { pieces, ends };
  }

  /** Has the programs of all lengths compiled side by side, since a text needs most of them. Whoever runs one hears why it cannot be. */
  private prepare(sizes: readonly number[], rows: number, room: number): void {
    for (const size of sizes) {
      void this.executable(size)
        .then((executable) => {
          const key = JSON.stringify([size, rows, executable.roomOf(room)]);
          if (this.prepared.has(key)) return undefined;
          this.prepared.add(key);
          return executable.prepareRows(rows, room);
        })
        .catch(() => undefined);
    }
  }

  private executable(size: number): Promise<XlaExecutable> {
    let executable = this.executables.get(size);
    if (!executable) {
      executable = this.compile(this.programs.readSome(size));
      this.executables.set(size, executable);
      executable.catch(() => this.executables.delete(size));
    }
    return executable;
  }
}

function sizesFrom(longest: number): number[] {
  const sizes: number[] = [];
  for (let size = longest; size > 1; size = Math.floor(size / STEP)) sizes.push(size);
  return [...sizes, 1];
}

/** Rows that do not take part, and those that are nobody's, are given zeros. */
function feedsOf(
  rows: readonly (ReadingRow | undefined)[],
  done: readonly number[],
  taking: readonly boolean[],
  size: number,
): Record<'ids' | 'position' | 'places' | 'taking', HostTensor> {
  const count = taking.length;
  const ids = new BigInt64Array(count * size);
  const positions = new BigInt64Array(count);
  for (const [row, given] of rows.entries()) {
    if (!given) continue;
    const { ids: all, position } = given;
    positions[row] = BigInt(position + done[row]!);
    if (!taking[row]) continue;
    for (let i = 0; i < size; i++) ids[row * size + i] = BigInt(all[done[row]! + i]!);
  }
  return {
    ids: { dtype: 'int64', dims: [count, size], data: ids },
    position: { dtype: 'int64', dims: [count], data: positions },
    places: int64(
      Array.from(taking, (_, row) => (row + 1) * size - 1),
      [count],
    ),
    taking: { dtype: 'bool', dims: [count], data: Uint8Array.from(taking, Number) },
  };
}
