/** A model's folder: written and read back bit for bit, and every way in which it can be damaged is told. */
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openSafetensors, writeSafetensors } from '../checkpoint/index.js';
import { float32, type HostTensor } from '../engine/index.js';
import { CheckpointError, ConfigError, StorageError } from '../errors.js';
import { refusal } from '../testing/refusal.js';
import { readModel, readWeights } from './folder.js';
import { hybridModel } from './hybrid.js';
import { countParameters, parametersOf } from './model.js';
import { CONFIG_FILE, WEIGHTS_FILE } from './names.js';
import { tinyConfig, tinyWeights } from './testing/tiny.js';
import { writeModel } from './write-folder.js';

const model = hybridModel(tinyConfig());

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'heddle-model-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('tensors that do not decide what the model writes are passed over', async () => {
  const others = [
    'mtp.layers.0.norm.weight',
    'score.weight',
    'vision_tower.patch.bias',
    'backbone.layers.0.rotary_emb.inv_freq',
  ];
  const tensors = [...tinyWeights(model), ...others.map((name) => [name, float32([1], [1])] as const)];
  await writeSafetensors(
    join(folder, WEIGHTS_FILE),
    tensors.map(([name, { dims, data }]) => ({
      name,
      dtype: 'F32' as const,
      shape: dims,
      data: data as Float32Array,
    })),
  );
  const read = await readWeights(folder, model);
  expect([...read.keys()].sort()).toEqual([...tinyWeights(model).keys()].sort());
});

describe('there and back', () => {
  test('float32 weights and the config are bit for bit the same', async () => {
    const weights = tinyWeights(model);
    const odd = weights.get('backbone.norm_f.weight')!.data as Float32Array;
    odd.set([-0, 1e-45, Number.POSITIVE_INFINITY, Number.NaN, 3.4e38]);
    await writeModel(folder, model, weights);
    const found = await readModel(folder);
    expect(found.json).toEqual(model.json);
    expect(found.state).toEqual(model.state);
    const read = await readWeights(folder, found);
    expect([...read.keys()].sort()).toEqual([...weights.keys()].sort());
    for (const [name, { dims, data }] of weights) {
      expect(read.get(name)!.dims).toEqual(dims);
      const bits = (values: HostTensor['data']) =>
        new Uint32Array(values.buffer, values.byteOffset, values.length);
      expect(bits(read.get(name)!.data), name).toEqual(bits(data));
    }
  });

  test('the same weights give the same bytes', async () => {
    await writeModel(folder, model, tinyWeights(model));
    const first = readFileSync(join(folder, WEIGHTS_FILE));
    await writeModel(folder, model, new Map([...tinyWeights(model)].reverse()));
    expect(readFileSync(join(folder, WEIGHTS_FILE)).equals(first)).toBe(true);
  });

  for (const dtype of ['F16', 'BF16'] as const) {
    test(`${dtype} weights lose what ${dtype} does not hold, and no more`, async () => {
      const weights = tinyWeights(model);
      await writeModel(folder, model, weights, dtype);
      const file = await openSafetensors(join(folder, WEIGHTS_FILE));
      for (const info of file.tensors.values()) expect(info.dtype).toBe(dtype);
      await file.close();
      const read = await readWeights(folder, model);
      for (const [name, { data }] of weights) {
        for (const [i, value] of (data as Float32Array).entries()) {
          const allowed = Math.abs(value) * (dtype === 'F16' ? 2 ** -11 : 2 ** -8);
          expect(Math.abs((read.get(name)!.data[i] as number) - value)).toBeLessThanOrEqual(allowed);
        }
      }
      // What was rounded once stays.
      await writeModel(folder, model, read, dtype);
      expect(await readWeights(folder, model)).toEqual(read);
    });
  }

  test('the number of parameters is the number of elements in the file', async () => {
    await writeModel(folder, model, tinyWeights(model));
    const file = await openSafetensors(join(folder, WEIGHTS_FILE));
    const stored = [...file.tensors.values()].reduce(
      (n, { shape }) => n + shape.reduce((a, b) => a * b, 1),
      0,
    );
    await file.close();
    expect(countParameters(parametersOf(model))).toBe(stored);
  });

  test('a folder that is not there', async () => {
    const error = await refusal(writeModel(join(folder, 'none'), model, tinyWeights(model)));
    expect(error).toBeInstanceOf(StorageError);
  });
});

describe('what is wrong with a config', () => {
  test('no folder, a file, or a folder without a config.json', async () => {
    writeFileSync(join(folder, 'file'), '');
    const cases: [string, string][] = [
      [join(folder, 'none'), 'there is no such folder'],
      ['', "'' is not a model: there is no such folder"],
      [join(folder, 'file'), 'a file, not a model'],
      [folder, CONFIG_FILE],
    ];
    for (const [path, reason] of cases) {
      const error = await refusal(readModel(path));
      expect(error).toBeInstanceOf(CheckpointError);
      expect(error.message).toContain(path);
      expect(error.message).toContain(reason);
    }
  });

  test('one that is a folder', async () => {
    mkdirSync(join(folder, CONFIG_FILE));
    expect(await refusal(readModel(folder))).toBeInstanceOf(CheckpointError);
  });

  test('one that is cut off', async () => {
    await writeModel(folder, model, tinyWeights(model));
    const path = join(folder, CONFIG_FILE);
    writeFileSync(path, readFileSync(path, 'utf8').slice(0, 100));
    const error = await refusal(readModel(folder));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain(path);
  });
});

describe('what is wrong with weights', () => {
  /** Writes the weights with a change, and returns what reading them says. */
  async function readingAfter(change: (weights: Map<string, HostTensor>) => void): Promise<Error> {
    const weights = tinyWeights(model);
    change(weights);
    await writeTensors(weights);
    return refusal(readWeights(folder, model));
  }

  async function writeTensors(weights: ReadonlyMap<string, HostTensor>): Promise<void> {
    const tensors = [...weights].map(([key, { dims, data }]) => {
      return { name: key, dtype: 'F32' as const, shape: dims, data: data as Float32Array };
    });
    await writeSafetensors(join(folder, WEIGHTS_FILE), tensors);
  }

  const name = 'backbone.layers.0.mixer.in_proj.weight';

  test('a tensor that is missing', async () => {
    const error = await readingAfter((weights) => weights.delete(name));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(/lacks the tensor backbone\.layers\.0\.mixer\.in_proj\.weight/);
    expect(error.message).toContain(join(folder, WEIGHTS_FILE));
  });

  test.each(['backbone.layers.0.mixer.in_proj.bias', 'backbone.layers.9.norm.weight', 'lm_head.bias'])(
    'one too many that the model would compute with: %s',
    async (surplus) => {
      const error = await readingAfter((weights) => weights.set(surplus, float32([1], [1])));
      expect(error).toBeInstanceOf(CheckpointError);
      expect(error.message).toContain(`has the tensor ${surplus}, which`);
    },
  );

  test('a tensor of another shape', async () => {
    const error = await readingAfter((weights) => {
      const { data, dims } = weights.get(name)!;
      weights.set(name, { dtype: 'float32', data, dims: [...dims].reverse() });
    });
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(/in_proj\.weight is \[16,\d+\], but .* makes it \[\d+,16\]/);
  });

  test('a tensor of integers', async () => {
    const tensors = [...tinyWeights(model)].map(([key, { dims, data }]) =>
      key === name
        ? { name: key, dtype: 'I32' as const, shape: dims, data: new Int32Array(data.length) }
        : { name: key, dtype: 'F32' as const, shape: dims, data: data as Float32Array },
    );
    await writeSafetensors(join(folder, WEIGHTS_FILE), tensors);
    const error = await refusal(readWeights(folder, model));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(/in_proj\.weight.*I32/);
  });

  test('a file that is missing, empty, cut off anywhere, or longer than it says', async () => {
    const path = join(folder, WEIGHTS_FILE);
    expect(await refusal(readWeights(folder, model))).toBeInstanceOf(CheckpointError);
    await writeModel(folder, model, tinyWeights(model));
    const whole = readFileSync(path);
    for (const length of [0, 4, 8, 100, whole.length - 4, whole.length - 1]) {
      writeFileSync(path, whole.subarray(0, length));
      const error = await refusal(readWeights(folder, model));
      expect(error, `${length} bytes`).toBeInstanceOf(CheckpointError);
      expect(error.message).toContain(path);
    }
    writeFileSync(path, Buffer.concat([whole, Buffer.alloc(4)]));
    expect(await refusal(readWeights(folder, model))).toBeInstanceOf(CheckpointError);
  });

  test('a shard, or a tensor of a shard, that the index promises', async () => {
    const index = { weight_map: { [name]: 'model-00002-of-00002.safetensors' } };
    const weights = tinyWeights(model);
    for (const key of weights.keys()) {
      if (key !== name) Object.assign(index.weight_map, { [key]: 'model-00001-of-00002.safetensors' });
    }
    weights.delete(name);
    await writeTensors(weights);
    renameSync(join(folder, WEIGHTS_FILE), join(folder, 'model-00001-of-00002.safetensors'));
    writeFileSync(join(folder, `${WEIGHTS_FILE}.index.json`), JSON.stringify(index));
    const error = await refusal(readWeights(folder, model));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(/model-00002-of-00002\.safetensors is missing: .*in_proj\.weight" into it/);
  });

  test('weights of another design', async () => {
    const other = hybridModel(tinyConfig({ pattern: '*-*-' }));
    await writeTensors(tinyWeights(other));
    expect(await refusal(readWeights(folder, model))).toBeInstanceOf(CheckpointError);
  });
});
