/**
 * A stream without end: a model reads token after token into one state, and each stretch of the way is timed. The shipped
 * hybrid beside a transformer of its size, each in a process of its own.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { endedEarly } from './contender.js';

export const STREAMERS = ['hybrid', 'transformer'] as const;
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
export type Stretch = z.output<typeof stretchSchema>;

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
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let complaints = '';
  child.stderr.on('data', (text: Buffer) => {
    complaints = (complaints + text.toString()).slice(-2000);
  });
  const timer = setTimeout(() => child.kill(), seconds * 1000);
  const ended = new Promise<[number | null, NodeJS.Signals | null]>((resolve) =>
    child.on('close', (code, signal) => resolve([code, signal])),
  );
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      yield stretchSchema.parse(JSON.parse(line));
    }
    const [code, signal] = await ended;
    if (code !== 0 && signal !== 'SIGTERM') {
      throw endedEarly(`the ${streamer}`, complaints);
    }
  } finally {
    clearTimeout(timer);
    child.kill();
  }
}
