/**
 * Training runs: they learn; the same seed gives the same bytes, interrupted or not; what cannot be trained is refused
 * before anything is written; and what went wrong leaves the last checkpoint as it was.
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type HostTensor, openDevice, type Weight } from '../engine/index.js';
import { CheckpointError, ConfigError, DataError, StorageError, TrainingError } from '../errors.js';
import { multiply, reshape, sum } from '../graph/index.js';
import {
  DESIGNS,
  hybridModel,
  parametersOf,
  preset,
  readModel,
  readWeights,
  writeModel,
} from '../models/index.js';
import { tinyConfig } from '../models/testing/tiny.js';
import { Random } from '../nn/index.js';
import { refusal } from '../testing/refusal.js';
import { Tokenizer } from '../text/index.js';
import { tinyTokenizer } from '../text/testing/tiny.js';
import type { DataSource } from './data.js';
import { documentData } from './documents.js';
import { initialWeights } from './equipment.js';
import { evaluateModel } from './evaluate.js';
import type { TrainingEvent } from './input.js';
import { ADAMW_DEFAULTS, MUON_DEFAULTS } from './optimizer.js';
import {
  aheadDevice,
  digests,
  interruptedAfter,
  metrics,
  type RunOptions,
  stepByStep,
  tinyInput,
  tinySettings,
  trainingTokens,
  validationTokens,
} from './testing/runs.js';
import { tokenLosses } from './text.js';
import { train } from './trainer.js';

let here: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-train-'));
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

const at = (name: string): string => join(here, name);

/** The tokens of the text in another order: their frequencies are learned from the text, and then its order, which makes the loss of these larger. */
const shuffledTokens = Int32Array.from(
  new Random(1).permutation(validationTokens.length),
  (place) => validationTokens[place]!,
);

/** The text in pieces of several lengths. */
const tinyDocuments = [40, 7, 90, 23, 5].map((length, i) => trainingTokens.slice(i * 50, i * 50 + length));

describe('learning', () => {
  for (const design of DESIGNS) {
    test(`a nano ${design} learns a tiny text`, async () => {
      const folder = at('run');
      const result = await train(
        tinyInput(folder, {
          model: hybridModel(preset(design, 'nano', 300)),
          settings: {
            steps: 16,
            batch: 2,
            sequence: 16,
            learningRate: 4e-3,
            evaluateEvery: 16,
            saveEvery: 16,
          },
        }),
      );
      expect(result).toMatchObject({ step: 16, completed: true });
      const [before, after] = metrics(folder).flatMap((event) =>
        event.event === 'evaluation' ? [event] : [],
      );
      expect(Math.abs(before!.loss - Math.log(300))).toBeLessThan(0.2);
      expect(after!.loss).toBeLessThan(before!.loss - 1);
      expect(result.perplexity).toBeCloseTo(Math.exp(after!.loss), 6);
    });
  }

  test('says what happens, in order, with a rate that follows the schedule', async () => {
    const folder = at('run');
    const events: TrainingEvent[] = [];
    await train(tinyInput(folder, { onEvent: (event) => events.push(event) }));
    expect(metrics(folder)).toMatchObject(events);
    const steps = events.flatMap((event) => (event.event === 'step' ? [event] : []));
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 24 }, (_, i) => i + 1));
    expect(steps[1]!.learningRate).toBeCloseTo(5e-3, 10);
    expect(steps[3]!.learningRate).toBeCloseTo(1e-2, 10);
    expect(steps[23]!.learningRate).toBeCloseTo(1e-3, 10);
    expect(steps.every(({ tokensPerSecond, gradientNorm }) => tokensPerSecond > 0 && gradientNorm > 0)).toBe(
      true,
    );
    const others = events
      .filter(({ event }) => event !== 'step')
      .map(({ event, step }) => `${event} ${step}`);
    expect(others).toEqual([
      'evaluation 0',
      'evaluation 8',
      'saved 8',
      'evaluation 16',
      'saved 16',
      'evaluation 24',
      'saved 24',
    ]);
  });

  test('after each evaluation it asks for a sample, with the weights of that moment', async () => {
    const folder = at('run');
    const seen: number[] = [];
    let last: ReadonlyMap<string, Weight> = new Map();
    await train(
      tinyInput(folder, {
        sample: async (model, weights) => {
          seen.push(weights.size);
          last = weights;
          return { prompt: model.pattern, text: `sample ${seen.length}` };
        },
      }),
    );
    const samples = metrics(folder).flatMap((each) => (each.event === 'sample' ? [each] : []));
    expect(samples.map(({ step, prompt, text }) => [step, prompt, text])).toEqual([
      [0, 'M-S-', 'sample 1'],
      [8, 'M-S-', 'sample 2'],
      [16, 'M-S-', 'sample 3'],
      [24, 'M-S-', 'sample 4'],
    ]);
    const checkpoint = join(folder, 'checkpoint');
    const saved = await readWeights(checkpoint, await readModel(checkpoint));
    expect(seen).toEqual(Array(4).fill(saved.size));
    for (const [name, { data }] of saved) expect((last.get(name) as HostTensor).data, name).toEqual(data);
  });

  test('the checkpoint is a model that can be read, with its tokenizer', async () => {
    const folder = at('deeper/run');
    await train(tinyInput(folder, { settings: { steps: 8 } }));
    const checkpoint = join(folder, 'checkpoint');
    const model = await readModel(checkpoint);
    expect(model.json).toEqual(hybridModel(tinyConfig({ pattern: 'M-S-' })).json);
    const weights = await readWeights(checkpoint, model);
    expect(weights.size).toBeGreaterThan(10);
    expect((await Tokenizer.load(checkpoint)).encode('the cat sat')).toEqual(
      tinyTokenizer.encode('the cat sat'),
    );
    expect(readdirSync(folder).sort()).toEqual(['checkpoint', 'metrics.jsonl']);
  });

  test('steps that are no multiple of those in a run of the program are all taken, and no others', async () => {
    const settings = { steps: 5, evaluateEvery: 0, saveEvery: 0 };
    await train(tinyInput(at('run'), { settings }));
    await train(tinyInput(at('exact'), { settings, device: stepByStep }));
    const events = metrics(at('run')).map(({ event, step }) => `${event} ${step}`);
    expect(events.slice(1)).toEqual([
      'step 1',
      'step 2',
      'step 3',
      'step 4',
      'step 5',
      'evaluation 5',
      'saved 5',
    ]);
    expect(digests(at('run'))['model.safetensors']).toBe(digests(at('exact'))['model.safetensors']);
  });

  test('no steps leave a new model', async () => {
    const result = await train(tinyInput(at('run'), { settings: { steps: 0 } }));
    expect(result).toMatchObject({ step: 0, completed: true });
    expect(result.perplexity).toBeGreaterThan(200);
    expect(existsSync(join(at('run'), 'checkpoint', 'model.safetensors'))).toBe(true);
  });
});

describe('the same bytes', () => {
  test('from the same seed, and others from another', async () => {
    for (const [name, seed] of [
      ['a', 1],
      ['b', 1],
      ['c', 2],
    ] as const) {
      await train(tinyInput(at(name), { settings: { seed, steps: 8 } }));
    }
    expect(digests(at('b'))).toEqual(digests(at('a')));
    expect(digests(at('c'))['model.safetensors']).not.toBe(digests(at('a'))['model.safetensors']);
  });

  test('on several threads too, where they share the work and meet at few tokens', async () => {
    const device = await openDevice('cpu', { threads: 2 });
    const training = Int32Array.from({ length: 4000 }, (_, i) => 5 + ((i * i) % 3));
    const settings = { steps: 16, batch: 16, sequence: 128, evaluateEvery: 0, saveEvery: 0 };
    const model = hybridModel(tinyConfig({ pattern: '-', hiddenSize: 256 }));
    for (const name of ['a', 'b']) {
      const validation = training.subarray(0, 200);
      await train(tinyInput(at(name), { model, training, validation, device, settings }));
    }
    expect(digests(at('b'))).toEqual(digests(at('a')));
  });

  const cases: [string, RunOptions][] = [
    ['one batch a step', {}],
    ['two batches a step', { settings: { accumulate: 2, batch: 1 } }],
    ['an average of the weights', { settings: { optimizer: { ...ADAMW_DEFAULTS, averageDecay: 0.5 } } }],
    ['packed documents', { data: documentData(tinyDocuments, tinyDocuments, 'pack') }],
    [
      'documents that are carried on, past attention of each kind',
      {
        model: hybridModel(tinyConfig({ pattern: 'M*SG' })),
        data: documentData(tinyDocuments, tinyDocuments, 'carry'),
        settings: { accumulate: 2, batch: 1 },
      },
    ],
    [
      'lengths that grow, and layers that learn in turns',
      {
        model: hybridModel(tinyConfig({ pattern: 'M*' })),
        settings: {
          optimizer: { ...MUON_DEFAULTS, averageDecay: 0.5 },
          phases: [
            { steps: 8, sequence: 6, batch: 4, rates: { 'layer:*': 0 } },
            { steps: 8, sequence: 12, rates: { 'layer:M': 0, '*embeddings*': 0.5 } },
            { steps: 8 },
          ],
        },
      },
    ],
    ['the best weights', { validation: shuffledTokens, settings: { keep: 'best', learningRate: 5e-2 } }],
    [
      'the best weights of the last phase',
      {
        validation: shuffledTokens,
        settings: {
          keep: 'best',
          learningRate: 5e-2,
          optimizer: { ...ADAMW_DEFAULTS, averageDecay: 0.5 },
          phases: [{ steps: 8, sequence: 6 }, { steps: 16 }],
        },
      },
    ],
  ];
  for (const [name, options] of cases) {
    test(`whether interrupted or not: ${name}`, async () => {
      await train(tinyInput(at('whole'), options));
      const expected = digests(at('whole'));
      // Before the first step, in the middle of a run of eight steps, at its end; and one after the other.
      const isPlain = options.data === undefined && options.settings?.phases === undefined;
      for (const stops of isPlain ? [[0], [3], [8], [16], [1, 9]] : [[1, 9]]) {
        const folder = at(`stopped-${stops.join('-')}`);
        for (const [i, step] of stops.entries()) {
          const resume = i > 0;
          const result = await interruptedAfter(step, folder, { ...options, resume });
          expect(result).toMatchObject({ step: 8 * Math.ceil(step / 8), completed: false });
        }
        const result = await train(tinyInput(folder, { ...options, resume: true }));
        expect(result).toMatchObject({ step: 24, completed: true });
        expect(digests(folder), `stopped after ${stops}`).toEqual(expected);
        const numbers = (run: string) =>
          metrics(run).flatMap((event) =>
            event.event === 'step' ? [[event.step, event.loss, event.gradientNorm, event.learningRate]] : [],
          );
        expect(numbers(folder)).toEqual(numbers(at('whole')));
      }
    });
  }

  test('an average of the weights is evaluated and saved; steps beyond the last do not move it', async () => {
    const optimizer = { ...ADAMW_DEFAULTS, averageDecay: 0.9 };
    const settings = { steps: 13, evaluateEvery: 0, saveEvery: 0 };
    await train(tinyInput(at('plain'), { settings }));
    await train(tinyInput(at('averaged'), { settings: { ...settings, optimizer } }));
    await train(tinyInput(at('stepped'), { settings: { ...settings, optimizer }, device: stepByStep }));
    const ofModel = (name: string) => digests(at(name))['model.safetensors'];
    expect(ofModel('stepped')).toBe(ofModel('averaged'));
    expect(ofModel('averaged')).not.toBe(ofModel('plain'));
    const [plain, averaged] = ['plain', 'averaged'].map((name) => metrics(at(name)));
    const steps = (events: readonly TrainingEvent[]) =>
      events.flatMap((each) => (each.event === 'step' ? [[each.loss, each.gradientNorm]] : []));
    expect(steps(averaged!)).toEqual(steps(plain!));
    const told = averaged!.flatMap((each) => (each.event === 'evaluation' ? [each.loss] : [])).at(-1)!;
    const { model, settings: all, device } = tinyInput(at('averaged'));
    const weights = await readWeights(join(at('averaged'), 'checkpoint'), model);
    const { loss } = await evaluateModel(model, weights, validationTokens, all.sequence, device);
    expect(told).toBeCloseTo(loss, 5);
    const other = train(tinyInput(at('averaged'), { settings, resume: true }));
    await expect(other).rejects.toThrow(/differs in averageDecay \(then 0\.9, now none\)/);
    for (const averageDecay of [0, 1, Number.NaN]) {
      const beyond = { settings: { ...settings, optimizer: { ...optimizer, averageDecay } } };
      await expect(train(tinyInput(at('beyond'), beyond))).rejects.toThrow(ConfigError);
    }
  });

  test('the weights of the best evaluation are left, with those of the last step beside them', async () => {
    const options = { validation: shuffledTokens, settings: { learningRate: 5e-2 } };
    const last = await train(tinyInput(at('last'), options));
    const kept = { ...options, settings: { ...options.settings, keep: 'best' as const } };
    const result = await train(tinyInput(at('best'), kept));
    const lossesOf = (name: string) =>
      metrics(at(name)).flatMap((each) => (each.event === 'evaluation' ? [[each.step, each.loss]] : []));
    expect(lossesOf('best')).toEqual(lossesOf('last'));
    const [step, loss] = lossesOf('best').reduce((a, b) => (b[1]! < a[1]! ? b : a));
    expect([0, 24]).not.toContain(step);
    expect(result).toMatchObject({ step: 24, completed: true, best: { step, loss } });
    expect(result.perplexity).toBe(result.best!.perplexity);
    expect(last.best).toBeUndefined();
    expect(metrics(at('best')).at(-1)).toMatchObject({ event: 'saved', step: 24, of: step });
    const evaluated = async (name: string) => {
      const { model, settings, device } = tinyInput(at(name));
      const weights = await readWeights(join(at(name), 'checkpoint'), model);
      return (await evaluateModel(model, weights, shuffledTokens, settings.sequence, device)).loss;
    };
    expect(await evaluated('best')).toBeCloseTo(loss!, 5);
    expect(await evaluated('last')).toBeGreaterThan(loss!);
    // A complete run that is resumed to keep the last ones has them.
    await train(
      tinyInput(at('best'), { ...options, settings: { ...options.settings, steps: 25 }, resume: true }),
    );
    await train(
      tinyInput(at('last'), { ...options, settings: { ...options.settings, steps: 25 }, resume: true }),
    );
    expect(digests(at('best'))).toEqual(digests(at('last')));
  });

  test('a run that only makes the held-out loss larger leaves the model as it began', async () => {
    const rare = new Int32Array(40).fill(trainingTokens.reduce((a, b) => Math.max(a, b)));
    const settings = { keep: 'best' as const, steps: 8, optimizer: { ...ADAMW_DEFAULTS, weightDecay: 0 } };
    const training = trainingTokens.filter((token) => token !== rare[0]);
    const { best, perplexity } = await train(tinyInput(at('run'), { training, validation: rare, settings }));
    expect(best!.step).toBe(0);
    expect(perplexity).toBe(best!.perplexity);
    const { model } = tinyInput(at('run'));
    const weights = await readWeights(join(at('run'), 'checkpoint'), model);
    for (const [name, { data }] of initialWeights(parametersOf(model), tinySettings.seed))
      expect(weights.get(name)!.data, name).toEqual(data);
  });

  test('a phase leaves what it freezes, and phases of other lengths than runs of the program have all their steps', async () => {
    const model = hybridModel(tinyConfig({ pattern: 'M*' }));
    const phases = [{ steps: 5, sequence: 6, rates: { 'layer:*': 0 } }, { steps: 8 }];
    const options = { model, settings: { steps: 13, phases, evaluateEvery: 0, saveEvery: 5 } };
    await interruptedAfter(5, at('run'), options);
    const values = await readWeights(join(at('run'), 'checkpoint'), model);
    const initial = initialWeights(parametersOf(model), tinySettings.seed);
    const changed = [...initial].filter(
      ([name, { data }]) => !Buffer.from(data.buffer).equals(Buffer.from(values.get(name)!.data.buffer)),
    );
    const ofLayers = changed.map(([name]) => /layers\.(\d)/.exec(name)?.[1]);
    expect(new Set(ofLayers)).toEqual(new Set([undefined, '0']));
    await train(tinyInput(at('run'), { ...options, resume: true }));
    await train(tinyInput(at('stepped'), { ...options, device: stepByStep }));
    const steps = metrics(at('run')).flatMap((event) => (event.event === 'step' ? [event.step] : []));
    expect(steps).toEqual(Array.from({ length: 13 }, (_, i) => i + 1));
    expect(digests(at('stepped'))).toEqual(digests(at('run')));
  });

  test('after a crash: what was logged beyond the checkpoint is taken back', async () => {
    await train(tinyInput(at('whole')));
    const onEvent = (event: TrainingEvent): void => {
      if (event.event === 'step' && event.step === 13) throw new Error('the power went');
    };
    await expect(train(tinyInput(at('crashed'), { onEvent }))).rejects.toThrow('the power went');
    expect(JSON.parse(readFileSync(join(at('crashed'), 'checkpoint', 'training.json'), 'utf8')).step).toBe(8);
    await train(tinyInput(at('crashed'), { resume: true }));
    expect(digests(at('crashed'))).toEqual(digests(at('whole')));
    const steps = metrics(at('crashed')).filter(({ event }) => event === 'step');
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 24 }, (_, i) => i + 1));
  });

  test('with one step in a run of the program or eight', async () => {
    await train(tinyInput(at('eight')));
    const result = await interruptedAfter(3, at('one'), { device: stepByStep });
    expect(result).toMatchObject({ step: 3, completed: false });
    await train(tinyInput(at('one'), { device: stepByStep, resume: true }));
    expect(digests(at('one'))).toEqual(digests(at('eight')));
  });

  test('where the next run is asked for while one is at work, but not beyond what is evaluated or saved', async () => {
    await train(tinyInput(at('one'), { device: stepByStep }));
    const device = aheadDevice();
    await interruptedAfter(3, at('ahead'), { device });
    await train(tinyInput(at('ahead'), { device, resume: true }));
    expect(device.most).toBe(2);
    expect(digests(at('ahead'))).toEqual(digests(at('one')));
    const told = (name: string) =>
      metrics(at(name)).flatMap((each) =>
        each.event === 'step' ? [[each.step, each.loss, each.gradientNorm, each.learningRate]] : [],
      );
    expect(told('ahead')).toEqual(told('one'));
  });

  test('however often it is evaluated and saved', async () => {
    await train(tinyInput(at('often')));
    await train(tinyInput(at('seldom'), { settings: { evaluateEvery: 0, saveEvery: 0 } }));
    expect(digests(at('seldom'))).toEqual(digests(at('often')));
    expect(metrics(at('seldom')).filter(({ event }) => event === 'saved').length).toBe(1);
  });

  test('settings in another order are the same settings', async () => {
    const input = tinyInput(at('run'));
    await interruptedAfter(8, at('run'));
    const settings = Object.fromEntries(Object.entries(input.settings).reverse()) as typeof input.settings;
    expect(await train({ ...input, settings, resume: true })).toMatchObject({ completed: true });
  });
});

describe('resuming', () => {
  test('a run that is complete says how good it is, and changes nothing', async () => {
    const first = await train(tinyInput(at('run')));
    const before = digests(at('run'));
    const again = await train(tinyInput(at('run'), { resume: true }));
    expect(again).toEqual(first);
    expect(digests(at('run'))).toEqual(before);
  });

  test('with more steps goes on to them', async () => {
    const { step } = await train(tinyInput(at('run')));
    const longer = await train(tinyInput(at('run'), { settings: { steps: step + 8 }, resume: true }));
    expect(longer).toMatchObject({ step: step + 8, completed: true });
    const events = readFileSync(join(at('run'), 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n');
    const steps = events.map((line) => JSON.parse(line)).filter(({ event }) => event === 'step');
    expect(steps.map((event) => event.step)).toEqual(Array.from({ length: step + 8 }, (_, i) => i + 1));
  });

  test('with anything else than before is refused, and leaves the checkpoint', async () => {
    await interruptedAfter(8, at('run'));
    const before = digests(at('run'));
    const others: Record<string, RunOptions> = {
      batch: { settings: { batch: 1 } },
      sequence: { settings: { sequence: 8 } },
      accumulate: { settings: { accumulate: 2 } },
      learningRate: { settings: { learningRate: 1e-3 } },
      seed: { settings: { seed: 9 } },
      beta2: { settings: { optimizer: { ...tinyInput('').settings.optimizer, beta2: 0.99 } } },
      model: { model: hybridModel(tinyConfig({ pattern: 'M-*-' })) },
      corpus: { training: trainingTokens.slice(1) },
      'held-out text': { validation: validationTokens.slice(1) },
    };
    for (const [name, options] of Object.entries(others)) {
      const error = await refusal(train(tinyInput(at('run'), { ...options, resume: true })));
      expect(error, name).toBeInstanceOf(TrainingError);
      expect(error.message, name).toMatch(new RegExp(`differs in ${name}[ :]`));
    }
    expect(digests(at('run'))).toEqual(before);
    // It can still go on with the right ones.
    expect(await train(tinyInput(at('run'), { resume: true }))).toMatchObject({ completed: true });
  });

  test('nothing is refused', async () => {
    const error = await refusal(train(tinyInput(at('run'), { resume: true })));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(/nothing to resume.*training\.json/);
  });

  test('a damaged checkpoint is refused, naming the file', async () => {
    const damage: Record<string, (path: string) => void> = {
      'training.json': (path) => writeFileSync(path, '{"step": 8'),
      'optimizer.safetensors': (path) => writeFileSync(path, readFileSync(path).subarray(0, 1000)),
      'model.safetensors': (path) => rmSync(path),
    };
    await interruptedAfter(8, at('run'));
    for (const [file, harm] of Object.entries(damage)) {
      const path = join(at('run'), 'checkpoint', file);
      const whole = readFileSync(path);
      harm(path);
      const error = await refusal(train(tinyInput(at('run'), { resume: true })));
      expect(error, file).toBeInstanceOf(CheckpointError);
      expect(error.message).toContain(file);
      writeFileSync(path, whole);
    }
  });
});

describe('a loss that is no number', () => {
  test('names the step, and leaves the last checkpoint', async () => {
    const folder = at('run');
    await interruptedAfter(8, folder);
    const checkpoint = join(folder, 'checkpoint');
    const model = await readModel(checkpoint);
    const weights = await readWeights(checkpoint, model);
    weights.get('backbone.norm_f.weight')!.data[0] = Number.NaN;
    await writeModel(checkpoint, model, weights);
    const before = digests(folder);
    const error = await refusal(train(tinyInput(folder, { resume: true })));
    expect(error).toBeInstanceOf(TrainingError);
    expect(error.message).toMatch(/loss became NaN .* at step 9; the checkpoint of step 8 stays as it was/);
    expect(digests(folder)).toEqual(before);
  });

  test('by a learning rate that is far too high', async () => {
    const error = await refusal(
      train(tinyInput(at('run'), { settings: { learningRate: 1e6, warmupSteps: 0 } })),
    );
    expect(error).toBeInstanceOf(TrainingError);
    expect(error.message).toMatch(/at step \d+; nothing was saved.*lower learning rate/);
    expect(existsSync(join(at('run'), 'checkpoint'))).toBe(false);
  });

  test('that only the last update brings about is not saved over the last checkpoint', async () => {
    const settings = { steps: 1, learningRate: 1e38, warmupSteps: 0 };
    await interruptedAfter(0, at('run'), { settings });
    const before = digests(at('run'));
    // With one step a run the weights are numbers still, only no model's; with eight the surplus ones see to that.
    for (const device of [tinyInput('').device, stepByStep]) {
      const error = await refusal(train(tinyInput(at('run'), { settings, device, resume: true })));
      expect(error).toBeInstanceOf(TrainingError);
      expect(error.message).toMatch(/validation loss became NaN at step 1; the checkpoint of step 0 stays/);
      expect(digests(at('run'))).toEqual(before);
    }
  });

  test('nor weights that are no numbers, where nothing was evaluated since', async () => {
    const settings = { steps: 2, learningRate: 3e38, warmupSteps: 0, evaluateEvery: 0, saveEvery: 1 };
    await interruptedAfter(0, at('run'), { settings });
    const before = digests(at('run'));
    // One step a run: the checkpoint would be written before the next loss shows what happened.
    const options = { settings, device: stepByStep, resume: true };
    const error = await refusal(train(tinyInput(at('run'), options)));
    expect(error).toBeInstanceOf(TrainingError);
    expect(error.message).toMatch(
      /weight has values that are no numbers at step 1; the checkpoint of step 0/,
    );
    expect(digests(at('run'))).toEqual(before);
  });
});

describe('parameters that are left as they are', () => {
  const frozen = { settings: { rates: { 'backbone.layers.0.*': 0 } } };

  test('are those of the beginning in the checkpoint, also of a resumed run, which ends with the same bytes', async () => {
    await train(tinyInput(at('once'), frozen));
    await interruptedAfter(8, at('twice'), frozen);
    await train(tinyInput(at('twice'), { ...frozen, resume: true }));
    expect(digests(at('twice'))).toEqual(digests(at('once')));
    const { model } = tinyInput('');
    const [trained, initial] = [
      await readWeights(join(at('once'), 'checkpoint'), model),
      initialWeights(parametersOf(model), tinyInput('').settings.seed),
    ];
    for (const [name, { data }] of initial) {
      const equal = Buffer.from((trained.get(name)!.data as Float32Array).buffer).equals(
        Buffer.from((data as Float32Array).buffer),
      );
      expect(equal, name).toBe(name.startsWith('backbone.layers.0.'));
    }
  });

  test('others than before are refused', async () => {
    await interruptedAfter(8, at('run'), frozen);
    const error = await refusal(train(tinyInput(at('run'), { resume: true })));
    expect(error.message).toMatch(/differs in rates/);
  });
});

describe('examples of another kind', () => {
  /** Copies of one token, of which only the second half counts; the held-out ones are of other tokens. */
  const copies: DataSource = (_, { sequence }) => {
    const take = (first: number, count: number) => {
      const tokens = new BigInt64Array(count * (sequence + 1));
      const counted = new Float32Array(count * sequence);
      for (let i = 0; i < count; i++) {
        tokens.fill(BigInt(5 + ((first + i) % 7)), i * (sequence + 1), (i + 1) * (sequence + 1));
        counted.fill(1, i * sequence + sequence / 2, (i + 1) * sequence);
      }
      return { tokens, counted };
    };
    return {
      objective: {
        inputs: [
          { name: 'tokens', dtype: 'int64', shape: [sequence + 1] },
          { name: 'counted', dtype: 'float32', shape: [sequence] },
        ],
        loss(model, registry, { tokens, counted }) {
          const flat = reshape(counted!, [-1]);
          const losses = multiply(tokenLosses(model, registry, tokens!), flat);
          return { total: sum(losses), count: sum(flat), measures: { half: multiply(sum(flat), 0.5) } };
        },
      },
      training: { take },
      validation: { count: 3, take },
      identity: { copies: sequence },
    };
  };

  test('are learned, evaluated with their own measures, and saved without a tokenizer', async () => {
    const { tokenizer: _, ...input } = tinyInput(at('run'), { data: copies });
    await train(input);
    const found = metrics(at('run')).flatMap((event) => (event.event === 'evaluation' ? [event] : []));
    expect(found.at(-1)!.tokens).toBe((3 * tinySettings.sequence) / 2);
    expect(found.at(-1)!.measures).toEqual({ half: 0.5 });
    expect(found.at(-1)!.loss).toBeLessThan(found[0]!.loss - 1);
    expect(existsSync(join(at('run'), 'checkpoint', 'tokenizer.json'))).toBe(false);
  });
});

describe('what cannot be trained', () => {
  const refused = async (options: RunOptions, type: new (...args: never[]) => Error, message: RegExp) => {
    const error = await refusal(train(tinyInput(at('run'), options)));
    expect(error).toBeInstanceOf(type);
    expect(error.message).toMatch(message);
    expect(existsSync(at('run')), 'nothing was written').toBe(false);
  };

  test('an empty corpus', () => refused({ training: new Int32Array() }, DataError, /corpus is empty/));
  test('a corpus shorter than a sequence', () =>
    refused(
      { training: trainingTokens.slice(0, 12) },
      DataError,
      /12 tokens, fewer than one sequence of 12/,
    ));
  test('a held-out text shorter than a sequence', () =>
    refused({ validation: validationTokens.slice(0, 12) }, DataError, /validation text has 12 tokens/));
  test('tokens that the model does not have', () =>
    refused(
      { model: hybridModel(tinyConfig({ pattern: 'M', vocabSize: 100 })) },
      DataError,
      /gives the id \d+, but the model has 100 tokens/,
    ));

  const wrong: [string, number][] = [
    ['batch', 0],
    ['sequence', 0],
    ['accumulate', 0],
    ['batch', 1.5],
    ['steps', -1],
    ['steps', Number.NaN],
    ['warmupSteps', -1],
    ['learningRate', 0],
    ['learningRate', -1e-3],
    ['learningRate', Number.POSITIVE_INFINITY],
    ['seed', 0.5],
    ['evaluateEvery', -1],
    ['saveEvery', -5],
  ];
  for (const [key, value] of wrong) {
    test(`${key} ${value}`, () =>
      refused({ settings: { [key]: value } }, ConfigError, new RegExp(`${key} is ${value}`)));
  }
});

describe('a folder that cannot be written', () => {
  test('because a file stands in its place', async () => {
    writeFileSync(at('run'), 'mine');
    expect(await refusal(train(tinyInput(at('run'))))).toBeInstanceOf(StorageError);
    expect(await refusal(train(tinyInput(join(at('run'), 'deeper'))))).toBeInstanceOf(StorageError);
    expect(readFileSync(at('run'), 'utf8')).toBe('mine');
  });

  test('because there is something where the checkpoint would go: before any work is done', async () => {
    const precious = join(at('run'), 'checkpoint', 'thesis.txt');
    mkdirSync(join(at('run'), 'checkpoint'), { recursive: true });
    writeFileSync(precious, 'mine');
    const error = await refusal(train(tinyInput(at('run'), { settings: { steps: 8 } })));
    expect(error).toBeInstanceOf(TrainingError);
    expect(error.message).toMatch(
      /checkpoint is there already, from another run: go on with that one \(--resume\)/,
    );
    expect(readFileSync(precious, 'utf8')).toBe('mine');
  });
});
