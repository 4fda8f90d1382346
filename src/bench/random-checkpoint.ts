/** Checkpoints of random weights, for benchmarks. */
import { join } from 'node:path';
import { writeFileAtomic, writeSafetensors } from '../checkpoint/index.js';
import { float32 } from '../engine/index.js';
import {
  CONFIG_FILE,
  codedShapes,
  countParameters,
  fittingBlocks,
  formatConfig,
  type Model,
  parametersOf,
  type Quantization,
  quantizable,
  WEIGHTS_FILE,
  weightBytes,
  writeQuantized,
} from '../models/index.js';

/** Writes a checkpoint in bfloat16 tensor by tensor, so that it may be larger than the memory. Returns the bytes of the weights. */
export async function writeRandomCheckpoint(folder: string, model: Model): Promise<number> {
  await writeFileAtomic(join(folder, CONFIG_FILE), formatConfig(model.json));
  let state = 1;
  const next = (): number => {
    // xorshift32: each number gives two bfloat16.
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state;
  };
  await writeSafetensors(
    join(folder, WEIGHTS_FILE),
    parametersOf(model).map(({ name, shape }) => ({
      name,
      dtype: 'BF16' as const,
      shape,
      data: () => {
        const size = sizeOf(shape);
        const halves = new Uint32Array(Math.ceil(size / 2));
        // Random sign and fraction, exponents of about 2^-6: no equal blocks, and no infinities.
        for (let i = 0; i < halves.length; i++) halves[i] = (next() & 0x807f807f) | 0x3c803c80;
        return new Uint16Array(halves.buffer, 0, size);
      },
    })),
    { format: 'pt' },
  );
  return 2 * countParameters(parametersOf(model));
}

type Written = Parameters<typeof writeQuantized>[3] extends ReadonlyMap<string, infer W> ? W : never;

/** Writes a quantized checkpoint of random codes, whose 4-bit values have about the magnitude of `writeRandomCheckpoint`. Returns the bytes of the weights. */
export async function writeRandomQuantized(
  folder: string,
  model: Model,
  asked: Quantization,
): Promise<number> {
  const quantization = fittingBlocks(model, asked);
  const { bits, block } = quantization;
  const chosen = quantizable(model, quantization);
  const weights = new Map<string, Written>();
  for (const { name, shape } of parametersOf(model)) {
    if (!chosen.has(name)) {
      weights.set(name, float32(small(sizeOf(shape)), shape));
      continue;
    }
    const [codes, scales] = codedShapes(shape, { bits, block }).map(sizeOf) as [number, number];
    weights.set(name, {
      dims: shape,
      bits,
      block,
      codes: randomBytes(codes),
      scales: new Float32Array(scales).fill(2 ** (-1 - bits)),
    });
  }
  await writeQuantized(folder, model, quantization, weights);
  return [...weights.values()].reduce((sum, weight) => sum + weightBytes(weight), 0);
}

function small(size: number): Float32Array {
  const numbers = new Uint32Array(randomBytes(4 * size).buffer);
  // Random sign and fraction, exponents of about 2^-6.
  for (let i = 0; i < size; i++) numbers[i] = (numbers[i]! & 0x807fffff) | 0x3c800000;
  return new Float32Array(numbers.buffer);
}

function randomBytes(count: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(count);
  // `getRandomValues` takes at most 65,536 bytes per call.
  for (let at = 0; at < count; at += 65_536) {
    crypto.getRandomValues(bytes.subarray(at, Math.min(count, at + 65_536)));
  }
  return bytes;
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
