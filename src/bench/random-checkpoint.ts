/** Checkpoints of random weights, written for the occasion. */
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic, writeSafetensors } from '../checkpoint/index.js';
import {
  CONFIG_FILE,
  fittingBlocks,
  formatConfig,
  type Model,
  parametersOf,
  type Quantization,
  quantizeWeights,
  WEIGHTS_FILE,
  weightBytes,
  writeQuantized,
} from '../models/index.js';

/** A checkpoint in bfloat16, made tensor by tensor, so that it may be larger than the memory. */
export async function writeRandomCheckpoint(folder: string, model: Model): Promise<void> {
  await writeFileAtomic(join(folder, CONFIG_FILE), formatConfig(model.json));
  let state = 1;
  const next = (): number => {
    // xorshift32: two bfloat16 a number.
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
        const size = shape.reduce((a, b) => a * b, 1);
        const halves = new Uint32Array(Math.ceil(size / 2));
        // Sign and fraction at random, exponents of about 2^-6: no two blocks alike, and no infinities.
        for (let i = 0; i < halves.length; i++) halves[i] = (next() & 0x807f807f) | 0x3c803c80;
        return new Uint16Array(halves.buffer, 0, size);
      },
    })),
    { format: 'pt' },
  );
}

/** The same quantized, in blocks that fit the model. Returns which, and the bytes of the weights. */
export async function writeRandomQuantized(
  folder: string,
  model: Model,
  asked: Quantization,
): Promise<{ quantization: Quantization; bytes: number }> {
  const source = await mkdtemp(join(folder, 'source-'));
  try {
    await writeRandomCheckpoint(source, model);
    const quantization = fittingBlocks(model, asked);
    const weights = await quantizeWeights(source, model, quantization);
    await writeQuantized(folder, model, quantization, weights);
    return {
      quantization,
      bytes: [...weights.values()].reduce((sum, weight) => sum + weightBytes(weight), 0),
    };
  } finally {
    await rm(source, { recursive: true });
  }
}
