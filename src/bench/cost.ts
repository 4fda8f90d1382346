/** What a sequence costs: memory that is really allocated, and speed measured at a given length. */
import { LIKELIEST } from '../generate/choice.js';
import type { LanguageModel } from '../generate/index.js';
import { TOKENS_PER_RUN } from '../generate/session.js';

export interface DecodeCost {
  /** Tokens that came before. */
  context: number;
  /** Bytes that the state takes. */
  bytes: number;
  tokensPerSecond: number;
}

/**
 * Decodes behind `context` tokens for at least so long, as a session does: several tokens a run, the likeliest ones. The
 * tokens before are allocated as if they had been read: what grows with length is filled with zeros, since the cost does
 * not depend on the values.
 */
export async function decodeCost(model: LanguageModel, context: number, seconds = 0.5): Promise<DecodeCost> {
  const memory = model.newMemory(1, context);
  const { bytes } = memory;
  const random = Array.from({ length: TOKENS_PER_RUN }, () => 0);
  let position = context;
  let last = 1;
  const run = async (): Promise<void> => {
    const continuation = { last, position, random, prescribed: [], choosing: LIKELIEST };
    const [written] = await model.write([continuation], memory);
    last = written!.tokens.at(-1)!;
    position += TOKENS_PER_RUN;
  };
  // The first run touches fresh memory.
  await run();
  const started = performance.now();
  let count = 0;
  let spent = 0;
  while (spent < seconds) {
    await run();
    count += TOKENS_PER_RUN;
    spent = (performance.now() - started) / 1000;
  }
  memory.dispose();
  return { context, bytes, tokensPerSecond: count / spent };
}

/** Tokens a second when reading `count` tokens into a new sequence, the best of some times. */
export async function prefillRate(model: LanguageModel, count: number, times = 2): Promise<number> {
  const ids = Array.from({ length: count }, (_, i) => i % model.model.vocabSize);
  let best = 0;
  for (let i = 0; i < times; i++) {
    const session = model.session();
    const started = performance.now();
    await session.read(ids);
    best = Math.max(best, (count / (performance.now() - started)) * 1000);
    session.dispose();
  }
  return best;
}
