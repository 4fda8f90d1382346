/**
 * Sources: what a session says behind a text, an image or a sound is what training sees at once; it forks, is saved, and is gone on
 * from; gradients reach all of the source's layers; what cannot be read is refused.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type Device, openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { ConfigError, DataError } from '../errors.js';
import { input, mean, multiply } from '../graph/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import type { AttributionOf, Values } from '../inspect/index.js';
import { parseConfig } from '../models/config.js';
import {
  forwardAfter,
  hybridModel,
  logitsOf,
  type Model,
  modalityInputs,
  type SourceGiven,
  sourceConfigOf,
  sourceValues,
} from '../models/index.js';
import { checkSlopes } from '../models/testing/gradients.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import { ParameterRegistry, Random } from '../nn/index.js';
import { tinyTokenizer } from '../text/testing/tiny.js';
import { LanguageModel } from './language-model.js';
import { loadSnapshot } from './snapshot.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-source-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));
const cpu = await openDevice('cpu', { threads: 1 });
const wasm = await openDevice('wasm', { threads: 1 });

const random = new Random(2);
const image = {
  height: 4,
  width: 6,
  channels: 1 as const,
  pixels: Uint8Array.from({ length: 24 }, () => random.below(256)),
};
const sound = { rate: 1000, samples: Float32Array.from({ length: 50 }, () => random.normal() / 4) };
const SOUND = { kind: 'sounds', rate: 1000, frame: 16, hop: 8, features: 'log-mel', mels: 4, length: 8 };

function reading(pattern: string, source: object): Model {
  const { source: _, ...json } = tinyConfig({ pattern, ropeTheta: 10 });
  return hybridModel({ ...json, source } as ReturnType<typeof tinyConfig>);
}

const CASES: [string, Model, SourceGiven][] = [
  ['a text, attended over', reading('*X-M-', { kind: 'texts', length: 9, pattern: '(<*>-)x2' }), 'the sea'],
  [
    'an image before the text',
    reading('M-*-', { kind: 'images', height: 4, width: 6, channels: 1, patch: 2 }),
    image,
  ],
  ['a sound before the text', reading('S-W-', { ...SOUND, pattern: '<M>' }), sound],
  ['a sound, attended over', reading('GX', SOUND), sound],
];

/** What the text is read on as. */
const ids = [0, 7, 41, 7, 299, 12];

/** Logits [ids, vocabulary], of the whole at once. */
async function whole(model: Model, given: SourceGiven, device: Device): Promise<Float32Array> {
  const registry = new ParameterRegistry();
  const inputs = modalityInputs(model.source!.modality);
  const { hidden } = forwardAfter(model, registry, inputs, input('ids', 'int64', ['batch', ids.length]));
  const executable = await device.compile(
    withInputs({ outputs: { logits: logitsOf(model, registry, hidden) }, weights: tinyWeights(model) }),
  );
  const values = sourceValues(sourceConfigOf(model), given, tinyTokenizer);
  const fed = model.source!.modality.inputs.map(({ name, dtype, shape }) => [
    name,
    { dtype, dims: [1, ...shape.map(Number)], data: values[name]! },
  ]);
  const text = { dtype: 'int64' as const, dims: [1, ids.length], data: BigInt64Array.from(ids, BigInt) };
  const { logits } = await executable.run({ ...Object.fromEntries(fed), ids: text });
  await executable.dispose();
  return logits!.data as Float32Array;
}

describe.each(CASES)('%s', (name, model, given) => {
  test('a session says what training sees, on both devices', async () => {
    const expected = await whole(model, given, cpu);
    const last = expected.slice(-model.vocabSize);
    for (const device of [cpu, wasm]) {
      const language = await LanguageModel.compile(model, tinyWeights(model), tinyTokenizer, device);
      const session = language.session();
      await session.readSource(given);
      await session.read(ids.slice(1, 3));
      const path = join(here, `${name} ${device.name}.state`);
      await (await session.snapshot()).save(path);
      const other = language.session();
      other.restore(await loadSnapshot(path, language));
      const fork = await session.fork();
      for (const each of [session, other, fork]) {
        for (const id of ids.slice(3)) await each.read([id]);
        expect(relativeError((await each.snapshot()).logits!, last)).toBeLessThan(2e-5);
      }
      // Another source is another text.
      const without = language.session();
      await without.read(ids);
      expect(relativeError((await without.snapshot()).logits!, last)).toBeGreaterThan(1e-3);
      await language.dispose();
    }
  });

  test('a trace tells what is said behind it, and which of its places that comes from', async () => {
    const language = await LanguageModel.compile(model, tinyWeights(model), tinyTokenizer, cpu);
    const logits = await whole(model, given, cpu);
    const trace = await language.trace(ids, { source: given, attribute: [ids.length - 1] });
    const logProbabilities = ids.slice(1).map((id, i) => {
      const row = logits.subarray(i * model.vocabSize, (i + 1) * model.vocabSize);
      return row[id]! - Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
    });
    const told = trace.tokens.slice(1).map(({ logProbability }) => logProbability!);
    expect(relativeError(told, logProbabilities)).toBeLessThan(2e-5);
    for (const { mixers } of trace.layers) {
      for (const { weights, write, selection } of mixers) {
        expect(weights!.dims.slice(1)).toEqual([ids.length, ids.length]);
        if (write) expect(write.dims[1]).toBe(ids.length);
        if (selection) expect(selection.seenUntil.data.every((place, i) => place > i)).toBe(true);
      }
    }
    const [{ logProbability, scores, sourceScores }] = trace.attributions as [AttributionOf<Values>];
    expect(Math.abs(logProbability - logProbabilities.at(-1)!)).toBeLessThan(1e-4);
    expect(scores.dims).toEqual([ids.length - 1]);
    expect(sourceScores!.dims).toEqual([trace.source!.places.length]);
    expect(new Set(sourceScores!.data).size).toBeGreaterThan(1);
    await expect(language.trace(ids)).rejects.toThrow(/before it writes: say what, as `source`/);
    await language.dispose();
  });
});

test('gradients reach the encoder and what attends over it', async () => {
  const model = reading('*X', { kind: 'texts', length: 5, pattern: '<*>' });
  const registry = new ParameterRegistry();
  const inputs = { source: input('source', 'int64', [2, 5]) };
  const { hidden } = forwardAfter(model, registry, inputs, input('ids', 'int64', [2, 3]));
  const logits = logitsOf(model, registry, hidden);
  const names = ['input.positions', 'encoder.layers.0.mixer.v_proj.weight', 'encoder.norm_f.weight'].concat(
    ['q_proj', 'k_proj', 'v_proj'].map((name) => `backbone.layers.1.mixer.${name}.weight`),
    'backbone.embeddings.weight',
  );
  const of = Object.fromEntries(names.map((name) => [name, registry.tensors.get(name)!]));
  const ints = (values: readonly number[], dims: number[]) => ({
    ...{ dtype: 'int64' as const, dims },
    data: BigInt64Array.from(values, BigInt),
  });
  await checkSlopes(cpu, mean(multiply(logits, logits)), of, {
    ...Object.fromEntries(tinyWeights(model)),
    // Behind the shorter source stand ends of text.
    source: ints([4, 8, 3, 0, 0, 9, 1, 2, 3, 4], [2, 5]),
    ids: ints([0, 5, 6, 0, 7, 7], [2, 3]),
  });
});

test.each<[string, object, RegExp]>([
  ['X-', {}, /has 'X', which attends over a source: the config has none/],
  ['X-', { source: { kind: 'texts', length: 4, pattern: 'X' } }, /'X' of the source has 'X'/],
  ['*-', { source: { kind: 'films', length: 4 } }, /source/],
  ['*-', { source: { kind: 'texts', length: 4, pattern: '<M' } }, /'<' without a letter/],
  ['*-', { source: { kind: 'texts', length: 4 }, eos_token_id: undefined }, /give eos_token_id/],
  ['*-', { source: { ...SOUND, hop: 20 } }, /hop \(20\) must not be more than frame/],
])('%s %j cannot be', (pattern, change, message) => {
  const json = Object.fromEntries(
    Object.entries({
      ...reading('M-', { kind: 'texts', length: 2 }).json,
      source: undefined,
      pattern,
      ...change,
    }).filter(([, value]) => value !== undefined),
  );
  expect(() => hybridModel(parseConfig(json, 'x'))).toThrow(ConfigError);
  expect(() => hybridModel(parseConfig(json, 'x'))).toThrow(message);
});

test('what cannot be read is refused, and the session stays as it was', async () => {
  const [, model] = CASES[0]!;
  const language = await LanguageModel.compile(model, tinyWeights(model), tinyTokenizer, cpu);
  const session = language.session();
  await expect(session.readSource(image)).rejects.toThrow(/the model reads texts, and this is a picture/);
  await expect(session.readSource('')).rejects.toThrow(/the source is empty/);
  await expect(session.readSource('the sea and the sky and all the ships')).rejects.toThrow(
    /a source has \d+ tokens, and the model reads 9 at most/,
  );
  expect(session.tokens).toEqual([]);
  await session.readSource('the sea');
  await expect(session.readSource('the sea')).rejects.toThrow(DataError);
  await language.dispose();
  const plain = hybridModel(tinyConfig());
  const other = await LanguageModel.compile(plain, tinyWeights(plain), tinyTokenizer, cpu);
  await expect(other.session().readSource('a')).rejects.toThrow(/this model reads no source/);
  await other.dispose();
});
