/**
 * What a grammar reads byte by byte without looking into it: a part of a text whose states are numbers or short texts. From each
 * state that can be reached the part can be completed.
 */
export interface Terminal {
  /** Where it begins. */
  readonly start: number | string;
  /** The state after a byte; undefined where the byte must not come. */
  step(state: number | string, byte: number): number | string | undefined;
  /** Whether the part may end here. */
  accepts(state: number | string): boolean;
  /** Whether it may go on. */
  goesOn(state: number | string): boolean;
  /** Bytes with which it can end from here, few if not the fewest. */
  completion(state: number | string): Uint8Array;
}

const utf8 = new TextEncoder();
const NONE = new Uint8Array(0);

/** One byte out of some. */
export class OneByte implements Terminal {
  readonly start = 0;
  private readonly has = new Uint8Array(256);

  /** Both ends of each range are included. */
  constructor(ranges: readonly (readonly [from: number, to: number])[]) {
    for (const [from, to] of ranges) this.has.fill(1, from, to + 1);
  }

  step(state: number, byte: number): number | undefined {
    return state === 0 && this.has[byte] === 1 ? 1 : undefined;
  }

  accepts(state: number): boolean {
    return state === 1;
  }

  goesOn(state: number): boolean {
    return state === 0;
  }

  completion(state: number): Uint8Array {
    // A letter where any byte would do.
    return state === 1 ? NONE : Uint8Array.of(this.has.indexOf(1, this.has[0x61] ? 0x61 : 0));
  }
}

/** One of several words. */
export class Words implements Terminal {
  readonly start = 0;
  private readonly branches: Map<number, number>[] = [new Map()];
  private readonly ends: boolean[] = [false];
  /** [state]: the first byte of the shortest way to an end, and its length. */
  private readonly ways: { byte: number; length: number }[] = [];

  constructor(readonly words: readonly string[]) {
    const parents: [parent: number, byte: number][] = [[-1, -1]];
    for (const word of words) {
      let at = 0;
      for (const byte of utf8.encode(word)) {
        let next = this.branches[at]!.get(byte);
        if (next === undefined) {
          next = this.branches.push(new Map()) - 1;
          this.branches[at]!.set(byte, next);
          this.ends.push(false);
          parents.push([at, byte]);
        }
        at = next;
      }
      this.ends[at] = true;
    }
    this.ways = this.ends.map((end) => ({ byte: -1, length: end ? 0 : Infinity }));
    // Each state comes behind the one that it follows.
    for (let state = parents.length - 1; state > 0; state--) {
      const [parent, byte] = parents[state]!;
      const length = this.ways[state]!.length + 1;
      if (length < this.ways[parent]!.length) this.ways[parent] = { byte, length };
    }
  }

  step(state: number, byte: number): number | undefined {
    return this.branches[state]!.get(byte);
  }

  accepts(state: number): boolean {
    return this.ends[state]!;
  }

  goesOn(state: number): boolean {
    return this.branches[state]!.size > 0;
  }

  completion(state: number): Uint8Array {
    const bytes: number[] = [];
    for (let at = state; !this.ends[at]; ) {
      const { byte } = this.ways[at]!;
      bytes.push(byte);
      at = this.branches[at]!.get(byte)!;
    }
    return bytes.length === 0 ? NONE : Uint8Array.from(bytes);
  }
}
