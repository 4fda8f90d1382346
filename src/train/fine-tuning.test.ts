/**
 * Going on from a checkpoint: it begins with that model's loss and ends with a lower one, whole or by adapters; what it
 * leaves is a checkpoint of the same family, or an adapter beside one that nobody touched; and interrupted runs end with the
 * same bytes.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openSafetensors, openWeights } from '../checkpoint/index.js';
import { openDevice, type Program } from '../engine/index.js';
import { CheckpointError, ConfigError, TrainingError } from '../errors.js';
import { topologicalOrder } from '../graph/index.js';
import { hybridModel, linearLayers, openModel, parametersOf, readModel, withLora } from '../models/index.js';
import { tinyConfig } from '../models/testing/tiny.js';
import { refusal } from '../testing/refusal.js';
import { TINY_TEXT } from '../text/testing/tiny.js';
import { evaluateModel } from './evaluate.js';
import type { TrainingEvent, TrainingInput } from './input.js';
import { ADAMW_DEFAULTS } from './optimizer.js';
import { trainingProgram } from './program.js';
import { TRAINING_DEFAULTS, type TrainingSettings } from './settings.js';
import { COMPANIONS, letters, makeBase } from './testing/base.js';
import { metrics, tinyInput } from './testing/runs.js';
import { nextTokens, textData } from './text.js';
import { train } from './trainer.js';

const device = await openDevice('cpu', { threads: 1 });
const training = Int32Array.from(letters.encode(TINY_TEXT.repeat(3)));
const validation = training.subarray(0, 100);
const data = textData(training, validation);
const lora = { rank: 4, alpha: 8 };
const FAMILIES = ['granitemoehybrid-moe-bf16', 'llama', 'qwen3_next', 'mamba'];

const settings: TrainingSettings = {
  ...TRAINING_DEFAULTS,
  steps: 24,
  batch: 4,
  sequence: 12,
  learningRate: 1e-2,
  warmupSteps: 4,
  evaluateEvery: 0,
  saveEvery: 0,
};

let here: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-fine-tuning-'));
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

const at = (name: string): string => join(here, name);

type Change = Partial<Omit<TrainingInput, 'settings'>> & { settings?: Partial<TrainingSettings> };

async function input(folder: string, change: Change = {}): Promise<TrainingInput> {
  const from = change.from ?? at('base');
  return {
    model: await readModel(from),
    from,
    tokenizer: letters,
    data,
    device,
    folder,
    ...change,
    settings: { ...settings, ...change.settings },
  };
}

/** Trains, and stops once a step is done. */
async function interrupted(step: number, folder: string, change: Change): Promise<void> {
  const interrupt = new AbortController();
  const onEvent = (event: TrainingEvent): void => {
    if (event.event === 'step' && event.step === step) interrupt.abort();
  };
  await train(await input(folder, { ...change, onEvent, signal: interrupt.signal }));
}

/** The digests of the files in a folder. */
function digests(folder: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(folder)
      .sort()
      .map((file) => [
        file,
        createHash('sha256')
          .update(readFileSync(join(folder, file)))
          .digest('hex'),
      ]),
  );
}

async function lossOf(folder: string, adapter?: string): Promise<number> {
  const { model, weights } = await openModel(folder, adapter);
  return (await evaluateModel(model, weights, validation, settings.sequence, device)).loss;
}

/** The first and the last loss on the text that was held out. */
function losses(run: string): [number, number] {
  const found = metrics(run).flatMap((event) => (event.event === 'evaluation' ? [event.loss] : []));
  return [found[0]!, found.at(-1)!];
}

describe.each(FAMILIES)('%s', (name) => {
  beforeEach(() => makeBase(at('base'), name));

  test('whole: learns, and is written as the checkpoint that it was', async () => {
    await train(await input(at('run')));
    const [first, last] = losses(at('run'));
    expect(first).toBeCloseTo(await lossOf(at('base')), 5);
    expect(last).toBeLessThan(first - 0.2);
    const checkpoint = join(at('run'), 'checkpoint');
    expect(await lossOf(checkpoint)).toBeCloseTo(last, 5);
    const shapes = async (folder: string): Promise<Record<string, readonly number[]>> => {
      const files = await openWeights(folder);
      await files.close();
      return Object.fromEntries([...files.tensors].map(([tensor, { shape }]) => [tensor, shape]));
    };
    expect(await shapes(checkpoint)).toEqual(await shapes(at('base')));
    const config = (folder: string): unknown => JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
    expect(config(checkpoint)).toEqual(config(at('base')));
    for (const file of ['tokenizer.json', 'tokenizer_config.json', ...Object.keys(COMPANIONS)]) {
      expect(readFileSync(join(checkpoint, file)), file).toEqual(readFileSync(join(at('base'), file)));
    }
  });

  test('by adapters: learns, beside weights that stay as they are', async () => {
    const before = digests(at('base'));
    await train(await input(at('run'), { lora }));
    expect(digests(at('base'))).toEqual(before);
    const [first, last] = losses(at('run'));
    expect(first).toBeCloseTo(await lossOf(at('base')), 5);
    expect(last).toBeLessThan(first - 0.2);
    const checkpoint = join(at('run'), 'checkpoint');
    const files = readdirSync(checkpoint).filter((file) => !file.startsWith('.'));
    expect(files.sort()).toEqual([
      'adapter_config.json',
      'adapter_model.safetensors',
      'optimizer.safetensors',
      'training.json',
    ]);
    expect(await lossOf(at('base'), checkpoint)).toBeCloseTo(last, 5);
  });
});

describe('the program that trains adapters', () => {
  const shape = { batch: 2, accumulate: 1, stepsPerRun: 1 };

  /** The shapes of all values that the gradients consist of. */
  function gradientShapes({ outputs, state = [] }: Program): Set<string> {
    const roots = [...state.map(({ after }) => after), ...Object.values(outputs)];
    const inside = topologicalOrder(roots).filter(({ path }) => path.includes('gradient'));
    expect(inside.length).toBeGreaterThan(100);
    return new Set(inside.flatMap((node) => node.outputs.map((output) => output.shape.join())));
  }

  test.each(FAMILIES)('%s: carries nothing else, and computes no other gradient', async (name) => {
    await makeBase(at('base'), name);
    const model = await readModel(at('base'));
    const whole = trainingProgram(model, nextTokens(7), ADAMW_DEFAULTS, shape);
    // A rank that no size of the model is.
    const adapted = withLora(model, { rank: 5, alpha: 10 });
    const { program, parameters } = trainingProgram(adapted, nextTokens(7), ADAMW_DEFAULTS, shape);
    const names = parametersOf(adapted)
      .filter(({ adapts }) => adapts !== undefined)
      .map((spec) => spec.name);
    expect(parameters.map((spec) => spec.name)).toEqual(names);
    expect(program.state!.map(({ spec }) => spec.name).sort()).toEqual(
      names.flatMap((half) => [half, `adam.first/${half}`, `adam.second/${half}`]).sort(),
    );
    const { weights } = await openModel(at('base'));
    const executable = await device.compile({ ...program, weights });
    await executable.dispose();
    const [all, few] = [gradientShapes(whole.program), gradientShapes(program)];
    for (const { module, inputs, outputs } of linearLayers(model)) {
      expect(all.has([outputs, inputs].join()), module).toBe(true);
      expect(few.has([outputs, inputs].join()), module).toBe(false);
    }
  });
});

describe('the same bytes, interrupted or not', () => {
  beforeEach(() => makeBase(at('base'), 'granitemoehybrid'));

  test.each<[string, Change]>([
    ['whole', {}],
    ['adapters', { lora }],
    ['adapters, two batches a step', { lora, settings: { accumulate: 2, batch: 2 } }],
  ])('%s', async (_, change) => {
    await train(await input(at('run'), change));
    for (const step of [3, 16]) {
      const folder = at(`stopped-${step}`);
      await interrupted(step, folder, change);
      const progress = JSON.parse(readFileSync(join(folder, 'checkpoint', 'training.json'), 'utf8'));
      expect(progress.step).toBeLessThan(24);
      await train(await input(folder, { ...change, resume: true }));
      expect(digests(join(folder, 'checkpoint'))).toEqual(digests(join(at('run'), 'checkpoint')));
    }
  });

  test('with anything else than before is refused', async () => {
    await interrupted(8, at('adapters'), { lora });
    await interrupted(8, at('whole'), {});
    const before = [digests(join(at('adapters'), 'checkpoint')), digests(join(at('whole'), 'checkpoint'))];
    // Another training of the same model: sizes and headers are the same.
    await makeBase(at('other'), 'granitemoehybrid');
    const path = join(at('other'), 'model.safetensors');
    const bytes = readFileSync(path);
    bytes[bytes.length - 100]! ^= 1;
    writeFileSync(path, bytes);
    const others: [string, Change][] = [
      ['adapters', { lora: { rank: 2, alpha: 8 } }],
      ['adapters', { lora: { rank: 4, alpha: 4 } }],
      ['adapters', { lora, from: at('other') }],
      ['adapters', {}],
      ['whole', { lora }],
      ['whole', { from: at('other') }],
    ];
    for (const [run, change] of others) {
      const error = await refusal(input(at(run), { ...change, resume: true }).then(train));
      expect(error, JSON.stringify(change)).toBeInstanceOf(TrainingError);
      expect(error.message).toMatch(/is of a run that differs in (rank|alpha|weights that it starts from)/);
    }
    expect([digests(join(at('adapters'), 'checkpoint')), digests(join(at('whole'), 'checkpoint'))]).toEqual(
      before,
    );
  });
});

describe('adapters that a phase leaves as they are', () => {
  const rates = { 'layer:S': 0 };
  const phases = [{ steps: 4 }, { steps: 4, rates }];
  const model = hybridModel(tinyConfig({ pattern: 'S-*-', vocabSize: 128, hiddenSize: 8 }));
  const small = { lora: { rank: 2, alpha: 4 } };

  let from: string;
  beforeEach(async () => {
    await train(tinyInput(at('fresh'), { model, tokenizer: letters, data, settings: { steps: 0 } }));
    from = join(at('fresh'), 'checkpoint');
  });
  const changed = (own: Partial<TrainingSettings>): Change => ({ ...small, from, settings: own });

  async function tensorsOf(run: string, file: string): Promise<Map<string, Buffer>> {
    const opened = await openSafetensors(join(at(run), 'checkpoint', file));
    const found = new Map<string, Buffer>();
    for (const name of opened.tensors.keys()) {
      found.set(name, Buffer.from(new Uint8Array((await opened.readFloat32(name)).buffer)));
    }
    await opened.close();
    return found;
  }

  test.each([
    ['from the beginning', { steps: 4, rates }],
    ['in a phase', { steps: 8, phases }],
  ] as const)('%s are those of before in the checkpoint, without moments', async (_, own) => {
    await train(await input(at('run'), changed(own)));
    const adapters = await tensorsOf('run', 'adapter_model.safetensors');
    const places = linearLayers(model).length;
    expect(adapters.size).toBe(2 * places);
    const moments = [...(await tensorsOf('run', 'optimizer.safetensors')).keys()];
    const isOfS = (name: string): boolean => name.includes('.layers.0.');
    expect(moments.length).toBe(2 * [...adapters.keys()].filter((name) => !isOfS(name)).length);
    expect(moments.filter(isOfS)).toEqual([]);
    const checkpoint = join(at('run'), 'checkpoint');
    expect(await lossOf(from, checkpoint)).toBeCloseTo(losses(at('run'))[1], 5);
  });

  test('go on from where they were in a phase that trains them again', async () => {
    const change = changed({ steps: 12, phases: [...phases, { steps: 4 }] });
    await train(await input(at('whole'), change));
    const seen: Map<string, Buffer>[] = [];
    for (const stop of [4, 8]) {
      await interrupted(stop, at('parts'), { ...change, resume: stop > 4 });
      seen.push(await tensorsOf('parts', 'adapter_model.safetensors'));
    }
    const [trained, left] = seen as [Map<string, Buffer>, Map<string, Buffer>];
    for (const [name, value] of trained) {
      expect(value.equals(left.get(name)!), name).toBe(name.includes('.layers.0.'));
    }
    await train(await input(at('parts'), { ...change, resume: true }));
    expect(digests(join(at('parts'), 'checkpoint'))).toEqual(digests(join(at('whole'), 'checkpoint')));
  });
});

describe('refused', () => {
  test('adapters beside no model', async () => {
    await makeBase(at('base'), 'llama');
    const { from: _, ...rest } = await input(at('run'), { lora });
    const error = await refusal(train(rest));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toMatch(/beside the weights of a model/);
  });

  test('the weights of another model, before anything is written', async () => {
    await makeBase(at('base'), 'llama');
    await makeBase(at('granite'), 'granitemoehybrid');
    for (const change of [{}, { lora }]) {
      const other = { ...(await input(at('run'), change)), from: at('granite') };
      const error = await refusal(train(other));
      expect(error).toBeInstanceOf(CheckpointError);
      expect(error.message).toContain(at('granite'));
      expect(readdirSync(here).sort()).toEqual(['base', 'granite']);
    }
  });

  test('an adapter to start from', async () => {
    await makeBase(at('base'), 'llama');
    await train(await input(at('run'), { lora, settings: { steps: 0 } }));
    const error = await refusal(input(at('next'), { from: join(at('run'), 'checkpoint') }));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(/is an adapter, not a model/);
  });
});
