/** Loaded models: logits of batches, and what is said of folders and tokens that do not fit together. */
import { mkdtempSync, readFileSync, renameSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { writeFolderAtomic } from '../checkpoint/index.js';
import { CheckpointError, ConfigError, DataError, DeviceError, TokenizerError } from '../errors.js';
import { relativeError } from '../graph/testing/arrays.js';
import { writeModel } from '../models/index.js';
import { Random } from '../nn/index.js';
import { Tokenizer, tokenizerFiles, trainBpe } from '../text/index.js';
import { loadModel } from './load-model.js';
import { device, type TinyModel, tinyModel, tokenizer } from './testing/tiny.js';

let tiny: TinyModel;
beforeAll(async () => {
  tiny = await tinyModel();
});

function randomIds(length: number, seed: number): number[] {
  const random = new Random(seed);
  return Array.from({ length }, () => random.below(300));
}

describe('logits', () => {
  test('of a batch are those of each sequence alone', async () => {
    // Longer than a chunk, so that rows of several chunks have to be put together.
    const rows = [1, 2, 3].map((seed) => randomIds(270, seed));
    const { data, dims } = await tiny.language.logits(rows);
    expect(dims).toEqual([3, 270, 300]);
    const size = 270 * 300;
    for (const [i, row] of rows.entries()) {
      const alone = await tiny.language.logits([row]);
      expect(alone.dims).toEqual([1, 270, 300]);
      expect(relativeError(data.subarray(i * size, (i + 1) * size), alone.data)).toBeLessThan(1e-5);
    }
  });

  test('depend on what came before and on nothing that comes after', async () => {
    const ids = randomIds(40, 1);
    const changed = ids.map((id, i) => (i === 20 ? (id + 1) % 300 : id));
    const [a, b] = [await tiny.language.logits([ids]), await tiny.language.logits([changed])];
    const before = 20 * 300;
    expect(relativeError(b.data.subarray(0, before), a.data.subarray(0, before))).toBeLessThan(1e-6);
    expect(relativeError(b.data.subarray(before), a.data.subarray(before))).toBeGreaterThan(1e-3);
  });

  test('of a batch of several lengths are those of each sequence alone, with zeros behind its end', async () => {
    // Shorter than a chunk, just a chunk, and one of several chunks: in the later ones only that one has tokens.
    const rows = [1, 256, 530, 40].map((length, i) => randomIds(length, 10 + i));
    const { data, dims } = await tiny.language.logits(rows);
    expect(dims).toEqual([4, 530, 300]);
    for (const [i, row] of rows.entries()) {
      const own = data.subarray(i * 530 * 300, (i + 1) * 530 * 300);
      const alone = await tiny.language.logits([row]);
      const end = row.length * 300;
      expect(relativeError(own.subarray(0, end), alone.data), `row ${i}`).toBeLessThan(1e-5);
      expect(own.subarray(end).every((value) => value === 0)).toBe(true);
    }
  });

  test('of nothing, and of what is no token are refused', async () => {
    for (const ids of [[], [[]], [[], []], [[1, 2], []]]) {
      await expect(tiny.language.logits(ids)).rejects.toThrow(DataError);
    }
    await expect(tiny.language.logits([[1], [300]])).rejects.toThrow(
      /token 300 is not one of the model's 300/,
    );
    await expect(tiny.language.logits([[-1]])).rejects.toThrow(DataError);
  });
});

test('parameters are counted', () => {
  const stored = [...tiny.weights.values()].reduce((n, { data }) => n + data.length, 0);
  expect(tiny.language.parameters).toBe(stored);
});

describe('loading', () => {
  let here: string;
  let folder: string;
  beforeEach(async () => {
    here = mkdtempSync(join(tmpdir(), 'heddle-load-'));
    folder = join(here, 'model');
    await writeFolderAtomic(folder, async (temporary) => {
      await writeModel(temporary, tiny.model, tiny.weights);
      await tokenizer.save(temporary);
    });
  });
  afterEach(() => rmSync(here, { recursive: true, force: true }));

  test('gives the same logits, bit for bit', async () => {
    const loaded = await loadModel(folder, { device });
    const ids = [randomIds(30, 2)];
    expect((await loaded.logits(ids)).data).toEqual((await tiny.language.logits(ids)).data);
    expect(loaded.model.json).toEqual(tiny.model.json);
    expect(loaded.tokenizer.encode('the cat')).toEqual(tokenizer.encode('the cat'));
  });

  test('opens a device of its own where none is given', async () => {
    const loaded = await loadModel(folder, { threads: 1 });
    expect((await loaded.logits([[1, 2]])).dims).toEqual([1, 2, 300]);
    const session = loaded.session();
    await session.read([1, 2]);
    await loaded.dispose();
    const gone = new DeviceError('the model was disposed of: load it again');
    await expect(session.read([3])).rejects.toThrow(gone);
    await expect(session.generate().next()).rejects.toThrow(gone);
    await expect(loaded.logits([[1, 2]])).rejects.toThrow(gone);
    await expect(loaded.embed('the cat')).rejects.toThrow(gone);
    await expect(loaded.trace([1, 2])).rejects.toThrow(gone);
    expect(() => loaded.session()).toThrow(gone);
  });

  test('puts back a folder that a crash left halfway through being replaced', async () => {
    renameSync(folder, join(here, '.model.heddle-previous'));
    expect((await loadModel(folder, { device })).model.json).toEqual(tiny.model.json);
  });

  test('a tokenizer with more tokens than the model', async () => {
    const larger = new Tokenizer(
      tokenizerFiles(trainBpe(['one two three four five six'], { vocabSize: 310, minFrequency: 1 })),
    );
    // As many as the text yields; the model has 300.
    const vocabSize = larger.vocabSize - 1;
    const smaller = await tinyModel({ vocabSize });
    await writeFolderAtomic(folder, async (temporary) => {
      await writeModel(temporary, smaller.model, smaller.weights);
      await larger.save(temporary);
    });
    const loading = loadModel(folder, { device });
    await expect(loading).rejects.toThrow(TokenizerError);
    await expect(loading).rejects.toThrow(
      new RegExp(`has ${larger.vocabSize} tokens, but its model has ${vocabSize}`),
    );
  });

  const missing: [string, new (...args: never[]) => Error][] = [
    ['config.json', CheckpointError],
    ['model.safetensors', CheckpointError],
    ['tokenizer.json', TokenizerError],
  ];
  for (const [file, type] of missing) {
    test(`without ${file}`, async () => {
      unlinkSync(join(folder, file));
      const loading = loadModel(folder, { device });
      await expect(loading).rejects.toThrow(type);
      await expect(loading).rejects.toThrow(file);
    });

    test(`with a ${file} that is cut off`, async () => {
      const path = join(folder, file);
      const whole = readFileSync(path);
      writeFileSync(path, whole.subarray(0, whole.length / 2));
      const loading = loadModel(folder, { device });
      await expect(loading).rejects.toThrow(file === 'config.json' ? ConfigError : type);
      await expect(loading).rejects.toThrow(path);
    });
  }
});
