/** How a task is learned, and how well a model does it. */
import type { Device, Program } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { LanguageModel } from '../generate/index.js';
import {
  add,
  cast,
  crossEntropy,
  equal,
  gather,
  iota,
  multiply,
  reshape,
  scalar,
  sum,
  topK,
} from '../graph/index.js';
import { forward, logitsOf, type Model } from '../models/index.js';
import { Random } from '../nn/index.js';
import { idTokenizer } from '../text/index.js';
import { type DataSource, type Examples, evaluateExamples, type Objective } from '../train/index.js';
import type { TokenTask } from './tokens.js';

/** Examples that a run holds out, and that a test takes. */
export const HELD_OUT = 256;

/**
 * Losses at the answers alone, at most `answers` an example of `length` tokens; `accuracy` is how many of them a model would have said.
 * Logits are made where they are asked for.
 */
export function answersObjective(length: number, answers: number): Objective {
  return {
    inputs: [
      { name: 'tokens', dtype: 'int64', shape: [length] },
      { name: 'places', dtype: 'int64', shape: [answers] },
      { name: 'targets', dtype: 'int64', shape: [answers] },
      { name: 'counted', dtype: 'float32', shape: [answers] },
    ],
    loss(model, registry, inputs) {
      const { tokens, places, counted } = inputs;
      const batch = tokens!.shape[0]!;
      const { hidden } = forward(model, registry, tokens!, scalar(0, 'int64'));
      const rows = reshape(hidden, [-1, model.hiddenSize]);
      const starts = reshape(multiply(iota(batch), length), [batch, 1]);
      const asked = gather(rows, reshape(add(places!, starts), [-1]));
      const logits = logitsOf(model, registry, asked);
      const targets = reshape(inputs.targets!, [-1]);
      const weights = reshape(counted!, [-1]);
      const said = reshape(topK(logits, 1, 1).indices, [-1]);
      const right = cast(equal(said, targets), 'float32');
      return {
        total: sum(multiply(crossEntropy(logits, targets), weights)),
        count: sum(weights),
        measures: { accuracy: sum(multiply(right, weights)) },
      };
    },
  };
}

type Sampling = TokenTask['sample'];

/** How many answers an example of this length has at most. Throws `ConfigError` for a length without room for one. */
export function answersOf(task: TokenTask, length: number): number {
  const { answers } = task.sample(new Random(0), length);
  return task.most?.(length) ?? answers.length;
}

/** Examples by number: number i of a seed is always the same. Throws `ConfigError` for a length without room for one. */
export function examplesOf(
  task: TokenTask,
  length: number,
  seed: number,
  sample: Sampling = (random, tokens) => task.sample(random, tokens),
): Examples {
  const room = answersOf(task, length);
  return {
    take(first, count) {
      const tokens = new BigInt64Array(count * length);
      const places = new BigInt64Array(count * room);
      const targets = new BigInt64Array(count * room);
      const counted = new Float32Array(count * room);
      for (let i = 0; i < count; i++) {
        const example = exampleOf(sample, length, seed, first + i);
        for (let j = 0; j < length; j++) tokens[i * length + j] = BigInt(example.tokens[j]!);
        for (const [j, { after, token }] of example.answers.entries()) {
          places[i * room + j] = BigInt(after);
          targets[i * room + j] = BigInt(token);
          counted[i * room + j] = 1;
        }
      }
      return { tokens, places, targets, counted };
    },
  };
}

function exampleOf(sample: Sampling, length: number, seed: number, index: number) {
  // Both numbers decide all bits: the streams of two seeds have nothing in common.
  return sample(new Random(new Random(seed).uint32() ^ Math.imul(index + 1, 0x9e3779b1)), length);
}

/** What a run of this task learns from: new examples without end, and others that it holds out. */
export function taskData(task: TokenTask): DataSource {
  return (model, { sequence, seed }) => {
    expectVocabulary(task, model);
    // A length without room for an example is refused before anything is written.
    const answers = answersOf(task, sequence);
    const held = examplesOf(task, sequence, seed + 2 ** 20);
    return {
      objective: answersObjective(sequence, answers),
      training: examplesOf(task, sequence, seed, (random, length) =>
        task.practice ? task.practice(random, length) : task.sample(random, length),
      ),
      validation: { ...held, count: HELD_OUT },
      identity: { task: task.name },
    };
  };
}

function expectVocabulary(task: TokenTask, { vocabSize }: Model): void {
  if (vocabSize >= task.vocabulary) return;
  throw new ConfigError(`${task.name} has ${task.vocabulary} tokens, and the model ${vocabSize}`);
}

const LONGEST_AT_ONCE = 8192;

export interface TestOptions {
  /** Tokens of an example. */
  length: number;
  /** Examples. */
  count?: number;
  seed?: number;
  atOnce?: number;
}

/**
 * The share of answers that the model has right in `count` examples of a length, which no run has seen. Beyond `atOnce` tokens an
 * example is read as a stream, since its activations would not fit anywhere.
 */
export async function accuracyOf(
  task: TokenTask,
  model: Model,
  weights: NonNullable<Program['weights']>,
  device: Device,
  { length, count = HELD_OUT, seed = 1, atOnce = LONGEST_AT_ONCE }: TestOptions,
): Promise<number> {
  expectVocabulary(task, model);
  const unseen = seed + 2 ** 21;
  if (length <= atOnce) {
    const batch = Math.max(1, Math.min(16, Math.floor(LONGEST_AT_ONCE / length)));
    const examples = { ...examplesOf(task, length, unseen), count };
    const objective = answersObjective(length, answersOf(task, length));
    const result = await evaluateExamples(model, weights, objective, examples, batch, device);
    return result.measures!.accuracy!;
  }
  const reader = await LanguageModel.compile(model, weights, idTokenizer(model.vocabSize, task.name), device);
  try {
    let [right, all] = [0, 0];
    for (let i = 0; i < count; i++) {
      const { tokens, answers } = exampleOf(
        (random, tokens) => task.sample(random, tokens),
        length,
        unseen,
        i,
      );
      const session = reader.session();
      let read = 0;
      for (const { after, token } of answers) {
        // Long ways between answers are read without logits for each token.
        if (after > read) await session.read(tokens.slice(read, after));
        const logits = await session.readEach(tokens.slice(after, after + 1));
        read = after + 1;
        if (logits.indexOf(logits.reduce((a, b) => Math.max(a, b))) === token) right++;
        all++;
      }
      session.dispose();
    }
    return right / all;
  } finally {
    await reader.dispose();
  }
}
