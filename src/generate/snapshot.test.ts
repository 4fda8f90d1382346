/** Snapshots of sessions, in memory and in files: the same bits again, or a refusal in words. */
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
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openSafetensors, type TensorToWrite, writeSafetensors } from '../checkpoint/index.js';
import { damageBytes } from '../checkpoint/testing/file-damage.js';
import { DataError, SnapshotError, StorageError } from '../errors.js';
import { hybridModel, openModel, withLora } from '../models/index.js';
import { quantizable, quantizeMatrix } from '../models/quantization.js';
import { fixtureFolder } from '../models/testing/reference.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import { Random } from '../nn/index.js';
import { refusal } from '../testing/refusal.js';
import type { GenerateOptions } from './generation.js';
import { LanguageModel } from './language-model.js';
import type { Session } from './session.js';
import { loadSnapshot, type Snapshot } from './snapshot.js';
import { checksumOf } from './state-file.js';
import { device, type TinyModel, tinyModel, tokenizer } from './testing/tiny.js';

const folder = mkdtempSync(join(tmpdir(), 'heddle-snapshot-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'a.state');

let tiny: TinyModel;
let language: LanguageModel;
beforeAll(async () => {
  tiny = await tinyModel();
  language = tiny.language;
});

const PROMPT = Array.from({ length: 30 }, (_, i) => 1 + ((i * 37) % 299));
const wild: GenerateOptions = { temperature: 2, topP: 1, maxTokens: 12, seed: 4 };

async function written(session: Session, options = wild): Promise<number[]> {
  const ids: number[] = [];
  for await (const { id } of session.generate(options)) if (id !== undefined) ids.push(id);
  return ids;
}

async function sessionAfter(ids: readonly number[] = PROMPT, model = language): Promise<Session> {
  const session = model.session();
  await session.read(ids);
  return session;
}

function sessionAt(snapshot: Snapshot, model = language): Session {
  const session = model.session();
  session.restore(snapshot);
  return session;
}

/** All that a snapshot holds, to compare. */
async function contents(snapshot: Snapshot): Promise<unknown> {
  const { tokens, pending, logits } = snapshot;
  return { tokens, pending, logits, state: await snapshot.state.read() };
}

async function refusalText(attempt: Promise<unknown>): Promise<string> {
  const error = await refusal(attempt);
  expect(error).toBeInstanceOf(SnapshotError);
  expect((error as SnapshotError).code).toBe('snapshot');
  return error.message;
}

describe('a session', () => {
  test('goes back to where it stood, and writes the same again', async () => {
    const session = await sessionAfter();
    const snapshot = await session.snapshot();
    const first = await written(session);
    expect(await written(session)).not.toEqual(first);
    session.restore(snapshot);
    expect(session.tokens).toEqual(PROMPT);
    expect(await written(session)).toEqual(first);
    expect(snapshot.tokens).toEqual(PROMPT);
    expect([snapshot.length, snapshot.pending]).toEqual([30, 0]);
    expect(snapshot.logits).toHaveLength(300);
  });

  test('forked is two, and each goes its own way', async () => {
    const session = await sessionAfter();
    await written(session, { ...wild, maxTokens: 3 });
    const fork = await session.fork();
    expect(fork.tokens).toEqual(session.tokens);
    const [one, other] = await Promise.all([written(session), written(fork, { ...wild, seed: 5 })]);
    expect(one).not.toEqual(other);
    const again = await sessionAfter();
    await written(again, { ...wild, maxTokens: 3 });
    expect(await written(again)).toEqual(one);
    session.dispose();
    await fork.read([5]);
    expect(fork.tokens).toHaveLength(30 + 3 + other.length + 1);
  });

  test('that has read nothing can be kept as well', async () => {
    const snapshot = await language.session().snapshot();
    const session = await sessionAfter();
    session.restore(snapshot);
    expect(session.tokens).toEqual([]);
    await expect(written(session)).rejects.toThrow(DataError);
    await session.read(PROMPT);
    expect(await written(session)).toEqual(await written(await sessionAfter()));
    await snapshot.save(path);
    expect(await contents(await loadSnapshot(path, language))).toEqual(await contents(snapshot));
  });

  test('is saved with each value of its state read once, in the order in which they are written', async () => {
    const snapshot = await (await sessionAfter()).snapshot();
    const read = snapshot.state.read.bind(snapshot.state);
    const names: string[] = [];
    snapshot.state.read = (given) => {
      names.push(...given!);
      return read(given);
    };
    await snapshot.save(path);
    expect(names).toEqual(language.model.state.map(({ name }) => name).sort());
    const file = await openSafetensors(path);
    const { checksum, ...metadata } = file.metadata;
    const tensors: TensorToWrite[] = [];
    for (const name of file.tensors.keys()) tensors.push({ name, ...(await file.read(name)) });
    await file.close();
    expect(checksum).toBe(await checksumOf(tensors, metadata));
  });

  test('at work is not kept, forked or moved', async () => {
    const session = await sessionAfter();
    const snapshot = await session.snapshot();
    for await (const _ of session.generate(wild)) {
      await expect(session.snapshot()).rejects.toThrow(DataError);
      await expect(session.fork()).rejects.toThrow('the session is reading or writing');
      expect(() => session.restore(snapshot)).toThrow(DataError);
    }
  });

  test('takes up no state of another model', async () => {
    const other = (await tinyModel({}, { seed: 2 })).language;
    const snapshot = await (await sessionAfter(PROMPT, other)).snapshot();
    const session = await sessionAfter();
    expect(() => session.restore(snapshot)).toThrow(SnapshotError);
    expect(session.tokens).toEqual(PROMPT);
    await other.dispose();
  });

  test('takes up one of the same model, loaded twice', async () => {
    const twin = (await tinyModel()).language;
    const snapshot = await (await sessionAfter(PROMPT, twin)).snapshot();
    expect(await written(sessionAt(snapshot))).toEqual(await written(await sessionAfter()));
    await twin.dispose();
  });

  test('counts what its snapshots share once', async () => {
    const { language } = await tinyModel({ pattern: '*-' });
    const session = await sessionAfter(PROMPT, language);
    const one = await session.snapshot();
    await session.read(PROMPT);
    const two = await session.snapshot();
    const shared = [...one.holdings.keys()].filter((key) => two.holdings.has(key));
    expect(shared).toHaveLength(2);
    // Keys and values of two heads of four in their room, the logits and the tokens.
    expect(one.bytes).toBe(2 * 2 * 4 * 64 * 4 + 300 * 4 + 30 * 4);
    await language.dispose();
  });
});

describe('a file', () => {
  test.each([0, 1, 5, 9, 20])('gives back every bit after %d written tokens', async (count) => {
    const session = await sessionAfter();
    await written(session, { ...wild, maxTokens: count });
    const snapshot = await session.snapshot();
    await snapshot.save(path);
    // Saving changes nothing, and the session may go on meanwhile.
    const next = await written(session);
    const twin = (await tinyModel()).language;
    const loaded = await loadSnapshot(path, twin);
    expect(await contents(loaded)).toEqual(await contents(snapshot));
    expect(await written(sessionAt(loaded, twin))).toEqual(next);
    await twin.dispose();
  });

  test('is a safetensors file with the state by its names', async () => {
    const session = await sessionAfter();
    await (await session.snapshot()).save(path);
    const file = await openSafetensors(path);
    const names = language.model.state.map(({ name }) => name);
    expect([...file.tensors.keys()].sort()).toEqual([...names, 'logits', 'tokens'].sort());
    expect(Array.from((await file.read('tokens')).data, Number)).toEqual(PROMPT);
    expect(file.metadata).toMatchObject({
      format: 'heddle-state',
      version: '1',
      model: 'heddle',
      fingerprint: language.fingerprint.hash,
      quantization: 'none',
      position: '30',
    });
    await file.close();
    expect(readdirSync(folder)).toEqual(['a.state']);
    // The same state is the same file.
    const first = readFileSync(path);
    await (await (await sessionAfter()).snapshot()).save(path);
    expect(readFileSync(path).equals(first)).toBe(true);
  });

  test('that cannot be written leaves what was there', async () => {
    const snapshot = await (await sessionAfter()).snapshot();
    await expect(snapshot.save(join(folder, 'none', 'a.state'))).rejects.toThrow(StorageError);
    mkdirSync(join(folder, 'taken'));
    await expect(snapshot.save(join(folder, 'taken'))).rejects.toThrow(StorageError);
    await snapshot.save(path);
    const before = readFileSync(path);
    const failing = await (await sessionAfter([5])).snapshot();
    failing.dispose();
    await expect(failing.save(path)).rejects.toThrow('disposed');
    expect(readFileSync(path).equals(before)).toBe(true);
    expect(readdirSync(folder).sort()).toEqual(['a.state', 'taken']);
    rmSync(join(folder, 'taken'), { recursive: true });
  });
});

describe('a file is refused, with its path and the reason,', () => {
  let good: Buffer;
  let data: number;
  beforeAll(async () => {
    const session = await sessionAfter();
    await written(session, { ...wild, maxTokens: 20 });
    await session.read([9, 8]);
    await (await session.snapshot()).save(path);
    good = readFileSync(path);
    data = 8 + Number(good.readBigUInt64LE());
  });
  const load = (bytes: Uint8Array): Promise<Snapshot> => {
    writeFileSync(path, bytes);
    return loadSnapshot(path, language);
  };

  test('when it is of another model', async () => {
    writeFileSync(path, good);
    const { model } = tiny;
    const changed = async (of = model, weights = tinyWeights(of)): Promise<string> => {
      const other = await LanguageModel.compile(of, weights, tokenizer, device);
      const message = await refusalText(loadSnapshot(path, other));
      await other.dispose();
      return message;
    };
    expect(await changed(model, tinyWeights(model, 2))).toContain(
      `${path} is the state of another heddle model`,
    );
    expect(await changed(hybridModel(tinyConfig({ normEpsilon: 1e-6 })))).toContain('another heddle model');
    expect(await changed(hybridModel(tinyConfig({ pattern: 'M-' })))).toContain('another heddle model');
    expect(await changed(withLora(model, { rank: 1, alpha: 1 }))).toContain('another heddle model');
    const { model: llama, weights } = await openModel(fixtureFolder('hf', 'llama'));
    const foreign = await LanguageModel.compile(llama, weights, tokenizer, device);
    expect(await refusalText(loadSnapshot(path, foreign))).toContain(
      `${path} is the state of a heddle model, and this one is a llama`,
    );
    await foreign.dispose();
  });

  test('when the weights were quantized otherwise', async () => {
    const model = hybridModel(tinyConfig({ hiddenSize: 64 }));
    const weights = tinyWeights(model);
    const plain = await LanguageModel.compile(model, weights, tokenizer, device);
    await (await (await sessionAfter(PROMPT, plain)).snapshot()).save(path);
    const quantization = { bits: 8, block: 64 } as const;
    const chosen = quantizable(model, quantization);
    const quantized = new Map(
      [...weights].map(([name, weight]) => [
        name,
        chosen.has(name) ? quantizeMatrix(name, weight, quantization) : weight,
      ]),
    );
    const small = await LanguageModel.compile(model, quantized, tokenizer, device);
    expect(await refusalText(loadSnapshot(path, small))).toContain(
      `${path} was saved with weights of the quantization 'none', and this model has '8 bits in blocks of 64'`,
    );
    await (await (await sessionAfter(PROMPT, small)).snapshot()).save(path);
    expect(await refusalText(loadSnapshot(path, plain))).toContain("'8 bits in blocks of 64'");
    expect((await loadSnapshot(path, small)).tokens).toEqual(PROMPT);
    await plain.dispose();
    await small.dispose();
  });

  test('when it is none', async () => {
    for (const [name, reason] of [
      ['missing', 'does not exist'],
      ['.', 'is not a file'],
    ] as const) {
      const wrong = join(folder, name);
      expect(await refusalText(loadSnapshot(wrong, language))).toContain(`${wrong} ${reason}`);
    }
    const weights = join(fixtureFolder('hf', 'llama'), 'model.safetensors');
    expect(await refusalText(loadSnapshot(weights, language))).toContain(`${weights} is no saved state`);
    expect(await refusalText(load(Buffer.from('{}')))).toContain(path);
    expect(await refusalText(load(new Uint8Array()))).toContain(path);
  });

  test('when a later version wrote it', async () => {
    const later = Buffer.from(good.toString('latin1').replace('"version":"1"', '"version":"2"'), 'latin1');
    expect(await refusalText(load(later))).toContain(
      `${path} is a state in the format 2, and this version of Heddle reads 1`,
    );
  });

  test('when it ends early, or is longer than it was', async () => {
    const cuts = Array.from({ length: 40 }, (_, i) => Math.floor((i * good.length) / 40));
    for (const length of [...cuts, 7, 8, 9, data - 1, data, data + 1, good.length - 1]) {
      expect(await refusalText(load(good.subarray(0, length)))).toContain(path);
    }
    expect(await refusalText(load(Buffer.concat([good, Buffer.alloc(1)])))).toContain(path);
  });

  test('when a bit is flipped, wherever it is', async () => {
    // Of the header every byte, of the tensors one in each stretch of 97.
    const places = Array.from({ length: data }, (_, i) => i);
    for (let at = data; at < good.length; at += 97) places.push(at);
    for (const at of places) {
      const bytes = Buffer.from(good);
      bytes[at]! ^= 1 << (at % 8);
      await refusalText(load(bytes));
    }
    expect((await load(good)).length).toBe(52);
  });

  test('when it is damaged in ways that know the format', async () => {
    const random = new Random(11);
    for (let i = 0; i < 100; i++) {
      const bytes = damageBytes(random, Buffer.from(good));
      if (bytes.equals(good)) continue;
      expect(await refusalText(load(bytes))).toContain(path);
    }
  });

  test('when it contradicts itself, though it is whole', async () => {
    writeFileSync(path, good);
    const file = await openSafetensors(path);
    const { checksum: _, ...metadata } = file.metadata;
    const tensors: TensorToWrite[] = [];
    for (const name of file.tensors.keys()) tensors.push({ name, ...(await file.read(name)) });
    await file.close();
    const without = (name: string): TensorToWrite[] => tensors.filter((tensor) => tensor.name !== name);
    const zeros = (name: string, size: number): TensorToWrite => {
      return { name, dtype: 'F32', shape: [size], data: new Float32Array(size) };
    };
    const ssm = 'layers.0.mixer.ssm';
    for (const [given, said, reason] of [
      [without('tokens'), {}, 'does not say which tokens were read'],
      [[...without('tokens'), zeros('tokens', 52)], {}, 'does not say which tokens were read'],
      [tensors, { position: 'x' }, 'does not say which tokens were read'],
      [tensors, { position: '-1' }, 'has 52 tokens, of which -1 were read'],
      [tensors, { position: '53' }, 'has 52 tokens, of which 53 were read'],
      [tensors, { position: '51' }, "has 'layers.2.mixer.key' as float32[1,2,52,4], and the model needs"],
      [without('logits'), {}, 'has not the logits that belong to its tokens'],
      [[...without('logits'), zeros('logits', 3)], {}, 'has not the logits'],
      [without(ssm), {}, `has no '${ssm}', and the model needs float32[`],
      [[...without(ssm), zeros(ssm, 3)], {}, `has '${ssm}' as float32[3], and the model needs float32[`],
      [
        [...tensors, { name: 'x', dtype: 'I16', shape: [1], data: new Int16Array(1) }],
        {},
        'the tensor x is I16',
      ],
    ] as const) {
      const all = { ...metadata, ...said };
      await writeSafetensors(path, given, { ...all, checksum: await checksumOf(given, all) });
      const message = await refusalText(loadSnapshot(path, language));
      expect(message).toContain(path);
      expect(message).toContain(reason);
    }
  });
});

test('nothing is left behind', () => {
  expect(existsSync(path)).toBe(true);
  expect(readdirSync(folder)).toEqual(['a.state']);
});
