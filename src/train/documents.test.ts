/** Documents in one row are learned as if each stood alone, and a document over many rows as if it stood in one. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { float32, type HostTensor, int64, openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import {
  crossEntropy,
  gradient,
  input,
  multiply,
  reshape,
  scalar,
  sum,
  type Tensor,
} from '../graph/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import {
  BLOCKS,
  forward,
  hybridModel,
  logitsOf,
  type Model,
  type ModelConfigInput,
  parametersOf,
} from '../models/index.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import { ParameterRegistry, Random } from '../nn/index.js';
import { documentData, packed } from './documents.js';
import { initialWeights } from './equipment.js';
import { evaluateExamples } from './evaluate.js';
import type { TrainingEvent } from './input.js';
import type { TrainingPhase } from './phases.js';
import { tinyInput, tinySettings } from './testing/runs.js';
import { train } from './trainer.js';

const device = await openDevice('cpu', { threads: 1 });
afterAll(() => device.dispose());

const random = new Random(5);
const documentOf = (length: number): Int32Array => Int32Array.from({ length }, () => random.below(300));

/** Places that each reads: the longest crosses the end of a chunk of recurrences. */
const lengths = [3, 70, 4];
const documents = lengths.map((length) => documentOf(length + 1));
const sequence = 80;

/** Sum of losses and its gradients. */
async function learned(
  model: Model,
  feeds: Record<string, HostTensor>,
  loss: (registry: ParameterRegistry, inputs: Record<string, Tensor>) => Tensor,
) {
  const registry = new ParameterRegistry();
  const inputs = Object.fromEntries(
    Object.entries(feeds).map(([name, { dtype, dims }]) => [name, input(name, dtype, dims)]),
  );
  const total = loss(registry, inputs);
  const names = [...registry.tensors.keys()];
  const parts = gradient(total, [...registry.tensors.values()]);
  const executable = await device.compile(
    withInputs({
      outputs: { total, ...Object.fromEntries(names.map((name, i) => [`d ${name}`, parts[i]!])) },
    }),
  );
  const outputs = await executable.run({ ...feeds, ...Object.fromEntries(tinyWeights(model)) });
  await executable.dispose();
  return {
    loss: outputs.total!.data[0] as number,
    gradient: names.flatMap((name) => [...(outputs[`d ${name}`]!.data as Float32Array)]),
  };
}

/** Each document in a row of its own, read as every sequence is. */
function alone(model: Model) {
  const longest = Math.max(...lengths);
  const rows = documents.map((tokens) => Array.from({ length: longest + 1 }, (_, i) => tokens[i] ?? 0));
  const feeds = {
    tokens: int64(
      rows.flatMap((row) => row.slice(0, -1)),
      [3, longest],
    ),
    targets: int64(
      rows.flatMap((row) => row.slice(1)),
      [3, longest],
    ),
    counted: float32(
      Float32Array.from(lengths.flatMap((length) => rows[0]!.slice(1).map((_, i) => Number(i < length)))),
      [3, longest],
    ),
  };
  return learned(model, feeds, (registry, { tokens, targets, counted }) => {
    const { hidden } = forward(model, registry, tokens!, scalar(0, 'int64'));
    const logits = logitsOf(model, registry, reshape(hidden, [-1, model.hiddenSize]));
    return sum(multiply(crossEntropy(logits, reshape(targets!, [-1])), reshape(counted!, [-1])));
  });
}

function inOneRow(model: Model) {
  const data = documentData(documents, documents, 'pack')(model, { ...tinySettings, sequence });
  const values = data.validation.take(0, 1);
  expect(data.validation.count).toBe(1);
  const feeds = Object.fromEntries(
    data.objective.inputs.map(({ name, dtype }) => [
      name,
      { dtype, dims: [1, sequence], data: values[name]! },
    ]),
  );
  return learned(model, feeds, (registry, inputs) => data.objective.loss(model, registry, inputs).total);
}

const forms: [string, Partial<ModelConfigInput>][] = [
  ...Object.keys(BLOCKS).map((letter): [string, object] => [
    letter === '-' || letter === 'E' ? `M${letter}` : letter,
    {},
  ]),
  ['S', { attentionScore: 'convolution', attentionScoresWindow: true }],
  ['*', { ropeTheta: 100 }],
  ['N', { mamba3MimoRank: 2 }],
  ['I', { ltiMatrix: 'full' }],
  ['I', { ltiMatrix: 's4d-real' }],
];

/** One row of a batch that reads all documents one after the other, the longest over two rows. */
async function carriedOn(model: Model): Promise<number> {
  const settings = { ...tinySettings, batch: 1, sequence: 40 };
  const { objective, validation } = documentData(documents, documents, 'carry')(model, settings);
  expect(validation.count).toBe(2);
  const result = await evaluateExamples(model, tinyWeights(model), objective, validation, 1, device);
  return result.loss * result.tokens;
}

describe('documents side by side in a row, and over several rows, are learned as each alone', () => {
  test.each(forms)('%s, %j', async (pattern, change) => {
    const model = hybridModel(tinyConfig({ pattern, ...change }));
    const [one, other] = [await alone(model), await inOneRow(model)];
    expect(Math.abs(other.loss / one.loss - 1)).toBeLessThan(1e-6);
    expect(relativeError(other.gradient, one.gradient)).toBeLessThan(1e-5);
    expect(Math.abs((await carriedOn(model)) / one.loss - 1)).toBeLessThan(2e-6);
  });
});

test('all places of all documents are packed once, and rows are full where that can be', () => {
  const lengths = [5, 12, 1, 7, 3, 40, 8, 2];
  const all = lengths.map((length) => documentOf(length + 1));
  const rows = packed(all, 12);
  const sizes = rows.map((row) => row.reduce((sum, { from, to }) => sum + to - from, 0));
  expect(sizes.reduce((a, b) => a + b)).toBe(78);
  expect(Math.max(...sizes)).toBe(12);
  // 78 places fill six rows and a half.
  expect(rows.length).toBe(7);
  const seen = new Set(rows.flat().map(({ tokens, from }) => `${all.indexOf(tokens)} ${from}`));
  expect(seen.size).toBe(rows.flat().length);
});

describe('a row that is carried on', () => {
  const model = hybridModel(tinyConfig({ pattern: 'C-' }));
  const all = [9, 30, 4, 17].map((length) => documentOf(length + 1));
  const settings = { ...tinySettings, batch: 2, accumulate: 2, sequence: 8 };
  const { training } = documentData(all, all, 'carry')(model, settings);

  test('reads all documents in an order of its own, one after the other, and then all again', () => {
    const lanes = Array.from({ length: 4 }, (): number[][] => []);
    const { tokens, targets, documents: numbers } = training.take(0, 4 * 30) as Record<string, BigInt64Array>;
    for (let i = 0; i < 120; i++) {
      const lane = lanes[i % 4]!;
      for (let j = 8 * i; j < 8 * i + 8; j++) {
        const isFirst = numbers![j]! !== (j === 8 * i ? 0n : numbers![j - 1]!);
        if (isFirst) lane.push([Number(tokens![j])]);
        lane.at(-1)!.push(Number(targets![j]));
      }
    }
    for (const lane of lanes) {
      expect(sorted(lane.slice(0, 4))).toEqual(sorted(all));
      expect(sorted(lane.slice(4, 8))).toEqual(sorted(all));
    }
    expect(new Set(lanes.map((lane) => String(lane.slice(0, 4)))).size).toBeGreaterThan(1);
  });

  test('is the same wherever one begins to read it', () => {
    const whole = training.take(0, 40) as Record<string, BigInt64Array>;
    const { training: again } = documentData(all, all, 'carry')(model, settings);
    const part = again.take(23, 9) as Record<string, BigInt64Array>;
    for (const name of ['tokens', 'targets', 'documents'])
      expect(part[name]).toEqual(whole[name]!.slice(23 * 8, 32 * 8));
  });
});

describe('rows of a phase behind another', () => {
  const model = hybridModel(tinyConfig({ pattern: 'C-' }));
  const long = [documentOf(400), documentOf(300)];
  const source = documentData(long, [documentOf(30)], 'carry');
  const settings = { ...tinySettings, steps: 3, batch: 1, sequence: 8, learningRate: 1e-9, evaluateEvery: 0 };
  const losses = async (phases?: TrainingPhase[]): Promise<number[]> => {
    const found: number[] = [];
    const onEvent = (event: TrainingEvent): void => {
      if (event.event === 'step') found.push(event.loss);
    };
    const folder = mkdtempSync(join(tmpdir(), 'heddle-phases-'));
    const input = tinyInput(folder, { model, data: source, settings, onEvent });
    await train({ ...input, settings: { ...settings, ...(phases && { phases }) } });
    rmSync(folder, { recursive: true });
    return found;
  };

  test('of another length begin with nothing in memory, others go on', async () => {
    const plain = await losses();
    expect(await losses([{ steps: 2 }, { steps: 1 }])).toEqual(plain);
    const [, , longer] = await losses([{ steps: 2 }, { steps: 1, sequence: 16 }]);
    const { objective, training } = source(model, { ...settings, sequence: 16 });
    const first = { count: 1, take: () => training.take(2, 1) };
    expect(first.take().documents![0]).toBe(0n);
    const weights = initialWeights(parametersOf(model), settings.seed);
    const { loss } = await evaluateExamples(model, weights, objective, first, 1, device);
    expect(longer).toBeCloseTo(loss, 5);
  });
});

function sorted(documents: readonly ArrayLike<number>[]): string[] {
  return documents.map((tokens) => Array.from(tokens).join()).sort();
}
