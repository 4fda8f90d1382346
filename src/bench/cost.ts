/** The cost of a sequence: allocated memory, and speed at a given length. */
import type { LanguageModel } from '../generate/index.js';

/** The cost of decoding after `context` tokens. */
export interface DecodeCost {
  /** Tokens before the decoded ones. */
  context: number;
  /** Bytes of the states. */
  bytes: number;
  /** Rate of all sequences together. */
  tokensPerSecond: number;
  /** Milliseconds from each token of a sequence to its next. */
  gaps: number[];
}

/**
 * Decodes after `context` tokens for at least the given time, as a session does: greedily, one token per call; `streams` sequences at
 * once. The preceding tokens are not read: growing states are allocated at that length and filled with zeros, since the cost does
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
  const bytes = rows.reduce((sum, { state }) => sum + state.bytes, 0);
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

/** Tokens per second of reading `count` tokens into a new sequence, the best of `times` runs. */
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
