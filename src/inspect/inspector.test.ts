/**
 * Traces of whole models of every family and kind of block, compared with the model's own outputs, direct computation, and finite
 * differences; and invalid requests.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { float32, type HostTensor, int64, openDevice, type Weight } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { DataError, InspectError } from '../errors.js';
import { LanguageModel, loadModel } from '../generate/index.js';
import { type TinyModel, tinyModel } from '../generate/testing/tiny.js';
import { crossEntropy, input, multiply, negate, reshape, scalar, slice, sum } from '../graph/index.js';
import { relativeError, tabulate, total } from '../graph/testing/arrays.js';
import {
  forward,
  hiddenOf,
  LAYER_NAMES,
  locateWeights,
  logitsOf,
  type Model,
  quantizable,
  readModel,
} from '../models/index.js';
import { quantizeMatrix } from '../models/quantization.js';
import { readReference, referenceNames } from '../models/testing/reference.js';
import { ParameterRegistry } from '../nn/index.js';
import { loadCorpus, splitCorpus } from '../text/index.js';
import { attributionProgram, FIXED_SCALES } from './attribution.js';
import { decodeTrace, encodeTrace, type Trace, type Values } from './index.js';
import { Inspector } from './inspector.js';

const device = await openDevice('cpu', { threads: 1 });

/** 40 tokens, more than the windows and selected memories hold. */
const ids = Array.from({ length: 40 }, (_, i) => (i * 37 + 5) % 300);

function at({ dims, data }: Values, ...index: number[]): number {
  return data[index.reduce((offset, place, axis) => offset * dims[axis]! + place, 0)]!;
}

function softmax(logits: Float32Array): number[] {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const shares = Array.from(logits, (value) => Math.exp(value - largest));
  const sum = shares.reduce((a, b) => a + b);
  return shares.map((share) => share / sum);
}

/** The most probable tokens of a distribution, with their probabilities. */
function best(shares: readonly number[], count: number): [number, number][] {
  const order = shares.map((share, id): [number, number] => [id, share]);
  return order.sort((a, b) => b[1] - a[1]).slice(0, count);
}

describe('a tiny model with every kind of block', () => {
  let tiny: TinyModel;
  let trace: Trace;
  beforeAll(async () => {
    tiny = await tinyModel();
    trace = await tiny.language.trace(ids);
  });
  afterAll(() => tiny.language.dispose());

  test('its layers, mixers and tokens', () => {
    expect(trace.model).toEqual({ type: 'heddle', pattern: 'M-*W-S' });
    expect(trace.layers.map(({ letters }) => letters).join('')).toBe('M-*W-S');
    const mixers = trace.layers.map(({ mixers }) => mixers.map(({ name, kind }) => [name, kind]));
    expect(mixers).toEqual([
      [['Mamba-2', 'hidden attention']],
      [],
      [['attention', 'attention']],
      [['sliding-window attention', 'attention']],
      [],
      [['selective attention', 'attention']],
    ]);
    expect(trace.tokens.map(({ id }) => id)).toEqual(ids);
    for (const { id, text } of trace.tokens) expect(text).toBe(tiny.language.tokenizer.decode([id]));
  });

  test('log probabilities equal those of the model without a trace', async () => {
    const { data } = await tiny.language.logits([ids]);
    const { vocabSize } = tiny.model;
    const expected = ids
      .slice(1)
      .map((id, i) => Math.log(softmax(data.subarray(i * vocabSize, (i + 1) * vocabSize))[id]!));
    const found = trace.tokens.slice(1).map(({ logProbability }) => logProbability!);
    expect(trace.tokens[0]!.logProbability).toBeUndefined();
    expect(relativeError(found, expected)).toBeLessThan(1e-5);
  });

  test('attention rows sum to 1, and are not 0 for tokens in the memory', () => {
    for (const { mixers } of trace.layers) {
      for (const { kind, weights, selection } of mixers) {
        if (kind !== 'attention') continue;
        const [heads, tokens] = weights!.dims as [number, number, number];
        expect([heads, tokens]).toEqual([4, ids.length]);
        for (let h = 0; h < heads; h++) {
          for (let i = 0; i < tokens; i++) {
            expect(total(tokens, (j) => at(weights!, h, i, j))).toBeCloseTo(1, 5);
            for (let j = 0; j < tokens; j++) {
              const seen = j <= i && (!selection || i < selection.seenUntil.data[j]!);
              expect(at(weights!, h, i, j) > 0, `${i} sees ${j}`).toBe(seen);
            }
          }
        }
      }
    }
  });

  test('selective attention has the scores of its tokens', async () => {
    const { selection } = trace.layers[5]!.mixers[0]!;
    expect(selection).toMatchObject({ window: 5, selected: 6 });
    const registry = new ParameterRegistry();
    const tokens = input('ids', 'int64', [1, ids.length]);
    const { residuals } = forward(tiny.model, registry, tokens, scalar(0, 'int64'));
    const normed = await compile(registry, { x: residuals[5]! });
    const weight = (name: string) => tiny.weights.get(`backbone.layers.5.${name}`)!.data as Float32Array;
    const [norm, score, bias] = [
      weight('norm.weight'),
      weight('mixer.score.weight'),
      weight('mixer.score.bias'),
    ];
    const size = norm.length;
    const x = normed.x!.data as Float32Array;
    const expected = ids.map((_, i) => {
      const row = x.subarray(i * size, (i + 1) * size);
      const rms = Math.sqrt(total(size, (k) => row[k]! ** 2) / size + 1e-5);
      return total(size, (k) => (row[k]! / rms) * norm[k]! * score[k]!) + bias[0]!;
    });
    expect(relativeError(selection!.scores!.data, expected)).toBeLessThan(1e-4);
    expect(trace.layers[3]!.mixers[0]!.selection!.scores).toBeUndefined();
  });

  async function compile(
    registry: ParameterRegistry,
    outputs: Record<string, ReturnType<typeof scalar>>,
  ): Promise<Record<string, HostTensor>> {
    const weights = new Map([...registry.tensors.keys()].map((name) => [name, tiny.weights.get(name)!]));
    const executable = await device.compile(withInputs({ outputs, weights }));
    const result = await executable.run({ ids: int64(ids, [1, ids.length]) });
    await executable.dispose();
    return result;
  }

  test("the logit lens applies the head to each residual stream; after the last layer it equals the model's output", async () => {
    const registry = new ParameterRegistry();
    const tokens = input('ids', 'int64', [1, ids.length]);
    const { residuals } = forward(tiny.model, registry, tokens, scalar(0, 'int64'));
    const heads = residuals
      .slice(1)
      .map((x) => logitsOf(tiny.model, registry, hiddenOf(tiny.model, registry, x)));
    const logits = await compile(registry, Object.fromEntries(heads.map((x, i) => [`layer${i}`, x])));
    const { data: plain } = await tiny.language.logits([ids]);
    const { lens } = trace;
    expect(lens!.layers).toEqual([0, 1, 2, 3, 4, 5]);
    expect(lens!.ids.dims).toEqual([6, ids.length, 5]);
    for (const layer of lens!.layers) {
      const data = layer === 5 ? plain : (logits[`layer${layer}`]!.data as Float32Array);
      for (const place of [0, 7, 39]) {
        const rows = best(softmax(data.subarray(place * 300, (place + 1) * 300)), 5);
        for (const [k, [id, share]] of rows.entries()) {
          expect(at(lens!.ids, layer, place, k)).toBe(id);
          expect(at(lens!.probabilities, layer, place, k)).toBeCloseTo(share, 5);
          expect(lens!.texts[id]).toBe(tiny.language.tokenizer.decode([id]));
        }
      }
    }
  });

  test('parts that are not requested are absent, and the others do not change', async () => {
    const part = await tiny.language.trace(ids, { layers: [5, 0], heads: [3, 1, 7], lens: 2 });
    expect(part.layers.map(({ mixers }) => mixers.length)).toEqual([1, 0, 0, 0, 0, 1]);
    expect(part.lens!.layers).toEqual([0, 5]);
    for (const layer of [0, 5]) {
      const [some, all] = [part, trace].map(({ layers }) => layers[layer]!.mixers[0]!) as [
        Trace['layers'][0]['mixers'][0],
        Trace['layers'][0]['mixers'][0],
      ];
      expect(some.heads).toEqual([1, 3]);
      const expected = tabulate([2, 40, 40], (h, i, j) => at(all.weights!, some.heads[h!]!, i!, j!));
      expect(relativeError(some.weights!.data, expected.data)).toBeLessThan(1e-6);
      expect(some.horizon).toEqual(all.horizon);
    }
    const none = await tiny.language.trace(ids, { heads: [99], lens: 0 });
    expect(none.layers[0]!.mixers[0]).toMatchObject({ heads: [], numHeads: 4 });
    expect(none.layers[0]!.mixers[0]!.weights!.dims).toEqual([0, 40, 40]);
    const gates = await tiny.language.trace(ids, { matrices: false, lens: 0 });
    expect(gates.lens).toBeUndefined();
    expect(gates.layers[0]!.mixers[0]!.weights).toBeUndefined();
    expect(gates.layers[0]!.mixers[0]!.keep).toEqual(trace.layers[0]!.mixers[0]!.keep);
  });

  test('the horizon is the time after which 1/e of the memory is left', () => {
    const { keep, horizon } = trace.layers[0]!.mixers[0]!;
    expect(horizon!.dims).toEqual([4]);
    for (let h = 0; h < 4; h++) {
      const mean = total(ids.length, (t) => Math.log(at(keep!, h, t))) / ids.length;
      expect(mean * horizon!.data[h]!).toBeCloseTo(-1, 4);
    }
  });

  test('a trace of one token, and its JSON', async () => {
    const one = await tiny.language.trace([7]);
    expect(one.layers[0]!.mixers[0]!.weights!.dims).toEqual([4, 1, 1]);
    expect(one.tokens).toHaveLength(1);
    const text = JSON.stringify(encodeTrace(trace));
    expect(decodeTrace(JSON.parse(text))).toEqual(trace);
  });

  test('concurrent traces', async () => {
    const [a, b] = await Promise.all([
      tiny.language.trace(ids),
      tiny.language.trace(ids.slice(0, 9), { lens: 1 }),
    ]);
    expect(a).toEqual(trace);
    expect(b.lens!.ids.dims).toEqual([6, 9, 1]);
  });

  describe('refuses', () => {
    const refusal = (options: Parameters<typeof tiny.language.trace>[1], of = ids): Promise<Error> =>
      tiny.language.trace(of, options).then(
        () => expect.unreachable(),
        (error: Error) => error,
      );

    test.each([
      [{ layers: [6] }, 'there is no layer 6: expected 0 to 5'],
      [{ heads: [-1] }, 'there is no head -1'],
      [{ lens: 0.5 }, '0.5'],
      [{ attribute: [0] }, '1 to 40'],
      [{ attribute: [41] }, '1 to 40'],
    ])('%j', async (options, words) => {
      const error = await refusal(options);
      expect(error).toBeInstanceOf(InspectError);
      expect(error.message).toContain(words);
    });

    test('a trace larger than maxBytes, and names its size', async () => {
      const error = await refusal({ maxBytes: 100_000 });
      expect(error).toBeInstanceOf(InspectError);
      // 16 heads twice, logits three times, and the residual stream.
      const bytes = 2 * 16 * 4 * 40 ** 2 + 3 * 4 * 40 * 300 + 6 * 4 * 40 * 16;
      expect(error.message).toContain('would take 364 kB, more than the 100 kB');
      expect(await tiny.language.trace(ids, { maxBytes: bytes })).toEqual(trace);
    });

    test('an empty list of tokens, and invalid tokens', async () => {
      expect(await refusal({}, [])).toBeInstanceOf(DataError);
      expect(await refusal({}, [300])).toBeInstanceOf(DataError);
    });
  });
});

/** d log p(target | before) / d f_j, where the embedding of token j is multiplied with f_j: gradient x input, by finite differences. */
async function byDifferences(
  model: Model,
  weights: ReadonlyMap<string, Weight>,
  before: readonly number[],
  target: number,
): Promise<number[]> {
  const registry = new ParameterRegistry();
  const factors = input('factors', 'float32', [1, before.length, 1]);
  const scaled: Model = {
    ...model,
    layers: model.layers.map(({ letters, mixer }, i) => ({
      letters,
      mixer: {
        state: [],
        forward: (parameters, x, context) =>
          mixer.forward(parameters, i === 0 ? multiply(x, factors) : x, {
            ...context,
            embeddings: multiply(context.embeddings!, factors),
          }),
      },
    })),
  };
  const ids = input('ids', 'int64', [1, before.length]);
  const { hidden } = forward(scaled, registry, ids, scalar(0, 'int64'));
  const last = slice(reshape(hidden, [before.length, model.hiddenSize]), 0, before.length - 1, before.length);
  const label = reshape(scalar(target, 'int64'), [1]);
  const executable = await device.compile(
    withInputs({
      outputs: { y: sum(negate(crossEntropy(logitsOf(model, registry, last), label))) },
      weights,
    }),
  );
  const y = async (place: number, factor: number): Promise<number> => {
    const data = before.map((_, i) => (i === place ? factor : 1));
    const feeds = { ids: int64(before, [1, before.length]), factors: float32(data, [1, before.length, 1]) };
    return (await executable.run(feeds)).y!.data[0] as number;
  };
  const found: number[] = [];
  // A change this small does not alter the routing of experts.
  const h = 2 ** -8;
  for (const place of before.keys()) {
    const near = (await y(place, 1 + h)) - (await y(place, 1 - h));
    const far = (await y(place, 1 + 2 * h)) - (await y(place, 1 - 2 * h));
    found.push((8 * near - far) / (12 * h));
  }
  await executable.dispose();
  return found;
}

async function byGradient(
  model: Model,
  weights: ReadonlyMap<string, Weight>,
  before: readonly number[],
  target: number,
): Promise<Float32Array> {
  const executable = await device.compile(attributionProgram(model, weights, {}));
  const feeds = { ids: int64(before, [1, before.length]), target: int64([target], [1]) };
  const { scores } = await executable.run(feeds);
  await executable.dispose();
  return scores!.data as Float32Array;
}

describe('attribution', () => {
  let tiny: TinyModel;
  beforeAll(async () => {
    tiny = await tinyModel();
  });
  afterAll(() => tiny.language.dispose());

  test('gradient x input equals the effect of a small change of an embedding', async () => {
    const { model, weights } = tiny;
    const before = ids.slice(0, 12);
    const expected = await byDifferences(model, weights, before, 77);
    expect(Math.hypot(...expected)).toBeGreaterThan(0.01);
    expect(relativeError(await byGradient(model, weights, before, 77), expected)).toBeLessThan(2e-3);
  });

  test('with fixed scales, a norm is a product', async () => {
    const x = input('x', 'float32', [2, 6]);
    const scale = input('scale', 'float32', [2, 1]);
    const weight = input('weight', 'float32', [6]);
    const g = input('g', 'float32', [2, 6]);
    const context = {
      inputs: [x, weight],
      outputs: [x, scale],
      outputGradients: [g, undefined],
    } as unknown as Parameters<(typeof FIXED_SCALES)['rmsNorm'] & object>[0];
    const [dx] = FIXED_SCALES.rmsNorm!(context);
    const random = (seed: number, dims: number[]): HostTensor =>
      float32(
        Array.from({ length: dims.reduce((a, b) => a * b) }, (_, i) => Math.sin(seed + i)),
        dims,
      );
    const feeds = { scale: random(1, [2, 1]), weight: random(2, [6]), g: random(3, [2, 6]) };
    const executable = await device.compile(withInputs({ outputs: { dx: dx! } }));
    const { dx: found } = await executable.run(feeds);
    const expected = tabulate(
      [2, 6],
      (i, j) => Math.sin(3 + i! * 6 + j!) * Math.sin(2 + j!) * Math.sin(1 + i!),
    );
    expect(relativeError(found!.data as Float32Array, expected.data)).toBeLessThan(1e-6);
    await executable.dispose();
  });

  test('the fields of an attribution', async () => {
    const { attributions } = await tiny.language.trace(ids, {
      matrices: false,
      lens: 0,
      attribute: [12, 40, 1],
    });
    const [inside, next, second] = attributions as [
      (typeof attributions)[0],
      (typeof attributions)[0],
      (typeof attributions)[0],
    ];
    const { data } = await tiny.language.logits([ids]);
    const shares = (place: number): number[] => softmax(data.subarray(place * 300, (place + 1) * 300));
    expect(inside.token.id).toBe(ids[12]);
    expect(inside.scores.dims).toEqual([12]);
    expect(inside.logProbability).toBeCloseTo(Math.log(shares(11)[ids[12]!]!), 4);
    const [likeliest, share] = best(shares(39), 1)[0]!;
    expect(next.token.id).toBe(likeliest);
    expect(next.logProbability).toBeCloseTo(Math.log(share), 4);
    expect(next.deletion!.counts).toEqual([1, 2, 4, 8, 16]);
    expect(second.deletion).toBeUndefined();
  });

  test('the deletion test reads the text again without the tokens', async () => {
    const { attributions } = await tiny.language.trace(ids, { matrices: false, lens: 0, attribute: [30] });
    const [{ scores, deletion, logProbability, token }] = attributions as [(typeof attributions)[0]];
    const order = Array.from(scores.data.subarray(0, 29), (score, i): [number, number] => [score, i]);
    order.sort((a, b) => b[0] - a[0]);
    for (const [i, count] of deletion!.counts.entries()) {
      const gone = order.slice(0, count).map(([, place]) => place);
      const rest = ids.slice(0, 30).filter((_, place) => !gone.includes(place));
      const { data } = await tiny.language.logits([rest]);
      const left = Math.log(softmax(data.slice(-300))[token.id]!);
      expect(deletion!.attributed.data[i]).toBeCloseTo(logProbability - left, 4);
    }
    const { dims, data } = deletion!.random;
    expect(dims).toEqual([deletion!.counts.length, 16]);
    expect(new Set(data).size).toBeGreaterThan(20);
  });
});

describe.each(referenceNames('hf'))('%s', async (name) => {
  const { folder, ids: rows, logits } = await readReference('hf', name);
  const model = await readModel(folder);
  const weights = await locateWeights(folder, model);
  const inspector = new Inspector({
    model,
    device: async () => device,
    weights: async () => weights,
    read: async () => expect.unreachable(),
    textOf: String,
    sourceOf: () => expect.unreachable(),
  });
  afterAll(() => inspector.dispose());

  test('gradient x input equals the effect of a small change of an embedding', async () => {
    // In the first row one of the finite differences changes the routing of an expert.
    const row = rows[name === 'zaya' ? 1 : 0]!;
    const [before, target] = [row.slice(0, 10), row[10]!];
    const expected = await byDifferences(model, weights, before, target);
    const found = await byGradient(model, weights, before, target);
    if (name === 'minimax') {
      // The residual stream starts with a norm, so a factor of an embedding has no effect.
      for (const values of [expected, found]) expect(Math.hypot(...values)).toBeLessThan(5e-3);
      return;
    }
    expect(Math.hypot(...expected)).toBeGreaterThan(1e-4);
    expect(relativeError(found, expected)).toBeLessThan(5e-3);
  });

  test("every mixer of every layer is traced, and the model's outputs do not change", async () => {
    const row = rows[0]!;
    const trace = await inspector.trace(row, { lens: 1 });
    for (const { letters, mixers } of trace.layers) {
      const mixing = [...letters].filter((letter) => /[^E[\]-]/.test(letter));
      expect(mixers.map(({ letter }) => letter)).toEqual(mixing);
      for (const { letter, kind, name, numHeads, heads, weights, write, keep, horizon } of mixers) {
        expect(kind).toBe(/[*WSA]/.test(letter) ? 'attention' : 'hidden attention');
        expect(name).toBe(LAYER_NAMES[letter as keyof typeof LAYER_NAMES]);
        expect(weights!.dims).toEqual([heads.length, row.length, row.length]);
        expect(weights!.data.every(Number.isFinite)).toBe(true);
        const gated = /[MmGRKL]/.test(letter);
        expect(keep?.dims).toEqual(gated ? [heads.length, row.length] : undefined);
        // Lightning attention has no write gate.
        expect(write?.dims).toEqual(gated && letter !== 'L' ? [heads.length, row.length] : undefined);
        expect(horizon?.dims).toEqual(gated ? [numHeads] : undefined);
        expect(heads.length).toBe(numHeads > 64 ? 16 : numHeads);
      }
    }
    const { vocabSize } = model;
    const expected = row
      .slice(1)
      .map((id, i) => Math.log(softmax(logits.subarray(i * vocabSize, (i + 1) * vocabSize))[id]!));
    const found = trace.tokens.slice(1).map(({ logProbability }) => logProbability!);
    expect(relativeError(found, expected)).toBeLessThan(2e-5);
  });
});

describe('a quantized model', () => {
  test('is traced with its quantized weights; attribution is an error', async () => {
    const { model, weights, language } = await tinyModel({ hiddenSize: 64, intermediateSize: 64 });
    const quantization = { bits: 8, block: 32 } as const;
    const chosen = quantizable(model, quantization);
    expect(chosen.size).toBeGreaterThan(5);
    const coded = new Map(
      [...weights].map(([name, weight]) => [
        name,
        chosen.has(name) ? quantizeMatrix(name, weight, quantization) : weight,
      ]),
    );
    const quantized = await LanguageModel.compile(model, coded, language.tokenizer, device);
    const trace = await quantized.trace(ids);
    const { data } = await quantized.logits([ids]);
    const found = trace.tokens.slice(1).map(({ logProbability }) => logProbability!);
    const expected = ids
      .slice(1)
      .map((id, i) => Math.log(softmax(data.subarray(i * 300, (i + 1) * 300))[id]!));
    expect(relativeError(found, expected)).toBeLessThan(1e-4);
    await expect(quantized.trace(ids, { attribute: [3] })).rejects.toThrow(InspectError);
    await quantized.dispose();
    await language.dispose();
  });
});

test('the shipped model: its trace has the probabilities of its logits', async () => {
  const model = await loadModel('assets/sotu-hybrid', { threads: 1 });
  const tokens = model.tokenizer.encode('The state of our Union is strong.');
  const trace = await model.trace(tokens, { matrices: false });
  const { data } = await model.logits([tokens]);
  const { lens } = trace;
  for (const place of tokens.keys()) {
    const rows = best(softmax(data.subarray(place * 4096, (place + 1) * 4096)), 5);
    for (const [k, [id, share]] of rows.entries()) {
      expect(at(lens!.ids, lens!.layers.length - 1, place, k)).toBe(id);
      expect(at(lens!.probabilities, lens!.layers.length - 1, place, k)).toBeCloseTo(share, 5);
    }
  }
  await model.dispose();
});

test('the shipped model: deleting the tokens with the highest attribution lowers the log probability most', async () => {
  const model = await loadModel('assets/sotu-hybrid', { threads: 1 });
  const { validation } = splitCorpus(await loadCorpus('sotu'), { validationFraction: 0.05 });
  const losses = { attributed: 0, random: 0 };
  for (const { text } of validation.slice(0, 2)) {
    const tokens = model.tokenizer.encode(text.slice(0, 1000)).slice(0, 36);
    const options = { matrices: false, lens: 0, attribute: [24, 36] };
    const { attributions } = await model.trace(tokens, options);
    for (const { deletion } of attributions) {
      const { counts, attributed, random } = deletion!;
      const [, draws] = random.dims as [number, number];
      losses.attributed += total(counts.length, (i) => attributed.data[i]!) / counts.length;
      losses.random += total(random.data.length, (i) => random.data[i]!) / counts.length / draws;
    }
  }
  expect(losses.attributed / 4).toBeGreaterThan(0.5);
  expect(losses.attributed).toBeGreaterThan(2 * losses.random);
  await model.dispose();
});
