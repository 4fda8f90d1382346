/** Training and testing on token tasks. */
import type { Device, HostTensor, Program } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { LanguageModel } from '../generate/index.js';
import {
  add,
  cast,
  crossEntropy,
  equal,
  gather,
  input,
  iota,
  multiply,
  reshape,
  scalar,
  sum,
  type Tensor,
  topK,
} from '../graph/index.js';
import { forward, logitsOf, type Model } from '../models/index.js';
import { ParameterRegistry, Random } from '../nn/index.js';
import { idTokenizer } from '../text/index.js';
import {
  type DataSource,
  type Examples,
  evaluateExamples,
  type FiniteExamples,
  type Objective,
} from '../train/index.js';
import type { Example, TokenTask } from './tokens.js';

/** The number of held-out and of test examples. */
export const HELD_OUT = 256;

/**
 * The loss at the answers only, at most `answers` per example of `length` tokens; `accuracy` is the share of answers predicted
 * correctly. Logits are computed only at the answers.
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
      const { logits, said } = answersAt(model, registry, tokens!, places!, length);
      const targets = reshape(inputs.targets!, [-1]);
      const weights = reshape(counted!, [-1]);
      const right = cast(equal(said, targets), 'float32');
      return {
        total: sum(multiply(crossEntropy(logits, targets), weights)),
        count: sum(weights),
        measures: { accuracy: sum(multiply(right, weights)) },
      };
    },
  };
}

/**
 * Logits [batch * answers, vocabulary] after the positions `places` int64 [batch, answers] of the tokens [batch, length], and the most probable
 * token of each, int64 [batch * answers].
 */
function answersAt(
  model: Model,
  registry: ParameterRegistry,
  tokens: Tensor,
  places: Tensor,
  length: number,
): { logits: Tensor; said: Tensor } {
  const batch = tokens.shape[0]!;
  const { hidden } = forward(model, registry, tokens, scalar(0, 'int64'));
  const rows = reshape(hidden, [-1, model.hiddenSize]);
  const starts = reshape(multiply(iota(batch), length), [batch, 1]);
  const logits = logitsOf(model, registry, gather(rows, reshape(add(places, starts), [-1])));
  return { logits, said: reshape(topK(logits, 1, 1).indices, [-1]) };
}

/** Draws one example of a task. */
export type Sampling = TokenTask['sample'];

/** The most answers of an example of this length. Throws `ConfigError` for a length that is too small. */
function answersOf(task: TokenTask, length: number): number {
  const { answers } = task.sample(new Random(0), length);
  return task.most?.(length) ?? answers.length;
}

/** Examples by number: number i of a seed is always the same. Throws `ConfigError` for a length that is too small. */
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
 * The integers as int32 words: element 2 i is the lower word of integer i (little-endian). Small non-negative numbers are written
 * there without BigInt, which would cost more than generating the example.
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
    // A length that is too small throws before anything is written.
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

/** Options of a test. */
export interface TestOptions {
  /** Tokens per example. */
  length: number;
  /** Number of examples. */
  count?: number;
  seed?: number;
  /** The most tokens that are read at once; longer examples are read as a stream. */
  atOnce?: number;
  /** Generates other examples than those of the task. */
  sample?: Sampling;
}

/**
 * The accuracy of a model on `count` examples of a length, which no run has trained on. An example of more than `atOnce` tokens
 * is read as a stream, since its activations would not fit into memory. In a task with written steps, the model writes them and only the
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

/** Like `accuracyOf`, but returns the counts. */
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
  if (length <= atOnce) {
    const batch = Math.max(1, Math.min(16, Math.floor(LONGEST_AT_ONCE / length)));
    const examples = { ...examplesOf(task, length, unseen, sample), count };
    if (task.written) return lastWritten(task, model, weights, device, { length, batch, examples });
    const objective = answersObjective(length, answersOf(task, length));
    const result = await evaluateExamples(model, weights, objective, examples, batch, device);
    return { value: result.measures!.accuracy!, answers: result.tokens };
  }
  const reader = await LanguageModel.compile(model, weights, idTokenizer(model.vocabSize, task.name), device);
  try {
    const right: boolean[] = [];
    for (let i = 0; i < count; i++) {
      const example = exampleOf(sample, length, unseen, i);
      right.push(...(await withReader(reader, (read) => answersIn(example, read, task.written))));
    }
    return { value: right.filter(Boolean).length / right.length, answers: right.length };
  } finally {
    await reader.dispose();
  }
}

/**
 * The number of examples whose last answer is right when the model writes the answers before. All answers of a batch are predicted in one run and
 * written into the input. When a run changes none, they equal those written one by one, since no answer depends on later tokens
 * (Jacobi iteration, as in Santilli et al., 2023, arXiv 2305.10427). The number of runs is thus one more than the longest chain of wrong steps,
 * instead of one for each token of each example.
 */
async function lastWritten(
  task: TokenTask,
  model: Model,
  weights: NonNullable<Program['weights']>,
  device: Device,
  { length, batch, examples }: { length: number; batch: number; examples: FiniteExamples },
): Promise<{ value: number; answers: number }> {
  const room = answersOf(task, length);
  const inputs = [input('tokens', 'int64', ['batch', length]), input('places', 'int64', ['batch', room])];
  const { said } = answersAt(model, new ParameterRegistry(), inputs[0]!, inputs[1]!, length);
  const executable = await device.compile({ inputs, outputs: { said }, weights });
  try {
    let right = 0;
    for (let first = 0; first < examples.count; first += batch) {
      const count = Math.min(batch, examples.count - first);
      const taken = examples.take(first, count);
      const [tokens, places, targets] = ['tokens', 'places', 'targets'].map((name) => taken[name]) as [
        BigInt64Array,
        BigInt64Array,
        BigInt64Array,
      ];
      const due = taken.counted as Float32Array;
      // Each step but the last is in the input, after the position where it is predicted.
      const steps = [...due.keys()].filter((i) => due[i + 1] === 1 && (i + 1) % room > 0);
      let written: BigInt64Array;
      for (let left = room; ; left--) {
        const feeds: Record<string, HostTensor> = {
          tokens: { dtype: 'int64', dims: [count, length], data: tokens },
          places: { dtype: 'int64', dims: [count, room], data: places },
        };
        written = (await executable.run(feeds)).said!.data as BigInt64Array;
        let changed = 0;
        for (const i of steps) {
          const at = Math.floor(i / room) * length + Number(places[i]) + 1;
          if (tokens[at] !== written[i]) changed++;
          tokens[at] = written[i]!;
        }
        if (changed === 0 || left === 0) break;
      }
      for (let row = 0; row < count; row++) {
        const last = due.subarray(row * room, (row + 1) * room).lastIndexOf(1) + row * room;
        if (written[last] === targets[last]) right++;
      }
    }
    return { value: right / examples.count, answers: examples.count };
  } finally {
    await executable.dispose();
  }
}

/** Reads the next tokens of a sequence, and returns the most probable next token. */
type Read = (ids: readonly number[]) => Promise<number>;

/**
 * Which answers are right. With `written`, each answer of the reader replaces the right one in the tokens that it reads next, and only
 * the last answer is returned.
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

async function withReader<T>(model: LanguageModel, use: (read: Read) => Promise<T>): Promise<T> {
  const state = model.newState();
  let position = 0;
  try {
    return await use(async (ids) => {
      let logits: Float32Array = new Float32Array();
      for (let at = 0; at < ids.length; at += model.chunk) {
        const part = ids.slice(at, at + model.chunk);
        logits = await model.read({ ids: part, position, state });
        position += part.length;
      }
      return logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    });
  } finally {
    state.dispose();
  }
}
