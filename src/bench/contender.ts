/**
 * Who takes part in the training race: each in a process of its own, so that none slows another by what it holds, and the
 * peak of its memory is its own. It says a line of JSON when it is ready, and then one for each line that it reads: how
 * long the steps of one round took. Between rounds it waits and computes nothing.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { parseJson } from '../checkpoint/index.js';
import { HeddleError } from '../errors.js';

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

export type Ready = z.output<typeof readySchema>;
export type Round = z.output<typeof roundSchema>;

/** A contender's process ended, or said something else than was agreed. */
export class ContenderError extends HeddleError {
  constructor(message: string) {
    super('contender', message);
  }
}

/** That a process stopped answering, with why: the last line of its complaints that names an error, else the last one. */
export function endedEarly(name: string, complaints: string): ContenderError {
  const lines = complaints.trim().split('\n');
  const reason = lines.filter((line) => /error:/i.test(line)).at(-1) ?? lines.at(-1);
  return new ContenderError(`${name} ended early${reason ? `: ${reason.trim()}` : ''}`);
}

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
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  let complaints = '';
  child.stderr.on('data', (text: Buffer) => {
    complaints = (complaints + text.toString()).slice(-2000);
  });
  child.on('error', (error) => {
    complaints += error.message;
  });
  // Writing to one that has gone fails; that it does not answer is what is reported.
  child.stdin.on('error', () => {});

  const hear = async <T>(schema: z.ZodType<T>): Promise<T> => {
    const { value, done } = await lines.next();
    if (done) throw endedEarly(name, complaints);
    const result = schema.safeParse(parseJson(value));
    if (!result.success) throw new ContenderError(`${name} said what was not asked: ${value}`);
    return result.data;
  };
  const round = (): Promise<Round> => {
    child.stdin.write('round\n');
    return hear(roundSchema);
  };
  const stop = (): void => {
    child.kill();
  };
  try {
    const ready = await hear(readySchema);
    await round();
    return { name, ready, round, stop };
  } catch (error) {
    stop();
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
