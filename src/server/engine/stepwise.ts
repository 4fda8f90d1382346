/**
 * Writing one token a run, so that each choice can be looked at and steered: for log probabilities, penalties that count,
 * biases, and texts that have to follow a grammar. The random numbers are those that `Session.generate` draws.
 */
import {
  type Choosing,
  type GenerateOptions,
  type LanguageModel,
  type Session,
  type StopReason,
  StopWatch,
} from '../../generate/index.js';
import { Random } from '../../nn/index.js';

export interface Step {
  /** Absent where only text comes that was held back. */
  readonly id: number | undefined;
  readonly text: string;
  /** [vocabulary], before they were steered: those that the token was chosen from. */
  readonly logits: Float32Array | undefined;
}

/** What steers the choices of one text. */
export interface Steering {
  /** Changes logits in place, -Infinity for what must not be chosen. `left` tokens may be written, this one included. */
  steer(logits: Float32Array, left: number): void;
  /** A token was chosen. Returns whether the text is complete with it. */
  chosen(id: number): boolean;
}

export type StepwiseOptions = Required<Pick<GenerateOptions, 'maxTokens' | 'stop' | 'seed'>> &
  Omit<Choosing, 'occurred'>;

/** Writes on behind what a session has read last; its logits must be known, as they are after reading at least a token. */
export async function* writeStepwise(
  language: LanguageModel,
  session: Session,
  options: StepwiseOptions,
  steering: readonly Steering[],
): AsyncGenerator<Step, StopReason> {
  const random = new Random(options.seed);
  const text = language.tokenizer.stream();
  const watch = new StopWatch(options.stop);
  let reason: StopReason = 'length';
  for (let count = 0; count < options.maxTokens && !watch.stopped && reason !== 'token'; count++) {
    const { logits } = await session.snapshot();
    const steered = logits!.slice();
    for (const each of steering) each.steer(steered, options.maxTokens - count);
    const choosing = { ...options, occurred: session.tokens };
    const id = await language.choose(steered, random.uniform(), choosing);
    if (options.ends.includes(id)) {
      reason = 'token';
      break;
    }
    await session.read([id]);
    if (steering.map((each) => each.chosen(id)).includes(true)) reason = 'token';
    yield { id, text: watch.push(text.push(id)), logits: logits! };
  }
  const rest = watch.push(text.end()) + watch.end();
  if (rest !== '') yield { id: undefined, text: rest, logits: undefined };
  return watch.stopped ? 'string' : reason;
}

/** Adds a number to the logits of some tokens. */
export function biased(bias: readonly (readonly [id: number, bias: number])[]): Steering {
  return {
    steer: (logits) => {
      for (const [id, amount] of bias) if (id < logits.length) logits[id]! += amount;
    },
    chosen: () => false,
  };
}

/** Takes from the logits of the tokens that were written: once for each that was, and once more each time. */
export function penalized(presence: number, frequency: number): Steering {
  const counts = new Map<number, number>();
  return {
    steer: (logits) => {
      for (const [id, count] of counts) logits[id]! -= presence + frequency * count;
    },
    chosen: (id) => {
      counts.set(id, (counts.get(id) ?? 0) + 1);
      return false;
    },
  };
}
