/** What a sequence costs: memory that is really allocated, and speed measured at a given length. */
import type { LanguageModel } from '../generate/index.js';

/** What a token costs behind so many others. */
export interface DecodeCost {
  /** Tokens that came before. */
  context: number;
  /** Bytes that the state takes. */
  bytes: number;
  tokensPerSecond: number;
}

/**
 * Decodes behind `context` tokens for at least so long, as a session does: one token a call, the likeliest one. The
 * tokens before are allocated as if they had been read: what grows with length is filled with zeros, since the cost does
 * not depend on the values.
 */
export async function decodeCost(model: LanguageModel, context: number, seconds = 0.5): Promise<DecodeCost> {
  const state = model.newState(undefined, context);
  let position = context;
  let last = 1;
  const step = async (): Promise<void> => {
    const logits = await model.read({ ids: [last], position, state });
    position++;
    last = 0;
    for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[last]!) last = id;
  };
  // The first calls touch fresh memory.
  for (let i = 0; i < 8; i++) await step();
  const { bytes } = state;
  const started = performance.now();
  let count = 0;
  let spent = 0;
  while (spent < seconds) {
    await step();
    count++;
    spent = (performance.now() - started) / 1000;
  }
  state.dispose();
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
