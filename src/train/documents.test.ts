/** Documents in one row are learned as if each stood alone, and a document over many rows as if it stood in one. */
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
} from '../models/index.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import { ParameterRegistry, Random } from '../nn/index.js';
import { documentData, nextTokensOfDocuments, packed } from './documents.js';
import { tinySettings } from './testing/runs.js';

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
  ['S', { attentionScore: 'surprise', attentionScoresWindow: true }],
  ['S', { attentionScore: 'convolution' }],
  ['*', { ropeTheta: 100 }],
  ['N', { mamba3MimoRank: 2 }],
  ['I', { ltiMatrix: 'full' }],
  ['I', { ltiMatrix: 's4d-real' }],
];

describe('documents side by side in a row are learned as each alone', () => {
  test.each(forms)('%s, %j', async (pattern, change) => {
    const model = hybridModel(tinyConfig({ pattern, ...change }));
    const [one, other] = [await alone(model), await inOneRow(model)];
    expect(Math.abs(other.loss / one.loss - 1)).toBeLessThan(1e-6);
    expect(relativeError(other.gradient, one.gradient)).toBeLessThan(1e-5);
  });
});
