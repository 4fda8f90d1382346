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
import type { Example, TokenTask } from './tokens.js';

/** Examples that a run holds out, and that a test takes. */
export const HELD_OUT = 256;

/**
 * Losses at the answers alone, at most `answers` an example of `length` tokens; `accuracy` is how many of them a model would have said.
 * Logits are computed only where an answer is due.
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

/** Draws one example of a task. */
export type Sampling = TokenTask['sample'];

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
      const [ids, askedAt, due] = [tokens, places, targets].map(lowWords) as [
        Int32Array,
        Int32Array,
        Int32Array,
      ];
      for (let i = 0; i < count; i++) {
        const example = exampleOf(sample, length, seed, first + i);
        for (let j = 0; j < length; j++) ids[2 * (i * length + j)] = example.tokens[j]!;
        for (let j = 0; j < example.answers.length; j++) {
          const { after, token } = example.answers[j]!;
          const at = i * room + j;
          askedAt[2 * at] = after;
          due[2 * at] = token;
          counted[at] = 1;
        }
      }
      return { tokens, places, targets, counted };
    },
  };
}

/**
 * Element 2 i is the lower half of integer i, of little-endian order: a small number that is no less than 0 is written there without a BigInt,
 * which costs more than the example itself.
 */
function lowWords(integers: BigInt64Array): Int32Array {
  return new Int32Array(integers.buffer);
}

function exampleOf(sample: Sampling, length: number, seed: number, index: number) {
  // Both numbers determine all bits, so that the streams of two seeds are independent.
  return sample(new Random(new Random(seed).uint32() ^ Math.imul(index + 1, 0x9e3779b1)), length);
}

/** The data of a run: an endless stream of new training examples, and held-out examples for validation. */
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
/** Examples that are read side by side, where a model writes its own steps. */
const WRITTEN_AT_ONCE = 16;

/** How many examples a model is tested on, and how long they are. */
export interface TestOptions {
  /** Tokens of an example. */
  length: number;
  /** Examples. */
  count?: number;
  seed?: number;
  /** Tokens that are read at once; longer examples are read as a stream. */
  atOnce?: number;
  /** Other examples than those of the task. */
  sample?: Sampling;
}

/**
 * The share of answers that the model has right in `count` examples of a length, which no run has seen. Beyond `atOnce` tokens an
 * example is read as a stream, since its activations would not fit anywhere. Of a task with written steps the model writes them, and the
 * last answer of each example counts.
 */
export async function accuracyOf(
  task: TokenTask,
  model: Model,
  weights: NonNullable<Program['weights']>,
  device: Device,
  options: TestOptions,
): Promise<number> {
  return (await rightAnswers(task, model, weights, device, options)).value;
}

/** The same, with how many answers there were. */
export async function rightAnswers(
  task: TokenTask,
  model: Model,
  weights: NonNullable<Program['weights']>,
  device: Device,
  {
    length,
    count = HELD_OUT,
    seed = 1,
    atOnce = LONGEST_AT_ONCE,
    sample = (random, tokens) => task.sample(random, tokens),
  }: TestOptions,
): Promise<{ value: number; answers: number }> {
  expectVocabulary(task, model);
  const unseen = seed + 2 ** 21;
  if (length <= atOnce && !task.written) {
    const batch = Math.max(1, Math.min(16, Math.floor(LONGEST_AT_ONCE / length)));
    const examples = { ...examplesOf(task, length, unseen, sample), count };
    const objective = answersObjective(length, answersOf(task, length));
    const result = await evaluateExamples(model, weights, objective, examples, batch, device);
    return { value: result.measures!.accuracy!, answers: result.tokens };
  }
  const reader = await LanguageModel.compile(model, weights, idTokenizer(model.vocabSize, task.name), device);
  try {
    const right: boolean[] = [];
    const atATime = task.written ? WRITTEN_AT_ONCE : 1;
    for (let first = 0; first < count; first += atATime) {
      const examples = Array.from({ length: Math.min(atATime, count - first) }, (_, i) =>
        exampleOf(sample, length, unseen, first + i),
      );
      const answered = await Promise.all(
        examples.map((example) => withReader(reader, (read) => answersIn(example, read, task.written))),
      );
      right.push(...answered.flat());
    }
    return { value: right.filter(Boolean).length / right.length, answers: right.length };
  } finally {
    await reader.dispose();
  }
}

/** Reads the next tokens of a sequence, and says the likeliest one behind them. */
type Read = (ids: readonly number[]) => Promise<number>;

/**
 * Which answers are right. With `written`, each answer that the reader gives stands in the place of the right one when it reads on, and the
 * last answer alone is told.
 */
export async function answersIn(
  { tokens, answers }: Example,
  read: Read,
  written = false,
): Promise<boolean[]> {
  const right: boolean[] = [];
  let [at, before] = [0, -1];
  for (const { after, token } of answers) {
    const next = tokens.slice(at, after + 1);
    if (written && at > 0) next[0] = before;
    before = await read(next);
    at = after + 1;
    right.push(before === token);
  }
  return written ? right.slice(-1) : right;
}

/** Tokens that follow each other closely are read one by one: so they are read together with those of other sequences. */
const FEW = 4;

async function withReader<T>(model: LanguageModel, use: (read: Read) => Promise<T>): Promise<T> {
  const state = model.newState();
  let position = 0;
  try {
    return await use(async (ids) => {
      const size = ids.length <= FEW ? 1 : model.chunk;
      let logits: Float32Array = new Float32Array();
      for (let at = 0; at < ids.length; at += size) {
        const part = ids.slice(at, at + size);
        logits = await model.read({ ids: part, position, state });
        position += part.length;
      }
      return logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    });
  } finally {
    state.dispose();
  }
}
