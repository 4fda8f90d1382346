/** The measuring functions on tiny shapes: tests what is measured, never the speed of this machine. */
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { openDevice } from '../engine/index.js';
import { LanguageModel } from '../generate/index.js';
import { input, matmul, reshape, silu, sum } from '../graph/index.js';
import {
  countParameters,
  hybridModel,
  type Model,
  modelConfig,
  parametersOf,
  preset,
} from '../models/index.js';
import { stateBytes } from '../nn/index.js';
import { ADAMW_DEFAULTS, initialWeights, nextTokens } from '../train/index.js';
import { activationBytes, memoryNeed } from '../train/memory-need.js';
import { race, startContender } from './contender.js';
import { decodeCost } from './cost.js';
import { bytesTokenizer, measureGeneration } from './generation-section.js';
import { hybrid350 } from './gpu-tasks.js';
import { plotsOfShared, type SharedRate } from './gpu-training.js';
import { ContenderError, LineProcess } from './line-process.js';
import { peakMemory } from './machine.js';
import { measurePeak } from './peak.js';
import { QUICK } from './plan.js';
import { plotSvg } from './plot.js';
import { generationText, highest, peakText, trainText } from './report.js';
import { runtimeText } from './runtime-report.js';
import { GRANITE_1B, GRANITE_3B, GRANITE_350M, graniteModel } from './shapes.js';
import { table } from './table.js';
import { median, type TrainResult } from './train-section.js';
import { compileStep, STEPS_PER_ROUND, startRun } from './training.js';
import { countWork, decodeFlops, prefillFlops, trainingFlops } from './work.js';

const device = await openDevice('cpu', { threads: 1 });

/** Counted by hand: hidden 8, vocabulary 20, one Mamba-2 layer of 2 heads x 4 with 3 state rows, one MLP of width 6. */
const tiny = {
  modelType: 'heddle' as const,
  vocabSize: 20,
  hiddenSize: 8,
  pattern: 'M-',
  intermediateSize: 6,
  maxPositionEmbeddings: 4,
  mambaNumHeads: 2,
  mambaHeadDim: 4,
  ssmStateSize: 3,
};
const EMBEDDING = 20 * 8;
const CHANNELS = 2 * 4 + 2 * 3;
const MAMBA = 8 * (8 + CHANNELS + 2) + CHANNELS * 4 + CHANNELS + 3 * 2 + 8 + 8 * 8;
const MLP = 8 * 2 * 6 + 6 * 8;
const NORMS = 3 * 8;

describe('arithmetic', () => {
  test.each([true, false])('equals a count by hand, with a tied head: %s', (tieWordEmbeddings) => {
    const work = countWork(hybridModel(modelConfig({ ...tiny, tieWordEmbeddings })));
    const layers = MAMBA + MLP + NORMS;
    const total = layers + (tieWordEmbeddings ? 1 : 2) * EMBEDDING;
    expect(work).toEqual({ total, computed: layers + EMBEDDING, head: EMBEDDING });
    expect(trainingFlops(work, 5)).toBe(6 * 5 * (layers + EMBEDDING));
    expect(decodeFlops(work, 5)).toBe(2 * 5 * (layers + EMBEDDING));
    expect(prefillFlops(work, 5)).toBe(2 * 5 * layers);
  });

  test('the middle of an odd number of values, the lower of two', () => {
    expect(median([5, 1, 3])).toBe(3);
    expect(median([4, 2])).toBe(2);
  });
});

test('shapes have the number of parameters in their names', () => {
  const millions = (model: Model) => countParameters(parametersOf(model)) / 1e6;
  expect(millions(hybrid350())).toBeCloseTo(350, -1);
  expect(millions(graniteModel(GRANITE_350M))).toBeCloseTo(340, -1);
  expect(millions(graniteModel(GRANITE_1B)) / 1000).toBeCloseTo(1.5, 0);
  expect(millions(graniteModel(GRANITE_3B)) / 1000).toBeCloseTo(3.2, 0);
});

describe('the memory of a step', () => {
  const x = input('x', 'float32', [2, 3]);
  const weight = input('weight', 'float32', [3, 4]);

  test('counts each computed tensor that the gradient reads once', () => {
    // silu reads its operand and its result, [2, 4] each; the product reads x, which was fed.
    const y = matmul(x, weight);
    expect(activationBytes(sum(silu(y)), [weight])).toBe(2 * 8 * 4);
    // A reshaped operand shares the memory.
    expect(activationBytes(sum(silu(reshape(y, [8]))), [weight])).toBe(2 * 8 * 4);
    // The gradient of a sum reads nothing.
    expect(activationBytes(sum(y), [weight])).toBe(0);
  });

  test('is additive, and grows with the batch except for the parameters', () => {
    const needOf = (batch: number) =>
      memoryNeed(hybridModel(modelConfig(tiny)), nextTokens(4), batch, ADAMW_DEFAULTS);
    const one = needOf(1);
    const two = needOf(2);
    expect(one.parameters).toBe(4 * (MAMBA + MLP + NORMS + EMBEDDING));
    expect(one.optimizer).toBe(2 * one.gradients);
    expect(one.total).toBe(one.parameters + one.gradients + one.optimizer + one.activations);
    expect(two.parameters).toBe(one.parameters);
    // exp(A_log) and its negative, of 2 heads, and D for each of 8 channels are shared by all tokens.
    const fixed = (2 * 2 + 8) * 4;
    expect(two.activations - fixed).toBe(2 * (one.activations - fixed));
  });

  test('the peak of this process is at least its current memory', () => {
    expect(peakMemory()).toBeGreaterThan(10e6);
    expect(peakMemory()).toBeGreaterThanOrEqual(0.9 * process.memoryUsage.rss());
  });
});

test('peak: each size has a rate', async () => {
  const peaks = [];
  for (const size of QUICK.peak) peaks.push(await measurePeak(device, size));
  for (const { flops } of peaks) expectRate(flops);
  expect(peakText(peaks)).toMatch(/64 x 64 .* GFLOP\/s\n.*128 x 128 .* GFLOP\/s/);
  expect(highest(peaks)).toBe(Math.max(...peaks.map(({ flops }) => flops)));
});

test('train: the compiled step memorizes its tokens', async () => {
  const step = await compileStep(QUICK.training, device);
  expect(STEPS_PER_ROUND % step.stepsPerRun).toBe(0);
  for (const seconds of Object.values(step.preparation)) expectRate(seconds);
  const run = startRun(QUICK.training, step);
  const first = await run.round();
  let last = first;
  for (let i = 0; i < 3; i++) last = await run.round();
  await run.dispose();
  expectRate(first.seconds);
  expect(last.loss).toBeLessThan(first.loss);
});

test('prefill and decode: each design is measured at each length', async () => {
  const { prefill, decode } = await measureGeneration(device, QUICK.generation);
  expect(prefill.map(({ tokens }) => tokens)).toEqual([32, 64, 32, 64, 32, 64]);
  expect(decode.map(({ design }) => design)).toEqual(
    ['transformer', 'ssm', 'hybrid'].flatMap((design) => [design, design]),
  );
  for (const { tokensPerSecond, flops, stateBytes } of [...prefill, ...decode]) {
    for (const value of [tokensPerSecond, flops, stateBytes]) expectRate(value);
  }
  // The embedding is tied: decoding multiplies with all parameters, prefill with all but the head.
  const head = QUICK.generation.vocabSize * 128;
  for (const { tokensPerSecond, flops, parameters } of decode) {
    expect(Math.round(flops / tokensPerSecond)).toBe(2 * parameters);
  }
  for (const { tokensPerSecond, flops, parameters } of prefill) {
    expect(Math.round(flops / tokensPerSecond)).toBe(2 * (parameters - head));
  }
  // Keys and values of 5 layers, 128 wide; a state-space model's state has a constant size.
  expect(decode[0]!.stateBytes).toBe(16 * 5 * 2 * 128 * 4);
  expect(decode[2]!.stateBytes).toBe(decode[3]!.stateBytes);
  const text = generationText('decode', decode, 'nano', 1e12);
  expect(text.split('\n')).toHaveLength(2 + decode.length);
});

describe('contenders', () => {
  /** A process that answers each line with its number as the seconds of a step. */
  const talker = (ready: string): string[] => [
    '-e',
    `console.log(${JSON.stringify(ready)});
     let count = 0;
     require('node:readline').createInterface({ input: process.stdin }).on('line', () =>
       console.log(JSON.stringify({ seconds: ++count, loss: 1, peakBytes: 1 })));`,
  ];

  test('take turns; the first round does not count', async () => {
    const args = talker('{"parameters":7}');
    const contenders = [
      await startContender('a', process.execPath, args),
      await startContender('b', process.execPath, args),
    ];
    const results = await race(contenders, 2);
    for (const contender of contenders) contender.stop();
    expect(contenders.map(({ ready }) => ready.parameters)).toEqual([7, 7]);
    expect(results.map((rounds) => rounds.map(({ seconds }) => seconds))).toEqual([
      [2, 3],
      [2, 3],
    ]);
  });

  test.each([
    ['that is not there', '/nowhere/python', [], 'x ended early: spawn /nowhere/python ENOENT'],
    [
      'that fails',
      process.execPath,
      ['-e', 'console.error("no torch"); process.exit(1)'],
      'x ended early: no torch',
    ],
    ['that throws', process.execPath, ['-e', 'throw new Error("no file")'], 'x ended early: Error: no file'],
    ['that babbles', process.execPath, talker('hello'), 'x printed an unexpected line: hello'],
  ])('one %s is told', async (_, command, args, message) => {
    const started = startContender('x', command, args);
    await expect(started).rejects.toThrow(ContenderError);
    await expect(started).rejects.toThrow(message);
  });
});

describe('output of a process without requests', () => {
  const number = z.number();
  const heard = async (script: string, stopAt = Number.POSITIVE_INFINITY): Promise<number[]> => {
    const child = new LineProcess('x', process.execPath, ['-e', script]);
    const all: number[] = [];
    for await (const value of child.hearAll(number)) {
      all.push(value);
      if (value === stopAt) child.stop();
    }
    return all;
  };

  test('is read to its end', async () =>
    expect(await heard('console.log(1); console.log(2)')).toEqual([1, 2]));

  test('ends when the reader stops', async () =>
    expect(await heard('let n = 0; setInterval(() => console.log(n < 3 ? ++n : n), 1)', 3)).toContain(3));

  test('is not complete if the process fails', () =>
    expect(heard('console.log(1); process.exitCode = 1; console.error("no more")')).rejects.toThrow(
      'x ended early: no more',
    ));
});

describe('the report', () => {
  const time = { bestSeconds: 0.5, medianSeconds: 0.6, tokensPerSecond: 2048, flops: 1e11, peakBytes: 3e9 };
  const result: TrainResult = {
    name: 'a stack',
    parameters: { total: 16e6, computed: 14e6, head: 2e6 },
    batch: 4,
    sequence: 256,
    ours: { name: 'heddle', ...time },
    need: { parameters: 1e8, gradients: 1e8, optimizer: 2e8, activations: 6e8, total: 1e9 },
    preparations: [{ name: 'a stack', parameters: 16e6, batch: 4, sequence: 256, build: 0.01, compile: 0.5 }],
    peers: [],
    failures: [],
  };

  test('has the measured values with units', () => {
    const text = trainText(result, 4e11);
    expect(text).toMatch(/heddle +500 ms +600 ms +2,048 +100 GFLOP\/s +25\.0 % +3,000 MB\n/);
    expect(text).toMatch(/ratio of the last two +3\.00\n/);
    expect(text).toMatch(/a stack +16\.0 M +4 x 256 +10\.0 ms +500 ms$/);
    expect(text).not.toContain('ours');
  });

  test("has the peer's values, or the reason why there are none", () => {
    const peers = [{ name: 'PyTorch eager', ...time, ratio: 1.234 }];
    const text = trainText({ ...result, peers, failures: ['PyTorch compile ended early'] }, 4e11);
    expect(text).toMatch(/PyTorch eager .* 1\.23 x ours\n/);
    expect(text).toContain('not measured: PyTorch compile ended early');
  });

  test('aligns its columns', () => {
    expect(
      table([
        ['', 'unit'],
        ['long name', 'x'],
      ]),
    ).toBe('              unit\n  long name      x');
  });
});

function expectRate(value: number): void {
  expect(Number.isFinite(value)).toBe(true);
  expect(value).toBeGreaterThan(0);
}

test('runtime: ratios are formed within a round, and the median of all rounds is reported', () => {
  const tasks = [
    { kind: 'decode', tokens: 128, streams: 1 },
    { kind: 'answer', tokens: 128, how: 'plain' },
    { kind: 'answer', tokens: 128, how: 'penalties' },
  ] as const;
  const peakBytes = 200e6;
  const rates = (...all: number[]) => all.map((tokensPerSecond) => ({ tokensPerSecond, peakBytes }));
  const gaps = Array.from({ length: 100 }, (_, i) => (i === 99 ? 40 : 20));
  const ours = {
    name: 'heddle',
    seconds: 2,
    heldBytes: 100e6,
    answers: [rates(10, 40, 20).map((each) => ({ ...each, gaps })), rates(10, 20, 40), rates(5, 30, 36)],
  };
  const peer = { name: 'peer', seconds: 1, heldBytes: 50e6, answers: [rates(10, 10, 40), [], []] };
  const text = runtimeText(
    {
      shape: 'granite-350m',
      bits: 4,
      parameters: 1e6,
      weightBytes: 1e6,
      minutes: 1,
      contenders: [ours, peer],
      bandwidth: [1e9, 2e9, 1e9],
      bytesPerToken: [1e7, 1e7, 1e7],
    },
    tasks,
    1e9,
  );
  const cells = new Map(text.split('\n').map((line) => [line.trim().split(/ {2,}/)[0], line]));
  // Percentages by round: 10 %, 20 %, 20 %; ratios 1, 4 and 0.5.
  expect(cells.get('decode after 128')).toMatch(/20\.0 +20\.0 % +10\.0 +1\.00 x/);
  // 0.5, 1.5 and 0.9 of plain answers; the peer has no answers.
  expect(cells.get('penalties')).toMatch(/30\.0 +0\.90 x$/);
  expect(cells.get('held once loaded')).toMatch(/100 MB +50\.0 MB +2\.00 x/);
  expect(cells.get('decode after 128, heddle')).toMatch(/300 +20\.0 ms +40\.0 ms +2\.00 x/);
  expect(text).not.toContain('decode after 128, peer');
});

test('decode: the bytes of a sequence are those behind its context, before anything is written', async () => {
  const model = hybridModel(preset('transformer', 'nano', 256));
  const weights = initialWeights(parametersOf(model), 1);
  const language = await LanguageModel.compile(model, weights, bytesTokenizer(), device);
  const { bytes } = await decodeCost(language, 128, 0.01);
  expect(bytes).toBe(stateBytes(model.state, 128));
  await language.dispose();
});

test('decode: the rates of several sequences are added', async () => {
  const model = hybridModel(preset('hybrid', 'nano', 256));
  const weights = initialWeights(parametersOf(model), 1);
  const language = await LanguageModel.compile(model, weights, bytesTokenizer(), device);
  const { gaps, tokensPerSecond } = await decodeCost(language, 16, 0.01, 3);
  const spent = gaps.reduce((a, b) => a + b, 0) / 1000;
  expect(tokensPerSecond).toBeCloseTo((3 * gaps.length) / spent, 6);
  await language.dispose();
});

test('several GPUs are plotted beside one and beside ideal scaling', async () => {
  const rate = (devices: number, tokensPerSecond: number, peaks: number[], shard?: 'data'): SharedRate => ({
    ...{ name: `${devices} GPUs`, devices, parameters: 1, tokensPerSecond, losses: [] },
    ...(shard && { shard }),
    memory: peaks.map((peak) => ({ inUse: 1, peak })),
  });
  const plots = plotsOfShared([rate(2, 190, [25e9, 26e9], 'data'), rate(1, 100, [45e9])]);
  expect(plots.map(({ name, points }) => [name, points])).toEqual([
    [
      'throughput',
      [
        { series: 'n times one GPU', x: 1, y: 100 },
        { series: 'n times one GPU', x: 2, y: 200 },
        { series: 'data', x: 1, y: 100 },
        { series: 'data', x: 2, y: 190 },
      ],
    ],
    [
      'memory',
      [
        { series: 'data', x: 1, y: 45e9 },
        { series: 'data', x: 2, y: 26e9 },
      ],
    ],
  ]);
  // There is no half GPU.
  const svg = await plotSvg(plots[0]!);
  expect(svg).toMatch(/>GPUs</);
  expect(svg).not.toMatch(/>1\.5</);
});
