/** The reference speed: float32 matrix products in the engine. */
import {
  type Device,
  type Executable,
  float32,
  type HostTensor,
  type QuantizedTensor,
} from '../engine/index.js';
import { input, matmul, multiply, sum } from '../graph/index.js';
import { Random } from '../nn/index.js';

/** The speed of products of square matrices. */
export interface Peak {
  /** Rows and columns of both matrices. */
  size: number;
  /** Floating-point operations per second. */
  flops: number;
}

/** Runs after a warm-up, of which the best counts. */
const RUNS = 10;

async function bestSeconds(
  executable: Executable,
  feeds: Readonly<Record<string, HostTensor>>,
): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i <= RUNS; i++) {
    const started = performance.now();
    await executable.run(feeds);
    if (i > 0) best = Math.min(best, (performance.now() - started) / 1000);
  }
  return best;
}

/**
 * Measures products of [size, size] matrices. They are chained within one run, whose input and output are one number, so
 * that neither the call nor copies count. The chain is shorter for larger matrices, so that the share of other work is
 * constant.
 */
export async function measurePeak(device: Device, size: number): Promise<Peak> {
  const chain = Math.max(4, Math.round(16_384 / size));
  const factor = input('factor', 'float32', []);
  const matrix = input('matrix', 'float32', [size, size]);
  let product = multiply(matrix, factor);
  for (let i = 0; i < chain; i++) product = matmul(product, matrix);

  // Independent elements of variance 1/size: the products stay in scale.
  const random = new Random(1);
  const bound = Math.sqrt(3 / size);
  const values = Float32Array.from({ length: size * size }, () => bound * (2 * random.uniform() - 1));
  const executable = await device.compile({
    inputs: [factor],
    outputs: { total: sum(product) },
    weights: new Map([['matrix', float32(values, [size, size])]]),
  });
  const best = await bestSeconds(executable, { factor: float32([1], []) });
  await executable.dispose();
  return { size, flops: (chain * 2 * size ** 3) / best };
}

/** Rows and columns of the matrix that is read, larger than any cache. */
const READ = 8192;

/** Measures the memory bandwidth with the product of a constant matrix and a vector, which hardly computes. */
export class Bandwidth {
  private constructor(private readonly executable: Executable) {}

  static async prepare(device: Device): Promise<Bandwidth> {
    const x = input('x', 'float32', [1, READ]);
    const matrix = input('matrix', 'float32', [READ, READ]);
    const random = new Random(2);
    const values = Float32Array.from({ length: READ * READ }, () => random.uint32() / 2 ** 32);
    const executable = await device.compile({
      inputs: [x],
      outputs: { y: matmul(x, matrix) },
      weights: new Map([['matrix', float32(values, [READ, READ])]]),
    });
    return new Bandwidth(executable);
  }

  /** Bytes per second in the best of several runs. */
  async measure(): Promise<number> {
    const seconds = await bestSeconds(this.executable, {
      x: float32(new Float32Array(READ).fill(1), [1, READ]),
    });
    return (4 * READ * READ) / seconds;
  }

  dispose(): Promise<void> {
    return this.executable.dispose();
  }
}

/** Rows and columns of the 4-bit matrix that is multiplied with several rows. */
const WIDE = [65_536, 1024] as const;

/**
 * The speedup of a product with a 4-bit matrix, as in decoding, for `rows` rows in one call compared with one row: the upper
 * limit of the speedup of a batch.
 */
export async function measureBatchGain(device: Device, rows: number): Promise<number> {
  const [height, width] = WIDE;
  const block = 128;
  const matrix: QuantizedTensor = {
    dims: WIDE,
    bits: 4,
    block,
    codes: Uint8Array.from({ length: (height * width) / 2 }, (_, i) => (i * 151 + 7) & 255),
    scales: new Float32Array((height * width) / block).fill(0.01),
  };
  const x = input('x', 'float32', ['rows', width]);
  const product = matmul(x, input('matrix', 'float32', WIDE), { transposeB: true });
  const executable = await device.compile({
    inputs: [x],
    outputs: { total: sum(product) },
    weights: new Map([['matrix', matrix]]),
  });
  const best = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (let i = 0; i <= RUNS; i++) {
    for (const [j, count] of [1, rows].entries()) {
      const fed = float32(new Float32Array(count * width).fill(1), [count, width]);
      const started = performance.now();
      await executable.run({ x: fed });
      if (i > 0) best[j] = Math.min(best[j]!, performance.now() - started);
    }
  }
  await executable.dispose();
  return (rows * best[0]!) / best[1]!;
}
