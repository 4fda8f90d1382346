/**
 * A contender in the training benchmark: a process that reports when it is ready, and then answers each input line with the time of
 * the steps of one round. Between rounds it waits and computes nothing.
 */
import { z } from 'zod';
import { LineProcess } from './line-process.js';

const readySchema = z.object({
  /** Of the model, including the input embedding and the head. */
  parameters: z.number().int().positive(),
  /** Seconds; not reported by a peer. */
  preparation: z.object({ build: z.number().positive(), compile: z.number().positive() }).optional(),
});

const roundSchema = z.object({
  /** Seconds of a step, averaged over the round. */
  seconds: z.number().positive(),
  /** Loss of the last step in nats per token. */
  loss: z.number(),
  /** The process's peak resident memory so far. */
  peakBytes: z.number().positive(),
});

/** The message that a contender has compiled its step. */
export type Ready = z.output<typeof readySchema>;
/** The result of a round of steps. */
export type Round = z.output<typeof roundSchema>;

/** A contender in the training benchmark. */
export interface Contender {
  readonly name: string;
  readonly ready: Ready;
  round(): Promise<Round>;
  stop(): void;
}

/** Starts a process and runs a warm-up round. Throws `ContenderError` if that fails. */
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

/** Runs rounds in alternation, so that other load of the machine affects all contenders alike; returns the rounds of each. */
export async function race(contenders: readonly Contender[], rounds: number): Promise<Round[][]> {
  const results: Round[][] = contenders.map(() => []);
  for (let i = 0; i < rounds; i++) {
    for (const [j, contender] of contenders.entries()) results[j]!.push(await contender.round());
  }
  return results;
}
