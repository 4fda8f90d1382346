/** Networks of images: each learns to tell shapes apart, and goes on exactly where it stopped, batch norms included. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { float32, openDevice, type Program } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { relativeError } from '../graph/testing/arrays.js';
import { parseConfig } from '../models/config.js';
import {
  CHECKPOINT,
  countLayers,
  hybridModel,
  type Model,
  modelConfig,
  openModel,
  parametersOf,
  presetOf,
  readWeights,
  wholeOf,
} from '../models/index.js';
import { tinyWeights } from '../models/testing/tiny.js';
import { ParameterRegistry, Random } from '../nn/index.js';
import { type Image, pixelValues } from '../signals/index.js';
import { imageData, type Labelled } from './classes.js';
import type { TrainingInput } from './input.js';
import { TRAINING_DEFAULTS, type TrainingSettings } from './settings.js';
import { metrics } from './testing/runs.js';
import { train } from './trainer.js';

const folder = mkdtempSync(join(tmpdir(), 'heddle-images-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const device = await openDevice('cpu', { threads: 1 });
const wasm = await openDevice('wasm', { threads: 1 });

const random = new Random(3);
/** 8 x 8 pixels: a square of 4 somewhere, whole or its frame alone, as bright on the whole. */
function drawn(label: number): Labelled<Image> {
  const [x0, y0] = [random.below(5), random.below(5)];
  const pixels = new Uint8Array(64);
  for (let y = 0; y < 4; y++) {
    for (let x = 0; x < 4; x++) {
      const inside = x > 0 && x < 3 && y > 0 && y < 3;
      pixels[(y0 + y) * 8 + x0 + x] = label === 0 ? 150 : inside ? 0 : 200;
    }
  }
  return { example: { height: 8, width: 8, channels: 1, pixels }, label };
}
const images = Array.from({ length: 120 }, (_, i) => drawn(i % 2));
const data = imageData(images.slice(40), images.slice(0, 40));

function network(pattern: string, input: object = {}, keys: object = {}): Model {
  return hybridModel(
    modelConfig({
      modelType: 'heddle',
      hiddenSize: 8,
      pattern,
      intermediateSize: 16,
      maxPositionEmbeddings: 64,
      mambaNumHeads: 2,
      mambaHeadDim: 8,
      ssmStateSize: 4,
      numAttentionHeads: 2,
      numKeyValueHeads: 2,
      headDim: 4,
      linearKeyHeadDim: 4,
      input: {
        ...{ kind: 'images', height: 8, width: 8, channels: 1, patch: 2, classes: ['square', 'frame'] },
        ...input,
      },
      ...keys,
    }),
  );
}

function run(
  model: Model,
  at: string,
  settings: Partial<TrainingSettings> = {},
  options: Partial<TrainingInput> = {},
) {
  return train({
    model,
    data,
    settings: {
      ...TRAINING_DEFAULTS,
      ...{ steps: 40, batch: 16, warmupSteps: 2, sequence: 16, learningRate: 0.01, evaluateEvery: 0 },
      ...settings,
    },
    device,
    folder: at,
    ...options,
  });
}

const SIDES = { kind: 'images', height: 224, width: 224, channels: 3 } as const;
const STEM = { stem: 'convolution' };
/** The blocks of a vision transformer. */
const VIT = { normType: 'layer', mlpType: 'gelu', attentionBias: true };
test.each([
  ['(<*>-)x2', { pool: 'token' }, 'attention both ways'],
  ['<M>-<G>-', {}, 'Mamba-2 both ways'],
  ['c/v-<*>-', STEM, 'convolutional block'],
  ['s/s', STEM, 'separable attention'],
  ['[v<*>]-c', { patch: 1, stem: 'convolution', height: 4, width: 5 }, ''],
] as const)('%s %j learns, and says the same on both devices', async (pattern, input, first) => {
  const model = network(pattern, input, 'pool' in input ? VIT : {});
  expect(countLayers(pattern)[0]!.name).toContain(first);
  if ('height' in input) return void (await expectSame(model, tinyWeights(model), 4 * 5));
  const at = join(folder, pattern.replaceAll('/', '|'));
  await run(model, at, { steps: 80 });
  const told = metrics(at).flatMap((event) => (event.event === 'evaluation' ? [event] : []));
  expect(told.at(-1)!.measures!.accuracy).toBeGreaterThan(0.9);
  await expectSame(model, (await openModel(join(at, CHECKPOINT))).weights, 64);
});

/** That an image is answered alike by both executors, from the weights as they are stored. */
async function expectSame(
  model: Model,
  weights: NonNullable<Program['weights']>,
  size: number,
): Promise<void> {
  const { height, width } = (model.json as { input: { height: number; width: number } }).input;
  const pixels = float32(pixelValues(images[0]!.example).slice(0, size), [1, height, width, 1]);
  const answers = [];
  for (const each of [device, wasm]) {
    const [said] = wholeOf(model, new ParameterRegistry());
    const executable = await each.compile(withInputs({ outputs: { said: said! }, weights }));
    answers.push((await executable.run({ pixels })).said!.data as Float32Array);
    await executable.dispose();
  }
  expect(relativeError(answers[1]!, answers[0]!)).toBeLessThan(2e-5);
}

test('a vision transformer has the parameters of one', () => {
  const model = hybridModel(presetOf('vit', 'base', { ...SIDES, patch: 16, classes: ['a', 'b'] }));
  const ofBlock = parametersOf(model).filter(({ name }) => /layers\.[01]\./.test(name));
  // timm's vit_small_patch16_224: 4 d^2 + 4 d of attention, 8 d^2 + 5 d of the MLP, two layer norms.
  const d = 384;
  const count = ofBlock.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  expect(count).toBe(12 * d * d + 13 * d);
});

test('a run with batch norms that is stopped goes on to the same bits', async () => {
  const model = network('c/v-', STEM);
  const settings = { steps: 16, accumulate: 2, batch: 4 };
  const [whole, halves] = [join(folder, 'whole'), join(folder, 'halves')];
  await run(model, whole, settings);
  const stop = new AbortController();
  await run(model, halves, settings, {
    onEvent: ({ event }) => event === 'step' && stop.abort(),
    signal: stop.signal,
  });
  const { step } = JSON.parse(readFileSync(join(halves, CHECKPOINT, 'training.json'), 'utf8'));
  expect(step).toBeLessThan(16);
  await run(model, halves, settings, { resume: true });
  const [one, other] = [whole, halves].map((at) => readFileSync(join(at, CHECKPOINT, 'model.safetensors')));
  expect(one!.equals(other!)).toBe(true);
  const kept = (await readWeights(join(whole, CHECKPOINT), model)).get('input.stem.norm1.running_var')!;
  expect(Math.max(...(kept.data as Float32Array))).toBeLessThan(0.9);
});

test.each([
  ['<M>-', { kind: 'series' }, /'<M>', which looks ahead: a model of series/],
  ['s-', { pool: 'token' }, /'s' \(separable attention\) needs the rows and columns of an image/],
  ['c-', { patch: 3, stem: 'convolution' }, /patch \(3\) must be a power of two/],
] as const)('%s %j cannot be', (pattern, input, message) => {
  const of: object =
    'kind' in input
      ? { kind: 'series', channels: ['a'], targets: ['a'], horizon: 1, offset: [0], scale: [1] }
      : { kind: 'images', height: 8, width: 8, channels: 1, patch: 2, classes: ['a', 'b'], ...input };
  const { input: _, ...rest } = network('M-').json as Record<string, unknown>;
  expect(() => hybridModel(parseConfig({ ...rest, input: of, pattern }, 'x'))).toThrow(message);
});
