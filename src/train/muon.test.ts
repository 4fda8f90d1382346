/** Muon against its definition in float64, what it steps and what it leaves to AdamW, and that a run goes on with it to the same bits. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { openSafetensors } from '../checkpoint/index.js';
import { float32, openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { ConfigError, TrainingError } from '../errors.js';
import { input } from '../graph/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { uniform } from '../graph/testing/random.js';
import { hybridModel, type Model, parametersOf, readModel } from '../models/index.js';
import { fixtureFolder, referenceNames } from '../models/testing/reference.js';
import { tinyConfig } from '../models/testing/tiny.js';
import { isMatrixOfLayer, muon } from './muon.js';
import { MUON_DEFAULTS, STEP_SCALARS, stepFactors, stepScalars } from './optimizer.js';
import { type MuonState, muonReference } from './testing/muon.js';
import { digests, interruptedAfter, metrics, tinyInput } from './testing/runs.js';
import { train } from './trainer.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-muon-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));
const device = await openDevice('cpu', { threads: 1 });

test.each([
  ['wide', [3, 7]],
  ['tall', [9, 4]],
  ['square', [5, 5]],
  ['several in one tensor', [2, 4, 6]],
] as const)('five steps of a matrix: %s', async (_, shape) => {
  const config = { ...MUON_DEFAULTS, weightDecay: 0.3 };
  const [learningRate, clip] = [0.05, 0.25];
  const [parameter, gradient, momentum] = ['parameter', 'gradient', 'momentum'].map((name) =>
    input(name, 'float32', shape),
  );
  const factors = stepFactors(
    config,
    input('scalars', 'float32', [STEP_SCALARS]),
    input('clip', 'float32', []),
  );
  const stepped = muon(config.muonMomentum!, parameter!, gradient!, momentum!, factors);
  const outputs = { 'next parameter': stepped.parameter, 'next momentum': stepped.momentum };
  const program = await device.compile(withInputs({ outputs }));
  const [columns, rows, count = 1] = [...shape].reverse() as [number, number, number?];
  let expected: MuonState = {
    parameter: Float64Array.from(uniform(0, shape).data as Float32Array),
    momentum: new Float64Array(count * rows * columns),
  };
  let actual = expected;
  for (let step = 1; step <= 5; step++) {
    const values = uniform(step, shape);
    const feeds = {
      gradient: values,
      parameter: float32(Float32Array.from(actual.parameter), shape),
      momentum: float32(Float32Array.from(actual.momentum), shape),
      scalars: float32(stepScalars(config, step, learningRate), [STEP_SCALARS]),
      clip: float32([clip], []),
    };
    const clipped = Float64Array.from(values.data as Float32Array, (g) => g * clip);
    const rates = { momentumDecay: config.muonMomentum!, weightDecay: 0.3, learningRate };
    expected = muonReference(rates, expected, clipped, [count, rows, columns]);
    const next = await program.run(feeds);
    actual = {
      parameter: Float64Array.from(next['next parameter']!.data as Float32Array),
      momentum: Float64Array.from(next['next momentum']!.data as Float32Array),
    };
    expect(relativeError(actual.parameter, expected.parameter)).toBeLessThan(1e-5);
    expect(relativeError(actual.momentum, expected.momentum)).toBeLessThan(1e-5);
  }
  await program.dispose();
});

test('it steps the matrices of layers, and nothing else', () => {
  const model: Model = hybridModel(tinyConfig({ pattern: 'M-S-E', ropeTheta: 10 }));
  const stepped = parametersOf(model).filter((spec) => isMatrixOfLayer(spec, model));
  const kinds = new Set(stepped.map(({ name }) => name.replace(/^backbone\.layers\.\d+\.mixer\./, '')));
  expect(kinds).toContain('in_proj.weight');
  expect(kinds).toContain('output_linear.weight');
  expect(kinds).toContain('experts.input');
  for (const name of ['conv1d.weight', 'backbone.embeddings.weight', 'norm.weight', 'A_log'])
    expect(kinds, name).not.toContain(name);
});

test.each(referenceNames('hf'))(
  'of %s: no convolution, and nothing that sets time scales',
  async (family) => {
    const model = await readModel(fixtureFolder('hf', family));
    const stepped = parametersOf(model).filter((spec) => isMatrixOfLayer(spec, model));
    expect(stepped).not.toEqual([]);
    for (const { name, shape } of stepped) {
      expect(name).not.toMatch(/conv(?!\.(?:in|out)_proj)|dt_proj|(?:input|recurrent)_gate/);
      if (shape.length !== 2) expect(name).toMatch(/expert|moe/);
    }
  },
);

test('a run learns, and a resumed one ends with the same bits', async () => {
  const settings = { optimizer: MUON_DEFAULTS };
  await train(tinyInput(join(here, 'whole'), { settings }));
  await interruptedAfter(9, join(here, 'parts'), { settings });
  await train(tinyInput(join(here, 'parts'), { settings, resume: true }));
  expect(digests(join(here, 'parts'))).toEqual(digests(join(here, 'whole')));
  const moments = await openSafetensors(join(here, 'whole', 'checkpoint', 'optimizer.safetensors'));
  const names = [...moments.tensors.keys()];
  await moments.close();
  expect(names).toContain('muon.momentum/backbone.layers.0.mixer.in_proj.weight');
  expect(names).not.toContain('adam.second/backbone.layers.0.mixer.in_proj.weight');
  expect(names).toContain('adam.second/backbone.embeddings.weight');
  const losses = metrics(join(here, 'whole')).flatMap((event) =>
    event.event === 'evaluation' ? [event.loss] : [],
  );
  expect(losses.at(-1)!).toBeLessThan(losses[0]! - 1);
  const other = train(tinyInput(join(here, 'whole'), { resume: true }));
  await expect(other).rejects.toThrow(TrainingError);
  await expect(other).rejects.toThrow(/differs in muonMomentum \(then 0\.95, now none\)/);
});

test('adapters are not for it, and its momentum is a share', async () => {
  const optimizer = { ...MUON_DEFAULTS };
  const lora = { lora: { rank: 2, alpha: 4 }, from: here, settings: { optimizer } };
  await expect(train(tinyInput(join(here, 'lora'), lora))).rejects.toThrow(/not for adapters/);
  const beyond = { settings: { optimizer: { ...optimizer, muonMomentum: 1 } } };
  await expect(train(tinyInput(join(here, 'beyond'), beyond))).rejects.toThrow(ConfigError);
});
