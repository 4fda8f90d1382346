/**
 * Token tasks are made of examples that a seed generates: tokens, and the answers due after some of them. An answer is the model's most
 * likely next token; the other positions are not scored. In tasks with written steps the model writes the steps itself when it is tested.
 */
import { ConfigError } from '../errors.js';
import type { Random } from '../nn/index.js';
import { rightAnswers, type Sampling, taskData } from './learn.js';
import { sourceShare } from './sources.js';
import { ACCURACY, type Task } from './task.js';

/** One example of a task of tokens. */
export interface Example {
  /** Ids below the task's vocabulary. */
  readonly tokens: readonly number[];
  /** The answers, in order of position: the next token that a model should predict after the token at `after`. */
  readonly answers: readonly { readonly after: number; readonly token: number }[];
}

/** A task whose examples are made of ids by a seed, without a tokenizer. */
export interface TokenTask extends Pick<Task, 'name' | 'about' | 'source' | 'lengths' | 'reference'> {
  readonly vocabulary: number;
  readonly chance: number;
  /** Generates an example of exactly `length` tokens. Throws `ConfigError` if the length is too small. */
  sample(random: Random, length: number): Example;
  /** The most answers of an example, if the number varies. */
  most?(length: number): number;
  /**
   * Whether the answers before the last are steps towards it. In a test the model writes them itself, each after those that it wrote
   * before, and only its last answer is scored.
   */
  readonly written?: boolean;
  /** Additional tests with other examples, at the training length. */
  readonly tests?: readonly { readonly of: string; readonly sample: TokenTask['sample'] }[];
  /** Positions of the tokens that determine the answer after position `after`, if there are only a few. */
  sources?(tokens: readonly number[], after: number): readonly number[];
  /** The training examples, if they differ from `sample`: a mixture with easier ones, with no more answers. */
  practice?(random: Random, length: number): Example;
}

/** The most tokens of a test of one length, in whole examples; long examples are therefore few. */
const MOST_TESTED = 2 ** 22;

/** Adapts a token task to the interface `Task`. */
export function tokenTask(task: TokenTask): Task {
  return {
    ...task,
    measure: ACCURACY,
    async prepare(length = task.lengths.train) {
      return {
        reads: { vocabulary: task.vocabulary },
        sequence: length,
        data: taskData(task),
        async *score({ model, weights, device }, { count, seed, longest = Number.POSITIVE_INFINITY }) {
          const right = (tested: number, sample?: Sampling) => {
            const options = { length: tested, count: Math.min(count, Math.ceil(MOST_TESTED / tested)), seed };
            return rightAnswers(task, model, weights, device, { ...options, ...(sample && { sample }) });
          };
          for (const tested of new Set([length, ...task.lengths.test])) {
            if (tested > longest) continue;
            yield { of: `${tested.toLocaleString('en')} tokens`, ...(await right(tested)) };
          }
          for (const { of, sample } of task.tests ?? []) yield { of, ...(await right(length, sample)) };
          if (task.sources) yield sourceShare(task, model, weights, device, { length, seed });
        },
      };
    },
  };
}

/** An example whose answers are its own tokens at these positions, each to be predicted before it is read. */
export function said(tokens: readonly number[], places: readonly number[]): Example {
  return {
    tokens: tokens.slice(0, -1),
    answers: [...places].sort((a, b) => a - b).map((place) => ({ after: place - 1, token: tokens[place]! })),
  };
}

/** `count` distinct random numbers below `limit`, in random order. */
export function distinct(random: Random, count: number, limit: number): number[] {
  const chosen = new Set<number>();
  // Floyd's algorithm: as many draws as numbers, however large the limit.
  for (let top = limit - count; top < limit; top++) {
    const at = random.below(top + 1);
    chosen.add(chosen.has(at) ? top : at);
  }
  const list = [...chosen];
  return [...random.permutation(count)].map((i) => list[i]!);
}

/**
 * The positions of the three tokens of the fact from which a step follows: its mark, its subject and its object. The subject is the
 * intermediate result at `after`, or after a question the token that is asked about.
 */
export function placesOfFact(
  tokens: readonly number[],
  after: number,
  { mark, question }: { readonly mark: number; readonly question: number },
): number[] {
  const of = tokens[after] === question ? tokens[after - 1]! : tokens[after]!;
  const at = tokens.findIndex((token, i) => token === mark && tokens[i + 1] === of);
  return [at, at + 1, at + 2];
}

/** Throws `ConfigError` if `length` is below `least`. */
export function expectRoom(name: string, length: number, least: number): void {
  if (length >= least) return;
  throw new ConfigError(`${name} needs ${least} tokens at least, and ${length} were asked for`);
}
