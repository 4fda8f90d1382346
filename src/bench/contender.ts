/**
 * Who takes part in the training race: a process that says when it is ready, and then, for each line that it reads, how long the
 * steps of one round took. Between rounds it waits and computes nothing.
 */
import { z } from 'zod';
import { LineProcess } from './line-process.js';

const readySchema = z.object({
  /** Of the model, the input embedding and the head included. */
  parameters: z.number().int().positive(),
  /** Seconds; a peer does not tell. */
  preparation: z.object({ build: z.number().positive(), compile: z.number().positive() }).optional(),
});

const roundSchema = z.object({
  /** A step, averaged over the round. */
  seconds: z.number().positive(),
  /** Nats a token, of the last step. */
  loss: z.number(),
  /** The most memory that the process had resident so far. */
  peakBytes: z.number().positive(),
});

/** A contender has compiled its step. */
export type Ready = z.output<typeof readySchema>;
/** What a round of steps took. */
export type Round = z.output<typeof roundSchema>;

/** A process that takes part in a race of training steps. */
export interface Contender {
  readonly name: string;
  readonly ready: Ready;
  round(): Promise<Round>;
  stop(): void;
}

/** Starts a process and has it do a round that does not count. Throws `ContenderError` if it cannot. */
export async function startContender(
  name: string,
  command: string,
  args: readonly string[],
): Promise<Contender> {
  const child = new LineProcess(name, command, args);
  const round = (): Promise<Round> => {
    child.tell('round');
    return child.hear(roundSchema);
  };
  try {
    const ready = await child.hear(readySchema);
    await round();
    return { name, ready, round, stop: () => child.stop() };
  } catch (error) {
    child.stop();
    throw error;
  }
}

/** Rounds by turns, so that whatever else the machine does falls on all alike: for each contender its rounds. */
export async function race(contenders: readonly Contender[], rounds: number): Promise<Round[][]> {
  const results: Round[][] = contenders.map(() => []);
  for (let i = 0; i < rounds; i++) {
    for (const [j, contender] of contenders.entries()) results[j]!.push(await contender.round());
  }
  return results;
}
