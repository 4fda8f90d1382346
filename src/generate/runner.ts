/**
 * Runs a model's programs, one call at a time, with continuous batching: sequences that decode at the same time are the rows of one batch,
 * since a matrix product of several rows costs hardly more than of one. Rows join and leave between calls, each of which reads one token of
 * each row and returns the logits after it.
 */
import { nextTurn } from '#platform';
import {
  type Decoder,
  int64,
  type ReadsTogether,
  type State,
  type WritesAhead,
  type WritingRow,
  type WrittenRow,
} from '../engine/index.js';

/** Tokens that one sequence reads. */
export interface Row {
  readonly ids: readonly number[];
  /** The number of tokens before them. */
  readonly position: number;
  readonly state: State;
  /** How many tokens the state is expected to come to; by default no more than these. */
  readonly expected?: number;
  /** Whether the logits behind the last one are wanted, where the device can do without copying them; true by default. */
  readonly needsLogits?: boolean;
}

/** The prefill chunk if the device has no preference, in tokens; larger ones are not faster and take more memory. */
export const PREFILL_CHUNK = 256;

/** The most rows of a batch. Each row reads its own state from memory, so larger batches gain little. */
const MAX_ROWS = 16;
/** The same on a device that samples by itself, which is a data-centre GPU. */
const MAX_ROWS_AHEAD = 64;

interface Waiting extends Row {
  readonly done: (logits: Float32Array) => void;
  readonly failed: (error: unknown) => void;
}

/** A sequence that waits for several tokens, sampled on the device. */
interface WaitingAhead {
  readonly writes: WritingRow;
  readonly done: (written: WrittenRow) => void;
  readonly failed: (error: unknown) => void;
}

/** Runs a decoder for several sequences, with continuous batching. */
export class Runner {
  /** The queue: functions run alone, other entries are batched with entries of the same kind. */
  private readonly waiting: (Waiting | WaitingAhead | (() => Promise<void>))[] = [];
  private running = false;
  /** The states of the last batch, in the order of its rows. */
  private rows: readonly State[] = [];

  constructor(
    private readonly decoder: Decoder,
    private readonly vocabSize: number,
  ) {}

  /** The prefill chunk, in tokens. */
  get chunk(): number {
    return this.decoder.chunk ?? PREFILL_CHUNK;
  }

  /** Reads texts of several lengths side by side, where the device can: see `ReadsTogether`. */
  get together(): ReadsTogether | undefined {
    return this.decoder.together;
  }

  /** Reads tokens and updates the state. Returns the logits [vocabulary] after the last one. */
  read(row: Row): Promise<Float32Array> {
    return new Promise((done, failed) => {
      this.enqueue({ ...row, done, failed });
    });
  }

  /** The limits of sampling on the device: tokens of a run, and stop tokens; undefined if the device cannot sample. */
  get ahead(): Pick<WritesAhead, 'steps' | 'stops'> | undefined {
    return this.decoder.ahead;
  }

  /** Generates several tokens on the device and updates the state: see `WritesAhead`. Concurrent calls are batched. */
  write(writes: WritingRow): Promise<WrittenRow> {
    return new Promise((done, failed) => {
      this.enqueue({ writes, done, failed });
    });
  }

  /** `read` for rows of equally many tokens. Returns logits [places, vocabulary] at `places` in the flattened ids. */
  readBatch(rows: readonly Row[], places: readonly number[]): Promise<Float32Array> {
    return new Promise((done, failed) => {
      this.enqueue(() => this.run(rows, places).then(done, failed));
    });
  }

  /** A new state. */
  newState(...initial: Parameters<Decoder['writer']['newState']>): State {
    return this.decoder.reader.newState(...initial);
  }

  async dispose(): Promise<void> {
    const { reader, writer } = this.decoder;
    await reader.dispose();
    if (writer !== reader) await writer.dispose();
  }

  private enqueue(task: Runner['waiting'][number]): void {
    this.waiting.push(task);
    if (this.running) return;
    this.running = true;
    void this.runAll();
  }

  private async runAll(): Promise<void> {
    for (;;) {
      // Lets the sequences of the last call enqueue their next token first, so that they stay one batch.
      await nextTurn();
      const first = this.waiting[0];
      if (!first) break;
      if (typeof first === 'function') {
        this.waiting.shift();
        await first();
      } else if ('writes' in first) {
        await this.writeTogether();
      } else {
        await this.runTogether(this.takeBatch(first));
      }
    }
    this.rows = [];
    this.running = false;
  }

  /** Takes the first call from the queue, with all that can run in one batch with it. */
  private takeBatch(first: Waiting): Waiting[] {
    const isToken = (task: Runner['waiting'][number]): task is Waiting =>
      typeof task !== 'function' && 'ids' in task && task.ids.length === 1;
    const batch = isToken(first) ? this.waiting.filter(isToken).slice(0, MAX_ROWS) : [first];
    return this.seated(batch, ({ state }) => state);
  }

  /** Removes the tasks of a batch from the queue, and orders them like the rows of the last call, so that their states need not be copied. */
  private seated<T extends Runner['waiting'][number]>(batch: T[], stateOf: (task: T) => State): T[] {
    for (const task of batch) this.waiting.splice(this.waiting.indexOf(task), 1);
    const seat = (task: T): number => this.rows.indexOf(stateOf(task)) + 1 || this.rows.length + 1;
    return batch.sort((a, b) => seat(a) - seat(b));
  }

  /** Runs all calls of `write` in the queue as one batch. */
  private async writeTogether(): Promise<void> {
    const wants = (task: Runner['waiting'][number]): task is WaitingAhead =>
      typeof task !== 'function' && 'writes' in task;
    const batch = this.seated(
      this.waiting.filter(wants).slice(0, MAX_ROWS_AHEAD),
      ({ writes }) => writes.state,
    );
    const rows = batch.map(({ writes }) => writes);
    this.rows = rows.map(({ state }) => state);
    try {
      const written = await this.decoder.ahead!.run(rows);
      for (const [i, { done }] of batch.entries()) done(written[i]!);
    } catch (error) {
      for (const { failed } of batch) failed(error);
    }
  }

  private async runTogether(batch: readonly Waiting[]): Promise<void> {
    const { vocabSize } = this;
    this.rows = batch.map(({ state }) => state);
    try {
      const logits = await this.run(
        batch,
        batch.map(({ ids }, i) => (i + 1) * ids.length - 1),
      );
      for (const [i, { done }] of batch.entries()) {
        done(batch.length === 1 ? logits : logits.slice(i * vocabSize, (i + 1) * vocabSize));
      }
    } catch (error) {
      for (const { failed } of batch) failed(error);
    }
  }

  private async run(rows: readonly Row[], places: readonly number[]): Promise<Float32Array> {
    const { reader, writer } = this.decoder;
    const sequence = rows[0]!.ids.length;
    const feeds = {
      ids: int64(
        rows.flatMap(({ ids }) => ids),
        [rows.length, sequence],
      ),
      position: int64(
        rows.map(({ position }) => position),
        [rows.length],
      ),
      places: int64(places, [places.length]),
    };
    const states = rows.map(({ state }) => state);
    const { logits } = await (sequence === 1 ? writer : reader).run(feeds, states);
    return logits!.data as Float32Array;
  }
}
