/** How a task is learned, and how well a model does it. */
import type { Device, Program } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { LanguageModel } from '../generate/index.js';
import { cast, crossEntropy, equal, multiply, reshape, scalar, sum, topK } from '../graph/index.js';
import { forward, logitsOf, type Model } from '../models/index.js';
import { Random } from '../nn/index.js';
import { idTokenizer } from '../text/index.js';
import { type DataSource, type Examples, evaluateExamples, type Objective } from '../train/index.js';
import type { Task } from './task.js';

/** Examples that a run holds out, and that a test takes. */
export const HELD_OUT = 256;

/** Losses at the answers alone; `accuracy` is how many of them a model would have said. */
export function answersObjective(length: number): Objective {
  return {
    inputs: [
      { name: 'tokens', dtype: 'int64', shape: [length] },
      { name: 'targets', dtype: 'int64', shape: [length] },
      { name: 'counted', dtype: 'float32', shape: [length] },
    ],
    loss(model, registry, inputs) {
      const { tokens, counted } = inputs;
      const { hidden } = forward(model, registry, tokens!, scalar(0, 'int64'));
      const logits = logitsOf(model, registry, reshape(hidden, [-1, model.hiddenSize]));
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

/** Examples by number: number i of a seed is always the same. Throws `ConfigError` for a length without room for one. */
export function examplesOf(task: Task, length: number, seed: number): Examples {
  return {
    take(first, count) {
      const tokens = new BigInt64Array(count * length);
      const targets = new BigInt64Array(count * length);
      const counted = new Float32Array(count * length);
      for (let i = 0; i < count; i++) {
        const example = exampleOf(task, length, seed, first + i);
        for (const [j, token] of example.tokens.entries()) tokens[i * length + j] = BigInt(token);
        for (const { after, token } of example.answers) {
          targets[i * length + after] = BigInt(token);
          counted[i * length + after] = 1;
        }
      }
      return { tokens, targets, counted };
    },
  };
}

function exampleOf(task: Task, length: number, seed: number, index: number) {
  // Both numbers decide all bits: the streams of two seeds have nothing in common.
  return task.sample(new Random(new Random(seed).uint32() ^ Math.imul(index + 1, 0x9e3779b1)), length);
}

/** What a run of this task learns from: new examples without end, and others that it holds out. */
export function taskData(task: Task): DataSource {
  return (model, { sequence, seed }) => {
    expectVocabulary(task, model);
    // A length without room for an example is refused before anything is written.
    exampleOf(task, sequence, seed, 0);
    const held = examplesOf(task, sequence, seed + 2 ** 20);
    return {
      objective: answersObjective(sequence),
      training: examplesOf(task, sequence, seed),
      validation: { ...held, count: HELD_OUT },
      identity: { task: task.name },
    };
  };
}

function expectVocabulary(task: Task, { vocabSize }: Model): void {
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
  task: Task,
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
    const result = await evaluateExamples(model, weights, answersObjective(length), examples, batch, device);
    return result.measures!.accuracy!;
  }
  const reader = await LanguageModel.compile(model, weights, idTokenizer(model.vocabSize, task.name), device);
  try {
    let [right, all] = [0, 0];
    for (let i = 0; i < count; i++) {
      const { tokens, answers } = exampleOf(task, length, unseen, i);
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
