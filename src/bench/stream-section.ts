/**
 * A stream without end: a model reads token after token into one state, and each stretch of the way is timed. The shipped
 * hybrid beside a transformer of its size, each in a process of its own.
 */
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { LineProcess } from './line-process.js';

/** Who reads the stream. */
export const STREAMERS = ['hybrid', 'transformer'] as const;
/** One of them. */
export type Streamer = (typeof STREAMERS)[number];

const stretchSchema = z.object({
  /** Tokens read so far. */
  tokens: z.number().int().positive(),
  /** Over this stretch. */
  tokensPerSecond: z.number().positive(),
  /** What the sequence holds, and what the process has resident. */
  stateBytes: z.number().nonnegative(),
  residentBytes: z.number().positive(),
});
/** What so many tokens took, and what was held behind them. */
export type Stretch = z.output<typeof stretchSchema>;

/** How long the stream is, and how often it is timed. */
export interface StreamTask {
  tokens: number;
  /** Tokens of a stretch. */
  stretch: number;
  threads: number;
  /** Who is not done by then stops where it is. */
  seconds: number;
}

/** Reads the stream; yields each stretch as it is read. Throws `ContenderError` where the process fails. */
export async function* measureStream(
  streamer: Streamer,
  { tokens, stretch, threads, seconds }: StreamTask,
): AsyncGenerator<Stretch> {
  const script = fileURLToPath(new URL('./stream-process.js', import.meta.url));
  const args = [script, streamer, ...[tokens, stretch, threads].map(String)];
  const child = new LineProcess(`the ${streamer}`, process.execPath, args);
  const timer = setTimeout(() => child.stop(), seconds * 1000);
  try {
    yield* child.hearAll(stretchSchema);
  } finally {
    clearTimeout(timer);
    child.stop();
  }
}
