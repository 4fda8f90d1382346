/**
 * Every letter of a pattern, and every way of joining layers, supports all that a model does: training, generation that equals reading on each
 * device, saved snapshots, quantization, and inspection.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openDevice } from '../src/engine/index.js';
import { LanguageModel, loadSnapshot } from '../src/generate/index.js';
import { relativeError } from '../src/graph/testing/arrays.js';
import {
  BLOCKS,
  hybridModel,
  LAYER_NAMES,
  type ModelConfigInput,
  openModel,
  quantizeWeights,
  writeModel,
} from '../src/models/index.js';
import { reader } from '../src/models/testing/reader.js';
import { tinyConfig, tinyWeights } from '../src/models/testing/tiny.js';
import { tinyTokenizer } from '../src/text/testing/tiny.js';
import { metrics, tinyInput } from '../src/train/testing/runs.js';
import { train } from '../src/train/trainer.js';

const folder = mkdtempSync(join(tmpdir(), 'heddle-layers-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const cpu = await openDevice('cpu', { threads: 1 });
const wasm = await openDevice('wasm', { threads: 2 });

const ids = Array.from({ length: 21 }, (_, i) => (i * 37 + 5) % 300);

const withMixer: Readonly<Record<string, string>> = { '-': 'M-', E: 'ME' };

/** What a pattern is, and its first mixer: every letter as it is without keys of its own and in its other forms, and designs. */
const cases: [string, string, Partial<ModelConfigInput>][] = [
  ...Object.entries(BLOCKS).map(([letter, name]): [string, string, object] =>
    letter in withMixer ? [withMixer[letter]!, LAYER_NAMES.M, {}] : [`${letter}-`, name, {}],
  ),
  ['S-', 'selective attention', { attentionScore: 'convolution' }],
  ['S-', 'selective attention', { attentionScore: 'convolution', attentionScoresWindow: true }],
  ['(MMM*)x1-', 'Mamba-2', {}],
  ['[M*]-', 'Mamba-2', {}],
  ['[GSC]E', 'gated delta net', {}],
  ['(M{*-})x2', 'Mamba-2', {}],
  ['({A})x3', 'latent attention', {}],
  ['(*-)x2(M-)x2', 'attention', {}],
  ['M-M-S-', 'Mamba-2', {}],
  ['ME*E', 'Mamba-2', { numExperts: 4, moeIntermediateSize: 8 }],
  ['K-', 'Kimi delta attention', { kdaLowerBound: -5, negativeEigenvalues: true }],
  ['D-', 'delta product', { deltaSteps: 3 }],
  ['N-', 'Mamba-3', { mamba3MimoRank: 2, mamba3RopeFraction: 1 }],
  ['I-', 'time-invariant state space', { ltiMatrix: 'full', ltiDiscretization: 'bilinear' }],
  ['I-', 'time-invariant state space', { ltiMatrix: 'block-tridiagonal', ltiBlockSize: 2 }],
];

describe.each(cases)('%s, %s first, %j', (pattern, name, change) => {
  const model = hybridModel(tinyConfig({ pattern, hiddenSize: 32, mambaHeadDim: 16, ...change }));
  const here = mkdtempSync(join(folder, 'case-'));

  test('learns a short text', async () => {
    const run = join(here, 'run');
    await train(tinyInput(run, { model, settings: { steps: 24, evaluateEvery: 24, saveEvery: 24 } }));
    const [before, after] = metrics(run).flatMap((event) => (event.event === 'evaluation' ? [event] : []));
    expect(after!.loss).toBeLessThan(before!.loss - 1);
  });

  test('generates as it reads, on both devices', async () => {
    const weights = tinyWeights(model);
    const runs = await Promise.all([cpu, wasm].map((device) => reader(device, model, weights)));
    const [whole, ...others] = [
      await runs[0]!.inPieces([ids], [ids.length]),
      await runs[0]!.inPieces([ids], [1]),
      await runs[1]!.inPieces([ids], [ids.length]),
      await runs[1]!.inPieces([ids], [1, 4]),
    ];
    for (const other of others) expect(relativeError(other, whole!)).toBeLessThan(2e-5);
    for (const run of runs) await run.dispose();
  });

  test('is restored from a saved snapshot', async () => {
    const language = await LanguageModel.compile(model, tinyWeights(model), tinyTokenizer, cpu);
    const session = language.session();
    await session.read(ids);
    const path = join(here, 'a.state');
    await (await session.snapshot()).save(path);
    const other = language.session();
    other.restore(await loadSnapshot(path, language));
    for (const one of [session, other]) await one.read([7, 8]);
    expect((await other.snapshot()).logits).toEqual((await session.snapshot()).logits);
    await language.dispose();
  });

  test('is quantized', async () => {
    const at = join(here, 'whole');
    mkdirSync(at);
    await writeModel(at, model, tinyWeights(model));
    const { weights } = await openModel(at);
    const runs = [
      await reader(cpu, model, weights),
      await reader(cpu, model, await quantizeWeights(at, model, { bits: 8, block: 32 })),
    ];
    const [exact, coarse] = [
      await runs[0]!.inPieces([ids], [ids.length]),
      await runs[1]!.inPieces([ids], [ids.length]),
    ];
    const error = relativeError(coarse, exact);
    expect(error).toBeGreaterThan(0);
    // A router may choose other experts, or select other queries.
    expect(error).toBeLessThan(/[EQ]/.test(pattern) ? 0.5 : 0.1);
    for (const run of runs) await run.dispose();
  });

  test('can be inspected', async () => {
    const language = await LanguageModel.compile(model, tinyWeights(model), tinyTokenizer, cpu);
    const trace = await language.trace(ids);
    const mixer = trace.layers[0]!.mixers[0]!;
    expect(mixer.name).toBe(name);
    expect(mixer.weights!.dims).toEqual([mixer.heads.length, ids.length, ids.length]);
    expect(Math.hypot(...mixer.weights!.data)).toBeGreaterThan(0);
    await language.dispose();
  });
});
