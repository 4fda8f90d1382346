/**
 * An endless stream: a model reads token after token into one state, and each stretch is timed. The shipped hybrid
 * is compared with a transformer of its size, each in its own process.
 */
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { LineProcess } from './line-process.js';

/** The models that read the stream. */
export const STREAMERS = ['hybrid', 'transformer'] as const;
/** One of them. */
export type Streamer = (typeof STREAMERS)[number];

const stretchSchema = z.object({
  /** Tokens read so far. */
  tokens: z.number().int().positive(),
  /** Speed over this stretch. */
  tokensPerSecond: z.number().positive(),
  /** Bytes of the sequence's state, and of the process's resident memory. */
  stateBytes: z.number().nonnegative(),
  residentBytes: z.number().positive(),
});
/** The speed of a stretch, and the memory after it. */
export type Stretch = z.output<typeof stretchSchema>;

/** The length of the stream and of its stretches. */
export interface StreamTask {
  tokens: number;
  /** Tokens per stretch. */
  stretch: number;
  threads: number;
  /** A reader stops after this many seconds. */
  seconds: number;
}

/** Reads the stream; yields each stretch. Throws `ContenderError` if the process fails. */
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
