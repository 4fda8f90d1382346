/**
 * What a training program may have besides next tokens computes alike on every device: documents, what rows leave to the next batch, a
 * teacher, Muon, several steps in a run. XLA's program is evaluated here; on a GPU `npm run test:gpu` proves its operators.
 */
import { afterAll, expect, test } from 'vitest';
import { type Device, float32, openDevice } from '../engine/index.js';
import { XlaDevice } from '../engine/xla/device.js';
import { EvaluatorClient } from '../engine/xla/testing/evaluator-client.js';
import { input, inputName, topologicalOrder } from '../graph/index.js';
import { hybridModel } from '../models/index.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import { ParameterRegistry, Random } from '../nn/index.js';
import type { DataSource } from './data.js';
import { documentData } from './documents.js';
import { initialWeights, precisionsOf } from './equipment.js';
import { feedsOf } from './evaluate.js';
import {
  ADAMW_DEFAULTS,
  MUON_DEFAULTS,
  type OptimizerConfig,
  STEP_SCALARS,
  stepScalars,
} from './optimizer.js';
import { trainingProgram } from './program.js';
import { type Teacher, taught, teacherWeights } from './teacher.js';
import { tinySettings } from './testing/runs.js';
import { textData } from './text.js';

const cpu = await openDevice('cpu', { threads: 1 });
const wasm = await openDevice('wasm', { threads: 1 });
const xla = new XlaDevice(new EvaluatorClient(), { precision: 'float32' });
afterAll(() => Promise.all([cpu, wasm, xla].map((device) => device.dispose())));

const random = new Random(5);
const documents = [3, 19, 4, 11].map((length) =>
  Int32Array.from({ length: length + 1 }, () => random.below(300)),
);
const one = documents.flatMap((tokens) => [...tokens]);
const model = hybridModel(tinyConfig({ pattern: 'MS' }));
const teacherModel = hybridModel(tinyConfig({ pattern: '**' }));
const teacher: Teacher = { model: teacherModel, weights: tinyWeights(teacherModel), weight: 1, match: 1 };

const STEPS = 2;
const shape = { batch: 2, accumulate: 1, stepsPerRun: 2 };

/** The losses of some steps, two in a run. */
async function losses(device: Device, source: DataSource, optimizer: OptimizerConfig, from?: Teacher) {
  const own = source(model, { ...tinySettings, ...shape });
  const { objective, training } = from ? taught(own, from) : own;
  const { program, parameters } = trainingProgram(model, objective, optimizer, shape);
  const executable = await device.compile({ ...program, ...(from && { weights: teacherWeights(from) }) });
  const state = executable.newState(initialWeights(parameters, 1));
  const seen: number[] = [];
  for (let step = 0; step < STEPS; step += shape.stepsPerRun) {
    const count = shape.stepsPerRun * shape.batch;
    const scalars = [1, 2].flatMap((i) => stepScalars(optimizer, step + i, 1e-2));
    const feeds = feedsOf(objective, training.take(step * shape.batch, count), [
      shape.stepsPerRun,
      1,
      shape.batch,
    ]);
    const { loss } = await executable.run(
      { ...feeds, scalars: float32(scalars, [shape.stepsPerRun, STEP_SCALARS]) },
      [state],
    );
    seen.push(...(loss!.data as Float32Array));
  }
  state.dispose();
  await executable.dispose();
  return seen;
}

const text = textData(Int32Array.from(one), Int32Array.from(one));
test.each<[string, DataSource, OptimizerConfig, Teacher?]>([
  ['documents side by side', documentData(documents, documents, 'pack'), ADAMW_DEFAULTS],
  ['documents that are carried on, by Muon', documentData(documents, documents, 'carry'), MUON_DEFAULTS],
  ['a teacher', text, ADAMW_DEFAULTS, teacher],
])('%s', async (_, source, optimizer, from) => {
  const expected = await losses(cpu, source, optimizer, from);
  expect(expected.length).toBe(STEPS);
  for (const device of [xla, wasm]) {
    const actual = await losses(device, source, optimizer, from);
    for (const [step, loss] of actual.entries())
      expect(Math.abs(loss - expected[step]!), `${device.name}, step ${step}`).toBeLessThan(1e-4);
  }
});

test('a precision of the layers of a letter is not one of the teacher, in whose place the pupil may have such a layer', () => {
  const { objective } = taught(text(model, { ...tinySettings, ...shape }), teacher);
  const registry = new ParameterRegistry();
  const feeds = objective.inputs.map(({ name, dtype, shape: own }) => [
    name,
    input(name, dtype, [shape.batch, ...own]),
  ]);
  objective.loss(model, registry, Object.fromEntries(feeds));
  const precisionOf = precisionsOf(model, { M: 'float32', S: 'float32' });
  const precisions = (layers: string) =>
    topologicalOrder(registry.penalties).flatMap(({ inputs, path }) =>
      inputs.some((x) => x && inputName(x)?.startsWith(layers)) ? [precisionOf(path)] : [],
    );
  expect(new Set(precisions(`${model.names.layers}.`))).toEqual(new Set(['float32']));
  expect(new Set(precisions(`teacher/${model.names.layers}.`))).toEqual(new Set([undefined]));
});
