/**
 * Mamba-2 against a published implementation: a tiny checkpoint of transformers' Mamba2ForCausalLM, with the hidden
 * states, logits, loss, gradients and greedy continuation that it gives (test/fixtures/mamba2; 37 tokens cross its
 * chunks of 16). The model is put together here from the layers; parameters have the checkpoint's names.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openSafetensors, type SafetensorsFile } from '../../checkpoint/index.js';
import { type Carry, float32, type HostTensor, int64, openDevice } from '../../engine/index.js';
import {
  add,
  crossEntropy,
  gradient,
  input,
  mean,
  reshape,
  scalar,
  slice,
  type Tensor,
} from '../../graph/index.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { embedding, linear, rmsNorm } from '../layers.js';
import { ParameterRegistry } from '../parameters.js';
import { initialState } from '../testing/runs.js';
import { mamba2 } from './mamba2.js';

const folder = fileURLToPath(new URL('../../../test/fixtures/mamba2/', import.meta.url));
const json = (name: string) => JSON.parse(readFileSync(folder + name, 'utf8'));
const config = json('config.json') as Record<
  | 'hidden_size'
  | 'num_heads'
  | 'head_dim'
  | 'state_size'
  | 'n_groups'
  | 'conv_kernel'
  | 'num_hidden_layers'
  | 'vocab_size'
  | 'layer_norm_epsilon',
  number
> & { use_conv_bias: boolean; use_bias: boolean };
const reference = json('reference.json') as {
  loss: number;
  prompt: number[];
  greedy_cached: number[];
  grad_norms: Record<string, number>;
};

const device = await openDevice('cpu', { threads: 1 });
const epsilon = config.layer_norm_epsilon;
const mixer = mamba2({
  hiddenSize: config.hidden_size,
  numHeads: config.num_heads,
  headDim: config.head_dim,
  stateSize: config.state_size,
  numGroups: config.n_groups,
  convKernel: config.conv_kernel,
  convBias: config.use_conv_bias,
  projectionBias: config.use_bias,
  // The config writes infinity in a way of its own.
  timeStepLimit: [0, Number.POSITIVE_INFINITY],
  normGroups: 1,
  normEpsilon: epsilon,
  outputDeviation: 0.02,
});

/** The hidden states as this model gives them in transformers: after each block, and then after the final norm. */
function forward(registry: ParameterRegistry, ids: Tensor, state?: Readonly<Record<string, Tensor>>) {
  const next: Record<string, Tensor> = {};
  const hidden: Tensor[] = [];
  const normed = registry.root().within('backbone', (backbone) => {
    let x = backbone.within('embeddings', (p) => embedding(p, ids, config.vocab_size, config.hidden_size));
    backbone.within('layers', (layers) => {
      for (let i = 0; i < config.num_hidden_layers; i++) {
        layers.within(String(i), (layer) => {
          const normalized = layer.within('norm', (p) => rmsNorm(p, x, { epsilon }));
          const own = state && { conv: state[`${i}.conv`]!, ssm: state[`${i}.ssm`]! };
          const context = { position: scalar(0, 'int64'), state: own };
          const result = layer.within('mixer', (p) => mixer.forward(p, normalized, context));
          next[`${i}.conv`] = result.state.conv!;
          next[`${i}.ssm`] = result.state.ssm!;
          x = add(x, result.output);
          hidden.push(x);
        });
      }
    });
    return backbone.within('norm_f', (p) => rmsNorm(p, x, { epsilon }));
  });
  const logits = registry.root().within('lm_head', (p) => linear(p, normed, config.vocab_size));
  return { hidden: [...hidden, normed], logits, next };
}

let checkpoint: SafetensorsFile;
let expected: SafetensorsFile;
const weights = new Map<string, HostTensor>();
let ids: HostTensor;
beforeAll(async () => {
  checkpoint = await openSafetensors(`${folder}model.safetensors`);
  expected = await openSafetensors(`${folder}reference.safetensors`);
  for (const [name, { shape }] of checkpoint.tensors) {
    weights.set(name, float32(await checkpoint.readFloat32(name), shape));
  }
  const { data, shape } = await expected.read('input_ids');
  ids = int64(Array.from(data as BigInt64Array, Number), shape);
});
afterAll(async () => {
  await checkpoint.close();
  await expected.close();
});

test('names and shapes are those of the checkpoint', () => {
  const registry = new ParameterRegistry();
  forward(registry, input('ids', 'int64', ['batch', 'sequence']));
  const ours = new Map([...registry.specs].map(([name, { shape }]) => [name, shape]));
  const theirs = new Map([...checkpoint.tensors].map(([name, { shape }]) => [name, shape]));
  expect(ours).toEqual(theirs);
});

test('hidden states and logits', async () => {
  const { hidden, logits } = forward(new ParameterRegistry(), input('ids', 'int64', ['batch', 'sequence']));
  const outputs = Object.fromEntries(hidden.map((tensor, i) => [`hidden_states.${i}`, tensor]));
  const executable = await device.compile({ outputs: { ...outputs, logits }, weights });
  const results = await executable.run({ ids });
  expect(Object.keys(results).sort()).toEqual(
    [...expected.tensors.keys()].filter((name) => /^(hidden_states|logits)/.test(name)).sort(),
  );
  for (const [name, { dims, data }] of Object.entries(results)) {
    expect(dims, name).toEqual(expected.tensors.get(name)!.shape);
    const error = relativeError(data as Float32Array, await expected.readFloat32(name));
    expect(error, name).toBeLessThan(2e-4);
  }
});

test('the loss and its gradients', async () => {
  const registry = new ParameterRegistry();
  const tokens = input('ids', 'int64', ids.dims);
  const { logits } = forward(registry, tokens);
  const length = ids.dims[1]!;
  const predicted = reshape(slice(logits, 1, 0, length - 1), [-1, config.vocab_size]);
  const loss = mean(crossEntropy(predicted, reshape(slice(tokens, 1, 1, length), [-1])));
  const names = [...registry.tensors.keys()];
  const parts = gradient(loss, [...registry.tensors.values()]);
  const executable = await device.compile({
    outputs: { loss, ...Object.fromEntries(names.map((name, i) => [`grad.${name}`, parts[i]!])) },
    weights,
  });
  const { loss: value, ...gradients } = await executable.run({ ids });
  expect(value!.data[0]).toBeCloseTo(reference.loss, 4);
  expect(names.sort()).toEqual(Object.keys(reference.grad_norms).sort());
  for (const [name, norm] of Object.entries(reference.grad_norms)) {
    const ours = gradients[`grad.${name}`]!.data as Float32Array;
    expect(Math.abs(Math.hypot(...ours) / norm - 1), `norm of ${name}`).toBeLessThan(1e-3);
    // The reference holds the smaller ones in full.
    if (!expected.tensors.has(`grad.${name}`)) continue;
    expect(relativeError(ours, await expected.readFloat32(`grad.${name}`)), name).toBeLessThan(1e-3);
  }
});

describe('greedy decoding', () => {
  test('with the state carried from token to token', async () => {
    const specs = Array.from({ length: config.num_hidden_layers }, (_, i) =>
      mixer.state.map((spec) => ({ ...spec, name: `${i}.${spec.name}` })),
    ).flat();
    const state = Object.fromEntries(
      specs.map(({ name, dtype, shape }) => [name, input(name, dtype, shape)]),
    );
    const result = forward(new ParameterRegistry(), input('ids', 'int64', ['batch', 'sequence']), state);
    const carried = Object.fromEntries(
      Object.entries(result.next).map(([name, next]): [string, Carry] => [name, { kind: 'replace', next }]),
    );
    const executable = await device.compile({ outputs: { logits: result.logits }, carried, weights });
    const memory = executable.allocate(initialState(specs, 1));
    const written: number[] = [];
    let fresh = reference.prompt;
    while (written.length < reference.greedy_cached.length) {
      const { logits } = await executable.run({ ids: int64(fresh, [1, fresh.length]) }, memory);
      const last = (logits!.data as Float32Array).subarray(-config.vocab_size);
      fresh = [last.indexOf(Math.max(...last))];
      written.push(fresh[0]!);
    }
    expect(written).toEqual(reference.greedy_cached);
  });
});
