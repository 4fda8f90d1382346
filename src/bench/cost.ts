/** What a sequence costs: memory that is really allocated, and speed measured at a given length. */
import type { LanguageModel } from '../generate/index.js';

export interface DecodeCost {
  /** Tokens that came before. */
  context: number;
  /** Bytes that the state takes. */
  bytes: number;
  tokensPerSecond: number;
}

const SECONDS = 0.5;
const FEWEST_TOKENS = 4;

/**
 * Decodes behind `context` tokens. Their state is allocated as if they had been read: what grows with length is filled
 * with zeros, since the cost does not depend on the values.
 */
export async function decodeCost(model: LanguageModel, context: number): Promise<DecodeCost> {
  const memory = model.newMemory(1, context);
  const { bytes } = memory;
  let position = context;
  const decode = (): Promise<Float32Array> => model.read([[1]], position++, memory);
  // The first steps touch fresh memory.
  for (let i = 0; i < 2; i++) await decode();
  const started = performance.now();
  let count = 0;
  let seconds = 0;
  while (seconds < SECONDS || count < FEWEST_TOKENS) {
    await decode();
    count++;
    seconds = (performance.now() - started) / 1000;
  }
  memory.dispose();
  return { context, bytes, tokensPerSecond: count / seconds };
}

/** Tokens a second when reading `count` tokens into a new sequence, the better of two times. */
export async function prefillRate(model: LanguageModel, count: number): Promise<number> {
  const ids = Array.from({ length: count }, (_, i) => i % model.model.vocabSize);
  let best = 0;
  for (let i = 0; i < 2; i++) {
    const session = model.session();
    const started = performance.now();
    await session.read(ids);
    best = Math.max(best, (count / (performance.now() - started)) * 1000);
    session.dispose();
  }
  return best;
}
