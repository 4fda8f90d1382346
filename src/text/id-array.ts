/** Memory for token ids, with an error if a corpus needs more than there is. */
import { DataError } from '../errors.js';

/** Allocates `count` ids for the file `name`. Throws `DataError` if there is too little memory. */
export function roomForIds(count: number, name: string): Int32Array {
  try {
    return new Int32Array(count);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new DataError(
      `${name} has ${count} ids or more, which take ${(count / 2.5e8).toFixed(1)} GB of memory, and there is not so much: use a part of them`,
      { cause: error },
    );
  }
}

/** A growing array of ids. */
export class GrowingIds {
  private values: Int32Array;
  private length = 0;

  constructor(private readonly name: string) {
    this.values = roomForIds(1024, name);
  }

  /** Throws as `roomForIds`. */
  push(id: number): void {
    if (this.length === this.values.length) {
      const grown = roomForIds(2 * this.length, this.name);
      grown.set(this.values);
      this.values = grown;
    }
    this.values[this.length++] = id;
  }

  /** The ids since the last call. Throws as `roomForIds`. */
  take(): Int32Array {
    const taken = roomForIds(this.length, this.name);
    taken.set(this.values.subarray(0, this.length));
    this.length = 0;
    return taken;
  }
}
