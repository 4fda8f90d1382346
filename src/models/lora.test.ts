/**
 * LoRA in a model: which layers have adapters, that their gradients are those of W + scale B A, by finite differences and by
 * the gradient of the whole weight, and that merging them is the same model.
 */

import { describe, expect, test } from 'vitest';
import { float32, type HostTensor, int64, openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { ConfigError } from '../errors.js';
import { gradient, input, type Tensor } from '../graph/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { ParameterRegistry, Random } from '../nn/index.js';
import { randomWeights } from '../nn/testing/weights.js';
import { readModel, readWeights } from './folder.js';
import { hybridModel } from './hybrid.js';
import {
  type Adapted,
  adapterNames,
  type LinearLayer,
  linearLayers,
  mergeAdapter,
  withLora,
} from './lora.js';
import { type Model, parametersOf } from './model.js';
import { meanLoss, reader } from './testing/reader.js';
import { readReference, referenceNames } from './testing/reference.js';
import { tinyConfig, tinyWeights } from './testing/tiny.js';

const device = await openDevice('cpu', { threads: 1 });

const ids = (model: Model, count: number): number[] => {
  const random = new Random(5);
  return Array.from({ length: count }, () => random.below(model.vocabSize));
};

/** A checkpoint, and adapters on it that are far from new ones. */
async function adaptedCheckpoint(name: string) {
  const [rank, alpha] = [3, 5];
  const { model, weights } =
    name === 'heddle'
      ? await ours()
      : await readReference(name.includes('-shared') ? 'variants' : 'hf', name).then(async ({ folder }) => {
          const found = await readModel(folder);
          return { model: found, weights: await readWeights(folder, found) };
        });
  const adapted = withLora(model, { rank, alpha });
  const specs = parametersOf(adapted).filter(({ adapts }) => adapts !== undefined);
  const halves: Adapted = { model: adapted, weights: randomWeights(specs, { seed: 3, deviation: 0.15 }) };
  return { model, weights, halves, scale: alpha / rank };
}

async function ours() {
  const model = hybridModel(tinyConfig());
  return { model, weights: tinyWeights(model) };
}

/** The loss and its gradients by some parameters. */
async function lossAndGradients(
  model: Model,
  weights: ReadonlyMap<string, HostTensor>,
  names: readonly string[],
): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
  const registry = new ParameterRegistry();
  const tokens = input('tokens', 'int64', [2, 12]);
  const loss = meanLoss(model, registry, tokens);
  const parts = gradient(
    loss,
    names.map((name) => registry.tensors.get(name)!),
  );
  const outputs: Record<string, Tensor> = { loss };
  for (const [i, name] of names.entries()) outputs[`d ${name}`] = parts[i]!;
  const executable = await device.compile(withInputs({ outputs, weights }));
  const values = await executable.run({ tokens: int64(ids(model, 24), [2, 12]) });
  await executable.dispose();
  return {
    loss: values.loss!.data[0] as number,
    gradients: new Map(names.map((name) => [name, values[`d ${name}`]!.data as Float32Array])),
  };
}

/** Logits of a short text. */
async function logits(model: Model, weights: ReadonlyMap<string, HostTensor>): Promise<Float32Array> {
  const read = await reader(device, model, weights);
  const result = await read.inPieces([ids(model, 16)], [7, 1, 8]);
  await read.dispose();
  return result;
}

/** a [n, inner] b [inner, m], or with b transposed [m, inner]. */
function product(a: ArrayLike<number>, b: ArrayLike<number>, n: number, inner: number, m: number): number[] {
  const result = new Array<number>(n * m).fill(0);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < m; j++)
      for (let k = 0; k < inner; k++) result[i * m + j]! += a[i * inner + k]! * b[k * m + j]!;
  return result;
}

function transposed(a: ArrayLike<number>, rows: number, columns: number): number[] {
  return Array.from({ length: rows * columns }, (_, i) => a[(i % rows) * columns + Math.floor(i / rows)]!);
}

describe('which layers have adapters', () => {
  const references = (['hf', 'variants'] as const).flatMap((kind) =>
    referenceNames(kind).map((name) => [name, kind] as const),
  );

  test('every kind of Granite, and neither embedding, head nor router', async () => {
    const { folder } = await readReference('hf', 'granitemoehybrid-moe-bf16');
    const kinds = linearLayers(await readModel(folder)).map(({ module }) => module.replace(/^.*\d\./, ''));
    expect(new Set(kinds)).toEqual(
      new Set([
        'mamba.in_proj',
        'mamba.out_proj',
        'self_attn.q_proj',
        'self_attn.k_proj',
        'self_attn.v_proj',
        'self_attn.o_proj',
        'shared_mlp.input_linear',
        'shared_mlp.output_linear',
      ]),
    );
  });

  test.each(references)(
    '%s: matrices of its layers, in which a new adapter changes nothing',
    async (name, kind) => {
      const { folder } = await readReference(kind, name);
      const model = await readModel(folder);
      const specs = new Map(parametersOf(model).map((spec) => [spec.name, spec]));
      const layers = linearLayers(model);
      expect(layers.length).toBeGreaterThan(model.layers.length);
      for (const { module, weight, inputs, outputs } of layers) {
        expect(module.startsWith(`${model.names.layers}.`), module).toBe(true);
        expect(specs.get(weight)?.shape, module).toEqual([outputs, inputs]);
      }
      expect(new Set(layers.map(({ module }) => module)).size).toBe(layers.length);
      const weights = await readWeights(folder, model);
      const adapted = withLora(model, { rank: 2, alpha: 4 });
      const added = parametersOf(adapted).filter(({ adapts }) => adapts !== undefined);
      const random = new Random(1);
      for (const { name: half, shape, initialize } of added)
        weights.set(half, float32(initialize(random, shape), shape));
      const error = relativeError(await logits(adapted, weights), await logits(model, weights));
      expect(error).toBeLessThan(1e-5);
      for (const { name: half } of added) {
        const data = weights.get(half)!.data as Float32Array;
        expect(
          data.every((value) => value === 0),
          half,
        ).toBe(half.endsWith('lora_B.weight'));
      }
    },
  );

  test('Zamba2 has adapters of its own wherever it uses the shared block', async () => {
    const { folder } = await readReference('variants', 'zamba2-shared');
    const layers = linearLayers(await readModel(folder));
    const shared = layers.filter(({ module }) => module.endsWith('shared_transformer.self_attn.q_proj'));
    expect(shared.length).toBeGreaterThan(1);
    const owners = new Set(shared.map(({ weight }) => weight));
    expect(owners.size).toBeLessThan(shared.length);
    for (const { module } of shared) expect(module).toMatch(/^model\.layers\.\d+\.shared_transformer\./);
  });

  test('out_proj of Mamba layers has none, since PEFT refuses it in some models', async () => {
    for (const [name, adapted] of [
      ['mamba2', false],
      ['falcon_h1', false],
      ['granitemoehybrid', false],
      ['jamba', false],
      ['qwen3_next', true],
      ['lfm2', true],
    ] as const) {
      const model = await readModel((await readReference('hf', name)).folder);
      const outputs = linearLayers(model).filter(({ module }) => module.endsWith('.out_proj'));
      expect(outputs.length, name).toBeGreaterThan(0);
      const { adapters } = withLora(model, { rank: 2, alpha: 4 });
      for (const { module } of outputs) expect(adapters!(module) !== undefined, module).toBe(adapted);
    }
  });

  test('a rank or an alpha that is none is refused', () => {
    const model = hybridModel(tinyConfig());
    for (const lora of [
      { rank: 0, alpha: 1 },
      { rank: 1.5, alpha: 1 },
      { rank: 2, alpha: 0 },
      { rank: 2, alpha: Number.NaN },
    ]) {
      expect(() => withLora(model, lora)).toThrow(ConfigError);
    }
  });
});

describe('gradients', () => {
  test.each([
    ...['heddle', 'granitemoehybrid', 'qwen3_next', 'mamba', 'nemotron_h', 'recurrent_gemma'],
    'zamba2-shared',
  ])('%s: dA = scale B^T dW and dB = scale dW A^T', async (name) => {
    const { weights, model, halves, scale } = await adaptedCheckpoint(name);
    const uses = new Map<string, LinearLayer[]>();
    for (const layer of linearLayers(halves.model)) {
      if (!halves.model.adapters!(layer.module)) continue;
      uses.set(layer.weight, [...(uses.get(layer.weight) ?? []), layer]);
    }
    // Where layers share a weight they get the same adapter here, and their gradients add up.
    const same = new Map(halves.weights);
    const firsts = new Set<string>();
    for (const [first, ...others] of uses.values()) {
      firsts.add(first!.module);
      const { a, b } = adapterNames(first!.module);
      for (const { module } of others) {
        same.set(adapterNames(module).a, same.get(a)!);
        same.set(adapterNames(module).b, same.get(b)!);
      }
    }
    const adapters = (module: string) => (firsts.has(module) ? halves.model.adapters!(module) : undefined);
    const merged = mergeAdapter(weights, { model: { ...model, adapters }, weights: same });
    const whole = await lossAndGradients(model, merged, [...uses.keys()]);
    const all = new Map([...weights, ...same]);
    const adapted = await lossAndGradients(halves.model, all, [...same.keys()]);
    expect(adapted.loss).toBeCloseTo(whole.loss, 4);
    for (const [weight, layers] of uses) {
      const { module, inputs, outputs } = layers[0]!;
      const dW = whole.gradients.get(weight)!;
      const { a, b } = adapterNames(module);
      const [A, B] = [same.get(a)!.data, same.get(b)!.data] as [Float32Array, Float32Array];
      const rank = A.length / inputs;
      const dA = product(transposed(B, outputs, rank), dW, rank, outputs, inputs);
      const dB = product(dW, transposed(A, rank, inputs), outputs, inputs, rank);
      const total = (half: 'a' | 'b', i: number): number =>
        layers.reduce((sum, use) => sum + adapted.gradients.get(adapterNames(use.module)[half])![i]!, 0);
      const [foundA, foundB] = [dA.map((_, i) => total('a', i)), dB.map((_, i) => total('b', i))];
      const scaled = (values: number[]): number[] => values.map((value) => scale * value);
      expect(relativeError(foundA, scaled(dA)), a).toBeLessThan(3e-4);
      expect(relativeError(foundB, scaled(dB)), b).toBeLessThan(3e-4);
    }
  });

  test.each(['heddle', 'granitemoehybrid'])('%s: as finite differences show', async (name) => {
    const { weights, halves } = await adaptedCheckpoint(name);
    const { model } = halves;
    const names = [...halves.weights.keys()];
    const { gradients } = await lossAndGradients(model, new Map([...weights, ...halves.weights]), names);
    const registry = new ParameterRegistry();
    const loss = meanLoss(model, registry, input('tokens', 'int64', [2, 12]));
    const executable = await device.compile(withInputs({ outputs: { loss }, weights }));
    const tokens = int64(ids(model, 24), [2, 12]);
    const random = new Random(11);
    const quotients: number[] = [];
    const projections: number[] = [];
    for (const [half, { dims, data }] of halves.weights) {
      const direction = Float32Array.from({ length: data.length }, () => random.normal());
      const length = Math.hypot(...direction);
      const at = async (distance: number): Promise<number> => {
        const moved = (data as Float32Array).map((value, i) => value + (distance * direction[i]!) / length);
        const feeds = { ...Object.fromEntries(halves.weights), [half]: float32(moved, dims), tokens };
        return (await executable.run(feeds)).loss!.data[0] as number;
      };
      const h = 2 ** -5;
      quotients.push(
        (8 * ((await at(h)) - (await at(-h))) - ((await at(2 * h)) - (await at(-2 * h)))) / (12 * h),
      );
      projections.push(gradients.get(half)!.reduce((sum, g, i) => sum + (g * direction[i]!) / length, 0));
    }
    await executable.dispose();
    expect(relativeError(projections, quotients)).toBeLessThan(1e-2);
  });
});

describe('merging', () => {
  test.each(['heddle', 'granitemoehybrid-moe-bf16', 'llama', 'qwen3_next', 'falcon_mamba'])(
    '%s: the merged model is the model with its adapter',
    async (name) => {
      const { model, weights, halves } = await adaptedCheckpoint(name);
      const before = new Map([...weights].map(([key, { data }]) => [key, data.slice()]));
      const beside = await logits(halves.model, new Map([...weights, ...halves.weights]));
      const merged = await logits(model, mergeAdapter(weights, halves));
      expect(relativeError(merged, beside)).toBeLessThan(1e-5);
      // The adapter matters, and what was merged stays what it was.
      expect(relativeError(await logits(model, weights), beside)).toBeGreaterThan(0.05);
      for (const [key, data] of before) expect(weights.get(key)!.data, key).toEqual(data);
    },
  );

  test('is refused where uses of a shared block have adapters of their own', async () => {
    const { weights, halves } = await adaptedCheckpoint('zamba2-shared');
    expect(() => mergeAdapter(weights, halves)).toThrow(ConfigError);
    expect(() => mergeAdapter(weights, halves)).toThrow(/shared_transformer.*cannot be merged/);
  });
});
