/** Tasks: answers equal those of independent solvers; a model learns a task, and its score is the same at once and as a stream. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openDevice } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { hybridModel, parametersOf, readWeights } from '../models/index.js';
import { tinyConfig } from '../models/testing/tiny.js';
import { Random } from '../nn/index.js';
import { initialWeights, TRAINING_DEFAULTS, train } from '../train/index.js';
import { accuracyOf, examplesOf, TOKEN_TASKS, type TokenTask, taskData, taskOf } from './index.js';
import { answersIn } from './learn.js';
import { sourceShare } from './sources.js';
import { said } from './tokens.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-tasks-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));

/** Independent solvers: the answer after the tokens so far. */
const SOLVERS: Record<string, (read: readonly number[]) => number> = {
  mqar(read) {
    return read[read.indexOf(read.at(-1)!) + 1]!;
  },
  'selective-copying'(read) {
    const asked = read.indexOf(1);
    return read.slice(0, asked).filter((token) => token > 1)[read.length - 1 - asked]!;
  },
  induction(read) {
    return read[read.indexOf(16) + 1]!;
  },
  'facts-16-unmarked'(read) {
    return read[read.indexOf(read.at(-1)!) + 1]!;
  },
  facts(read) {
    const key = read.at(-1)!;
    const facts = read.flatMap((token, i) => (token === 0 && read[i + 1] === key ? [read[i + 2]!] : []));
    return facts.at(-1)!;
  },
  passkey(read) {
    return read[read.indexOf(10) + 1 + (read.length - 1 - read.indexOf(11))]!;
  },
  phonebook(read) {
    const asked = read.lastIndexOf(11);
    const [first, second] = read.slice(asked + 1);
    const at = read.findIndex((token, i) => token === first && read[i + 1] === second);
    return read[at + 2 + (read.length - asked - 3)]!;
  },
  parity(read) {
    return 3 + (read.filter((token) => token === 1).length % 2);
  },
  s5(read) {
    // The permutations are applied one after the other; the number of a permutation is its index in `PERMUTATIONS`.
    const at = (number: number): number[] => PERMUTATIONS[number]!;
    const made = read.reduce((things, token) => at(token).map((from) => things[from]!), [0, 1, 2, 3, 4]);
    return PERMUTATIONS.findIndex((each) => each.join() === made.join());
  },
  listops(read) {
    const text = read
      .filter((token) => token < 15)
      .map((token) => (token < 10 ? token : 'abcd]'[token - 10]));
    const functions: Record<string, (...values: number[]) => number> = {
      a: Math.min,
      b: Math.max,
      c: (...values) => values.slice().sort((x, y) => x - y)[Math.floor(values.length / 2)]!,
      d: (...values) => values.reduce((x, y) => x + y) % 10,
    };
    const stack: { name: string; values: number[] }[] = [{ name: 'b', values: [] }];
    for (const token of text) {
      if (typeof token === 'number') stack.at(-1)!.values.push(token);
      else if (token !== ']') stack.push({ name: token!, values: [] });
      else {
        const { name, values } = stack.pop()!;
        stack.at(-1)!.values.push(functions[name]!(...values));
      }
    }
    expect(stack.length).toBe(1);
    return stack[0]!.values[0]!;
  },
  inference(read) {
    // As many steps as there are marks, starting from the thing after them.
    const depth = marksBefore(read, read.length - 2);
    let at = read.at(-2)!;
    for (let i = 0; i < depth; i++) at = rulesIn(read).get(at)!;
    return at;
  },
  'inference-steps'(read) {
    const due = read.lastIndexOf(66);
    const written = read.slice(due + 1);
    expect(written.length).toBeLessThan(marksBefore(read, due - 1));
    return rulesIn(read).get(written.at(-1) ?? read[due - 1]!)!;
  },
};

/** The number of consecutive question marks before a position. */
function marksBefore(read: readonly number[], place: number): number {
  let first = place;
  while (read[first - 1] === 65) first--;
  return place - first;
}

function rulesIn(read: readonly number[]): Map<number, number> {
  return new Map(read.flatMap((token, i) => (token === 64 ? [[read[i + 1]!, read[i + 2]!] as const] : [])));
}

/** In the order of the task: the largest thing is inserted at each position of the permutations without it. */
const PERMUTATIONS: number[][] = (() => {
  let all: number[][] = [[]];
  for (let size = 1; size <= 5; size++) {
    all = all.flatMap((rest) =>
      Array.from({ length: size }, (_, i) => [...rest.slice(0, i), size - 1, ...rest.slice(i)]),
    );
  }
  return all;
})();

/** The list that ends last, without the values written after the inner lists. */
function lastList(read: readonly number[]): number[] {
  const bare = read.filter((token, i) => !(token < 10 && read[i - 1] === 14));
  const end = bare.lastIndexOf(14);
  let start = end;
  for (let depth = 1; depth > 0; ) {
    start--;
    depth += bare[start] === 14 ? 1 : bare[start]! > 9 && bare[start]! < 14 ? -1 : 0;
  }
  return bare.slice(start, end + 1);
}

function solve(task: TokenTask, read: readonly number[]): number {
  if (task.name === 'listops-steps') return SOLVERS.listops!(lastList(read));
  // The intermediate result is written after every step.
  if (task.name === 'parity-steps' || task.name === 's5-steps')
    return SOLVERS[task.name.split('-')[0]!]!(read.filter((_, i) => i % 2 === 0));
  return (SOLVERS[task.name] ?? SOLVERS[task.name.split('-')[0]!])!(read);
}

describe.each(TOKEN_TASKS)('$name', (task) => {
  test('has answers that follow from what was read', () => {
    const random = new Random(4);
    const lengths = task.lengths.test.filter((length) => length <= 4096);
    for (const length of [task.lengths.train, ...lengths]) {
      for (let i = 0; i < 8; i++) {
        const { tokens, answers } = task.sample(random, length);
        expect(tokens.length).toBe(length);
        expect(answers.length).toBeGreaterThan(0);
        const ids = [...tokens, ...answers.map(({ token }) => token)];
        expect(ids.filter((id) => !(Number.isInteger(id) && id >= 0 && id < task.vocabulary))).toEqual([]);
        for (const { after, token } of answers) expect(solve(task, tokens.slice(0, after + 1))).toBe(token);
      }
    }
    const most = task.most?.(task.lengths.train) ?? task.sample(random, task.lengths.train).answers.length;
    for (let i = 0; i < 8; i++) {
      const { tokens, answers } = (task.practice ?? task.sample).call(task, random, task.lengths.train);
      expect(tokens.length).toBe(task.lengths.train);
      expect(answers.length).toBeLessThanOrEqual(most);
      for (const { after, token } of answers) expect(solve(task, tokens.slice(0, after + 1))).toBe(token);
    }
    for (const { sample } of task.tests ?? []) {
      const { tokens, answers } = sample(random, task.lengths.train);
      expect(tokens.length).toBe(task.lengths.train);
      expect(answers.length).toBeLessThanOrEqual(most);
      for (const { after, token } of answers) {
        const read = tokens.slice(0, after + 1);
        expect(solve(task, read)).toBe(token);
        // The sources of a step determine the answer, without duplicates.
        if (task.sources) expect(tokens[task.sources(read, after).at(-1)!]).toBe(token);
      }
    }
  });

  test('gives the same example for the same number, and refuses a length without room', () => {
    const length = task.lengths.train;
    const [whole, part] = [examplesOf(task, length, 3).take(0, 4), examplesOf(task, length, 3).take(2, 1)];
    expect(part.tokens).toEqual((whole.tokens as BigInt64Array).slice(2 * length, 3 * length));
    expect(examplesOf(task, length, 4).take(2, 1).tokens).not.toEqual(part.tokens);
    if (!/^s5/.test(task.name)) {
      const tooShort = task.name.startsWith('parity') ? 1 : 3;
      expect(() => task.sample(new Random(1), tooShort)).toThrow(ConfigError);
    }
  });
});

describe('written steps', () => {
  test.each([16, 17, 64, 256, 512])('of the most lists that fit into %i tokens have room', (length) => {
    const task = TOKEN_TASKS.find(({ name }) => name === 'listops-steps')!;
    // Two items a list, nested wherever there is room, and no filling before.
    const densest = Object.assign(new Random(1), { below: () => 0, uniform: () => 0 });
    const { tokens, answers } = task.sample(densest, length);
    expect(tokens.length).toBe(length);
    expect(answers.length).toBeLessThanOrEqual(task.most!(length));
  });

  test('follow from their sources alone', () => {
    const random = new Random(8);
    /** The answer computed from the tokens of the sources, in order. */
    const follows: Record<string, (sources: readonly number[]) => number> = {
      'parity-steps': (sources) => 3 + (sources.filter((token) => token === 1 || token === 4).length % 2),
      's5-steps': SOLVERS.s5!,
      'listops-steps': (sources) => SOLVERS.listops!([...sources, 14]),
      'inference-steps': (sources) => sources.at(-1)!,
    };
    const written = TOKEN_TASKS.filter((task) => task.written);
    expect(written.map(({ name }) => name).sort()).toEqual(Object.keys(follows).sort());
    for (const task of written) {
      for (let i = 0; i < 8; i++) {
        const { tokens, answers } = task.sample(random, task.lengths.train);
        for (const { after, token } of answers) {
          const sources = task.sources!(tokens.slice(0, after + 1), after).map((at) => tokens[at]!);
          expect(follows[task.name]!(sources)).toBe(token);
        }
      }
    }
  });

  /** A reader that answers correctly from what it has read; with `wrong`, its first answer is wrong. */
  const follower = (next: (read: readonly number[]) => number, wrong: boolean) => {
    const read: number[] = [];
    let answers = 0;
    return async (ids: readonly number[]) => {
      read.push(...ids);
      return answers++ === 0 && wrong ? (next(read) === 3 ? 4 : 3) : next(read);
    };
  };
  const NEXT: Record<string, (read: readonly number[]) => number> = {
    'inference-steps': (read) => solve(taskNamed('inference-steps'), read) ?? 0,
    // The last bit, and the step written before it.
    'parity-steps': (read) => 3 + ((read.at(-1)! + (read.at(-2) === 4 ? 1 : 0)) % 2),
  };
  const taskNamed = (name: string): TokenTask => TOKEN_TASKS.find((task) => task.name === name)!;

  test.each(Object.keys(NEXT))(
    'an error in the first step of %s makes the last answer wrong',
    async (name) => {
      const random = new Random(6);
      for (let i = 0; i < 8; i++) {
        const task = taskNamed(name);
        const { sample } = task.tests?.[3] ?? task;
        const example = sample.call(task, random, task.lengths.train);
        expect(await answersIn(example, follower(NEXT[name]!, false), true)).toEqual([true]);
        expect(await answersIn(example, follower(NEXT[name]!, true), true)).toEqual([false]);
        // If the right steps are read, the last answer does not depend on the first.
        const told = await answersIn(example, follower(NEXT[name]!, true));
        expect([told[0], told.at(-1)]).toEqual([false, true]);
      }
    },
  );
});

test('a model writes the same steps in whole examples and token by token', async () => {
  // An untrained model writes mostly wrong steps, which affect the following ones.
  const guess: TokenTask = {
    ...{ name: 'guess', about: '', source: '', vocabulary: 3, chance: 1 / 3 },
    lengths: { train: 16, test: [16] },
    written: true,
    most: () => 8,
    sample(random, length) {
      const tokens = Array.from({ length: length + 1 }, () => random.below(3));
      const steps = 1 + random.below(8);
      return said(
        tokens,
        Array.from({ length: steps }, (_, i) => length - i),
      );
    },
  };
  const model = hybridModel(
    tinyConfig({ pattern: 'M-*-', vocabSize: 3, ropeTheta: 100, eosTokenId: undefined }),
  );
  const weights = initialWeights(parametersOf(model), 1);
  // Scaled up, since the output of an untrained model depends almost only on the last token.
  for (const [name, { data }] of weights)
    if (name.includes('o_proj') || name.includes('out_proj'))
      for (let i = 0; i < data.length; i++) (data as Float32Array)[i]! *= 30;
  const device = await openDevice('cpu', { threads: 1 });
  const options = { length: 16, count: 50 };
  const whole = await accuracyOf(guess, model, weights, device, options);
  expect(await accuracyOf(guess, model, weights, device, { ...options, atOnce: 8 })).toBe(whole);
  expect(whole).toBeGreaterThan(0.2);
  await device.dispose();
});

/** The answer after a mark is the third token from the end. */
const echo: TokenTask = {
  name: 'echo',
  about: '',
  source: '',
  vocabulary: 9,
  chance: 1 / 8,
  lengths: { train: 12, test: [12] },
  sample(random, length) {
    const tokens = Array.from({ length }, () => random.below(8));
    tokens[length - 1] = 8;
    return said([...tokens, tokens[length - 3]!], [length]);
  },
};

test('a small model learns a small task, and has the same score at once and as a stream', async () => {
  const device = await openDevice('cpu', { threads: 1 });
  const model = hybridModel(
    tinyConfig({ pattern: 'M-*-', vocabSize: 9, ropeTheta: 100, eosTokenId: undefined }),
  );
  const folder = join(here, 'run');
  const accuracies: number[] = [];
  await train({
    model,
    data: taskData(echo),
    settings: {
      ...TRAINING_DEFAULTS,
      steps: 240,
      batch: 16,
      sequence: 12,
      learningRate: 1e-2,
      evaluateEvery: 120,
    },
    device,
    folder,
    onEvent: (event) => event.event === 'evaluation' && accuracies.push(event.measures!.accuracy!),
  });
  expect(accuracies[0]).toBeLessThan(0.4);
  expect(accuracies.at(-1)).toBeGreaterThan(0.95);
  const weights = await readWeights(join(folder, 'checkpoint'), model);
  const atOnce = await accuracyOf(echo, model, weights, device, { length: 12, count: 60 });
  expect(atOnce).toBeGreaterThan(0.95);
  expect(await accuracyOf(echo, model, weights, device, { length: 12, count: 60, atOnce: 4 })).toBe(atOnce);
  const sources = (tokens: readonly number[]) => [tokens.length - 3];
  const { of, value } = await sourceShare({ ...echo, sources }, model, weights, device, {
    ...{ length: 12, seed: 1, steps: 3 },
  });
  expect(of).toBe("share of 3 steps' sources on their rules (8 % were all tokens alike)");
  expect(value).toBeGreaterThan(0.12);
  expect(value).toBeLessThan(1);
  expect(() => taskOf('chess')).toThrow(/there is no task 'chess'; there are mqar-8/);
  expect(() => taskData({ ...echo, vocabulary: 10 })(model, TRAINING_DEFAULTS)).toThrow(ConfigError);
});
