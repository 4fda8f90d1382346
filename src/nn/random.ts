/** The block of `fillNormal`. */
const BLOCK = 1024;

/** Seeded random numbers (xoshiro128**, Blackman & Vigna, 2018): the same seed gives the same bits everywhere. */
export class Random {
  private readonly state: Uint32Array;

  constructor(seed: number) {
    // SplitMix32 spreads the seed over the state.
    let z = seed >>> 0;
    this.state = Uint32Array.from({ length: 4 }, () => {
      z = (z + 0x9e3779b9) >>> 0;
      let x = z;
      x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
      x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
      return x ^ (x >>> 16);
    });
  }

  /** The i-th of a family of independent generators with one seed. */
  static at(seed: number, i: number): Random {
    return new Random(seed * 1_000_003 + i);
  }

  /** An integer in 0 .. 2^32 - 1. */
  uint32(): number {
    const s = this.state as Uint32Array & [number, number, number, number];
    const product = Math.imul(s[1], 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = (s[3] << 11) | (s[3] >>> 21);
    return result;
  }

  /** Uniform in [0, 1). */
  uniform(): number {
    return (this.uint32() * 2 ** 21 + (this.uint32() >>> 11)) / 2 ** 53;
  }

  /** An integer in 0 .. limit - 1. */
  below(limit: number): number {
    return Math.floor(this.uniform() * limit);
  }

  /** Normal with mean 0 and standard deviation 1 (Box & Muller). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Fills an array with the same numbers as `normal`, times a standard deviation, in less than half the time. */
  fillNormal(values: Float32Array, standardDeviation: number): void {
    const drawn = new Uint32Array(4 * Math.min(BLOCK, values.length));
    for (let start = 0; start < values.length; start += BLOCK) {
      const count = Math.min(BLOCK, values.length - start);
      this.fillUint32(drawn.subarray(0, 4 * count));
      for (let i = 0; i < count; i++) {
        const first = (drawn[4 * i]! * 2 ** 21 + (drawn[4 * i + 1]! >>> 11)) / 2 ** 53;
        const second = (drawn[4 * i + 2]! * 2 ** 21 + (drawn[4 * i + 3]! >>> 11)) / 2 ** 53;
        const radius = Math.sqrt(-2 * Math.log(1 - first));
        values[start + i] = standardDeviation * (radius * Math.cos(2 * Math.PI * second));
      }
    }
  }

  /** `uint32` for every element, with the state in local variables, which stay in registers. */
  private fillUint32(values: Uint32Array): void {
    let [s0, s1, s2, s3] = this.state as Uint32Array & [number, number, number, number];
    for (let i = 0; i < values.length; i++) {
      const product = Math.imul(s1, 5);
      values[i] = Math.imul((product << 7) | (product >>> 25), 9);
      const shifted = s1 << 9;
      s2 ^= s0;
      s3 ^= s1;
      s1 ^= s2;
      s0 ^= s3;
      s2 ^= shifted;
      s3 = (s3 << 11) | (s3 >>> 21);
    }
    this.state.set([s0, s1, s2, s3]);
  }

  /** The numbers 0 .. size - 1 in random order. */
  permutation(size: number): Uint32Array {
    const order = Uint32Array.from({ length: size }, (_, i) => i);
    for (let i = size - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const swapped = order[i]!;
      order[i] = order[j]!;
      order[j] = swapped;
    }
    return order;
  }
}
