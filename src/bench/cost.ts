/** What a sequence costs: memory that is really allocated, and speed measured at a given length. */
import type { LanguageModel } from '../generate/index.js';

/** What a token costs behind so many others. */
export interface DecodeCost {
  /** Tokens that came before. */
  context: number;
  /** Bytes that the state takes. */
  bytes: number;
  /** Of all sequences together. */
  tokensPerSecond: number;
  /** Milliseconds from each token of a sequence to its next. */
  gaps: number[];
}

/**
 * Decodes behind `context` tokens for at least so long, as a session does: one token a call, the likeliest one; `streams` sequences at
 * once. The tokens before are allocated as if they had been read: what grows with length is filled with zeros, since the cost does
 * not depend on the values.
 */
export async function decodeCost(
  model: LanguageModel,
  context: number,
  seconds = 0.5,
  streams = 1,
): Promise<DecodeCost> {
  const rows = Array.from({ length: streams }, () => ({
    state: model.newState(undefined, context),
    last: 1,
  }));
  let position = context;
  const step = async (): Promise<void> => {
    const each = async (row: (typeof rows)[number]): Promise<void> => {
      const logits = await model.read({ ids: [row.last], position, state: row.state });
      row.last = 0;
      for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[row.last]!) row.last = id;
    };
    await Promise.all(rows.map(each));
    position++;
  };
  // The first calls touch fresh memory.
  for (let i = 0; i < 8; i++) await step();
  const bytes = rows.reduce((sum, { state }) => sum + state.bytes, 0);
  const gaps: number[] = [];
  const started = performance.now();
  for (let before = started; before - started < 1000 * seconds; ) {
    await step();
    const now = performance.now();
    gaps.push(now - before);
    before = now;
  }
  for (const { state } of rows) state.dispose();
  const spent = gaps.reduce((a, b) => a + b, 0) / 1000;
  return { context, bytes, tokensPerSecond: (streams * gaps.length) / spent, gaps };
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
