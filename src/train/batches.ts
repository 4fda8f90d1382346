/**
 * The sequences of training batches. Each epoch cuts the corpus into sequences at another offset and shuffles them; both are functions of the
 * seed and the step, so that a resumed run sees the same data.
 */
import { DataError } from '../errors.js';
import { Random } from '../nn/index.js';

/** Sequences of a text in a random order, determined by the seed and the epoch. */
export class Batches {
  private readonly sequencesPerEpoch: number;
  private epoch = -1;
  private offset = 0;
  private order: Uint32Array = new Uint32Array();

  /** Throws `DataError` when `tokens` is shorter than one sequence. */
  constructor(
    private readonly tokens: Int32Array,
    /** The tokens that a sequence predicts; it has one more. */
    private readonly sequence: number,
    private readonly seed: number,
  ) {
    if (tokens.length < sequence + 1) {
      throw new DataError(
        `the corpus has ${tokens.length} tokens, fewer than one sequence of ${sequence} and its last target: use more text or a shorter --sequence`,
      );
    }
    // One sequence fewer than fit, if possible, so that the cut can start at any offset within the first sequence.
    this.sequencesPerEpoch = Math.max(1, Math.floor((tokens.length - 1) / sequence) - 1);
  }

  /** Sequences `first` to `first + count - 1` of the run, as int64 [count, sequence + 1], flat. */
  take(first: number, count: number): BigInt64Array {
    const width = this.sequence + 1;
    const rows = new BigInt64Array(count * width);
    for (let i = 0; i < count; i++) {
      const start = this.startOf(first + i);
      for (let j = 0; j < width; j++) rows[i * width + j] = BigInt(this.tokens[start + j]!);
    }
    return rows;
  }

  private startOf(index: number): number {
    const epoch = Math.floor(index / this.sequencesPerEpoch);
    if (epoch !== this.epoch) {
      const random = Random.at(this.seed, epoch);
      const slack = this.tokens.length - 1 - this.sequencesPerEpoch * this.sequence;
      this.epoch = epoch;
      this.offset = random.below(slack + 1);
      this.order = random.permutation(this.sequencesPerEpoch);
    }
    return this.offset + this.order[index % this.sequencesPerEpoch]! * this.sequence;
  }
}

/** `tokens` in consecutive sequences [count, sequence + 1], without the incomplete last one. */
export function consecutive(tokens: Int32Array, sequence: number): BigInt64Array[] {
  const rows: BigInt64Array[] = [];
  for (let start = 0; start + sequence < tokens.length; start += sequence) {
    rows.push(BigInt64Array.from(tokens.subarray(start, start + sequence + 1), BigInt));
  }
  return rows;
}

/** Shuffled numbers below `count`, reshuffled when all have occurred; the number at i depends only on the seed. */
export function shuffled(count: number, seed: number): (i: number) => number {
  let epoch = -1;
  let order: ArrayLike<number> = [];
  return (i) => {
    const wanted = Math.floor(i / count);
    if (wanted !== epoch) order = Random.at(seed, wanted).permutation(count);
    epoch = wanted;
    return order[i % count]!;
  };
}
