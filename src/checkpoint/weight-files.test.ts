import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CheckpointError } from '../errors.js';
import { type TensorToWrite, writeSafetensors } from './safetensors.js';
import { openWeights, type WeightFiles } from './weight-files.js';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const FIRST = 'model-00001-of-00002.safetensors';
const SECOND = 'model-00002-of-00002.safetensors';

let here: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-weights-'));
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

const f32 = (name: string, ...values: number[]): TensorToWrite => ({
  name,
  dtype: 'F32',
  shape: [values.length],
  data: Float32Array.from(values),
});

const q = f32('q', 1, 2);
const k: TensorToWrite = { name: 'k', dtype: 'BF16', shape: [1, 2], data: Float32Array.of(3, 4) };
const v = f32('v', 5);
const ids: TensorToWrite = { name: 'ids', dtype: 'I64', shape: [1], data: BigInt64Array.of(9n) };

/** Writes a file in the folder; returns its path. */
async function written(name: string, ...tensors: TensorToWrite[]): Promise<string> {
  const path = join(here, name);
  await writeSafetensors(path, tensors);
  return path;
}

function writeIndex(index: unknown): void {
  writeFileSync(join(here, INDEX), typeof index === 'string' ? index : JSON.stringify(index));
}

const weightMap = { q: FIRST, ids: FIRST, k: SECOND, v: SECOND };

/** Writes two complete shards and their index. */
async function writeSharded(): Promise<void> {
  await written(FIRST, q, ids);
  await written(SECOND, k, v);
  writeIndex({ metadata: { total_size: 1 }, weight_map: weightMap });
}

async function opened<T>(use: (weights: WeightFiles) => Promise<T>): Promise<T> {
  const weights = await openWeights(here);
  try {
    return await use(weights);
  } finally {
    await weights.close();
  }
}

/** Expects that opening fails with this message, which names each of `named`. */
async function expectRefused(message: RegExp, ...named: string[]): Promise<void> {
  const failure = await openWeights(here).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(CheckpointError);
  expect((failure as Error).message).toMatch(message);
  for (const name of named) expect((failure as Error).message).toContain(name);
}

describe('reads', () => {
  test('a single file', async () => {
    const path = await written(SINGLE, q, k, v, ids);
    await opened(async (weights) => {
      expect(weights.path).toBe(path);
      expect([...weights.tensors.keys()].sort()).toEqual(['ids', 'k', 'q', 'v']);
      expect(weights.tensors.get('k')).toMatchObject({ dtype: 'BF16', shape: [1, 2], byteLength: 4, path });
      expect(await weights.readFloat32('k')).toEqual(Float32Array.of(3, 4));
      expect(await weights.read('ids')).toEqual({ dtype: 'I64', shape: [1], data: BigInt64Array.of(9n) });
    });
  });

  test('shards, whatever total size their index has', async () => {
    await writeSharded();
    await opened(async (weights) => {
      expect(weights.path).toBe(join(here, INDEX));
      const places = [...weights.tensors].map(([name, { path }]) => [name, path]);
      const expected = Object.entries(weightMap).map(([name, shard]) => [name, join(here, shard)]);
      expect(places.sort()).toEqual(expected.sort());
      expect(await weights.readFloat32('q')).toEqual(Float32Array.of(1, 2));
      expect(await weights.readFloat32('k')).toEqual(Float32Array.of(3, 4));
      expect(await weights.read('v')).toEqual({ dtype: 'F32', shape: [1], data: Float32Array.of(5) });
      expect((await weights.read('ids')).data).toEqual(BigInt64Array.of(9n));
    });
  });

  test('several tensors of several shards into one array', async () => {
    await writeSharded();
    await opened(async (weights) => {
      const all = new Float32Array(5);
      await Promise.all([
        weights.readFloat32Into('q', all.subarray(0, 2)),
        weights.readFloat32Into('k', all.subarray(2, 4)),
        weights.readFloat32Into('v', all.subarray(4)),
      ]);
      expect(all).toEqual(Float32Array.of(1, 2, 3, 4, 5));
    });
  });

  test('the single file if there are shards too', async () => {
    await writeSharded();
    const path = await written(SINGLE, f32('q', 7));
    await opened(async (weights) => {
      expect([...weights.tensors.keys()]).toEqual(['q']);
      expect(weights.tensors.get('q')!.path).toBe(path);
    });
    truncateSync(path, 20);
    await expectRefused(/ends inside its header/, path);
  });

  test('a single shard with an index, beside other files and without metadata', async () => {
    await written('weights.safetensors', q);
    writeFileSync(join(here, 'pytorch_model.bin'), '');
    writeFileSync(join(here, 'stray.safetensors'), '');
    writeIndex(` {\n "weight_map": {"q": "weights.safetensors"}}\n`);
    await opened(async (weights) => expect(await weights.readFloat32('q')).toEqual(Float32Array.of(1, 2)));
  });

  test.skipIf(process.platform === 'win32')('shards that are links, as in a download cache', async () => {
    await writeSharded();
    mkdirSync(join(here, 'snapshot'));
    for (const name of [FIRST, SECOND, INDEX]) symlinkSync(join('..', name), join(here, 'snapshot', name));
    const weights = await openWeights(join(here, 'snapshot'));
    expect(await weights.readFloat32('v')).toEqual(Float32Array.of(5));
    await weights.close();
    rmSync(join(here, SECOND));
    await expect(openWeights(join(here, 'snapshot'))).rejects.toThrow(
      /00002-of-00002.safetensors does not exist/,
    );
  });
});

test('all shards without an index are opened, and some of them are not', async () => {
  await written(FIRST, q);
  await expectRefused(/If that is a shard, download the index and the other shards/, FIRST);
  await written(SECOND, k, v);
  const weights = await openWeights(here);
  expect([...weights.tensors.keys()].sort()).toEqual(['k', 'q', 'v']);
  expect(await weights.readFloat32('v')).toEqual(Float32Array.of(5));
  await weights.close();
  await written('model-00001-of-00003.safetensors', f32('x', 1));
  await expectRefused(/download the index and the other shards/, 'model-00001-of-00002');
});

describe('opening', () => {
  test('a folder without weights is refused, with a hint from its files', async () => {
    await expectRefused(
      /has neither model.safetensors nor model.safetensors.index.json. Name the folder/,
      here,
    );
    writeFileSync(join(here, FIRST), '');
    await expectRefused(/If that is a shard, download the index and the other shards as well/, FIRST);
    writeFileSync(join(here, 'model.Q4_K_M.gguf'), '');
    await expectRefused(/"model.Q4_K_M.gguf". That format is not read: convert the model to safetensors/);
    rmSync(join(here, 'model.Q4_K_M.gguf'));
    writeFileSync(join(here, 'pytorch_model-00002-of-00002.bin'), '');
    writeFileSync(join(here, 'pytorch_model-00001-of-00002.bin'), '');
    await expectRefused(/"pytorch_model-00001-of-00002.bin". That format is not read/);
  });

  test('a missing folder, and a file in its place, are refused', async () => {
    const path = await written(SINGLE, q);
    for (const folder of [join(here, 'none'), path]) {
      const opening = openWeights(folder);
      await expect(opening).rejects.toThrow(/is not a folder that can be read/);
      await expect(opening).rejects.toBeInstanceOf(CheckpointError);
    }
  });
});

describe('an invalid index', () => {
  const twice = `{"weight_map":{"q":"${FIRST}","q":"${SECOND}"}}`;
  test.each<[string, unknown, RegExp]>([
    ['nothing', '', /cannot be used: it is not JSON in UTF-8/],
    ['broken JSON', '{"weight_map":', /cannot be used: it is not JSON in UTF-8/],
    ['a byte order mark', '\ufeff{}', /it is not JSON in UTF-8 \(.*\\u\{feff\}/],
    ['a Git LFS pointer', 'version https://git-lfs.github.com/spec/v1\n', /git lfs pull/],
    ['a list', [], /it is \[\], expected an object with a weight_map/],
    ['null', null, /it is null, expected an object with a weight_map/],
    ['no weight_map', { metadata: {} }, /its weight_map is nothing, expected an object/],
    ['a list for a weight_map', { weight_map: [FIRST] }, /its weight_map is \["model-00001/],
    ['null for a weight_map', { weight_map: null }, /its weight_map is null/],
    ['an empty weight_map', { weight_map: {} }, /its weight_map is empty/],
    ['a tensor twice', twice, /the key "q" occurs twice/],
    ['a thousand brackets', `{"metadata":${'['.repeat(1000)}`, /nested more than 8 deep/],
    ...[
      ...[
        1,
        null,
        [FIRST],
        '',
        '.',
        '..',
        '.safetensors',
        'pytorch_model.bin',
        `sub/${FIRST}`,
        `sub\\${FIRST}`,
      ],
      ...[
        `../${FIRST}`,
        `/${FIRST}`,
        `./${FIRST}`,
        `C:${FIRST}`,
        `\u001b[2J${FIRST}`,
        `${FIRST}\u0000.safetensors`,
      ],
      `${'x'.repeat(255)}.safetensors`,
    ].map((shard): [string, unknown, RegExp] => [
      `${JSON.stringify(shard).slice(0, 40)} for a shard`,
      { weight_map: { ...weightMap, k: shard } },
      /puts the tensor "k" into .*, expected the bare name of a .safetensors file/,
    ]),
  ])('%s', async (_, index, message) => {
    await writeSharded();
    writeIndex(index);
    await expectRefused(message, join(here, INDEX));
  });

  test('of more than 100 MB is not read at all', async () => {
    await writeSharded();
    truncateSync(join(here, INDEX), 100_000_001);
    await expectRefused(/has 100000001 bytes, expected at most 100000000 in an index/, join(here, INDEX));
  });

  test('is a folder', async () => {
    mkdirSync(join(here, INDEX));
    await expectRefused(/is not a file/, INDEX);
  });
});

describe('shards that contradict the index', () => {
  beforeEach(writeSharded);

  test('missing: its tensors are absent, and the others are read', async () => {
    rmSync(join(here, SECOND));
    await opened(async (weights) => {
      expect([...weights.tensors.keys()].sort()).toEqual(['ids', 'q']);
      expect([...weights.absent.keys()].sort()).toEqual(['k', 'v']);
      expect(weights.absent.get('v')).toMatch(/00002.* is missing: .* puts the tensor "v" into it. Download/);
    });
    rmSync(join(here, FIRST));
    await expectRefused(/is missing: .* puts the tensor "q" into it/, join(here, FIRST));
  });

  test('truncated, and damaged', async () => {
    const path = join(here, SECOND);
    const whole = readFileSync(path);
    truncateSync(path, whole.length - 1);
    await expectRefused(/is truncated: tensor "k" should end/, path);
    writeFileSync(path, whole.toString('latin1').replace('BF16', 'BF17'), 'latin1');
    await expectRefused(/tensor "k" has the dtype "BF17"/, path);
    writeFileSync(path, '<!doctype html>');
    await expectRefused(/is not a safetensors file/, path);
  });

  test('without a tensor that the index puts there', async () => {
    await written(SECOND, k);
    await opened(async (weights) => {
      expect([...weights.absent.keys()]).toEqual(['v']);
      expect(weights.absent.get('v')).toMatch(
        /puts the tensor "v" into "model-00002.*", which does not have it\. /,
      );
    });
  });

  test('with a tensor that the index puts into another shard, or does not mention', async () => {
    await written(FIRST, ids);
    await written(SECOND, k, v, q, f32('extra', 1));
    await opened(async (weights) => {
      expect([...weights.absent.keys()]).toEqual(['q']);
      expect(weights.absent.get('q')).toMatch(
        /puts the tensor "q" into "model-00001.*", .*have it: .*00002.* does/,
      );
      expect(await weights.readFloat32('extra')).toEqual(Float32Array.of(1));
    });
  });

  test('with one tensor twice', async () => {
    await written(SECOND, k, v, q);
    await expectRefused(/The tensor "q" is both in/, join(here, FIRST), join(here, SECOND));
  });
});

describe('reading', () => {
  beforeEach(writeSharded);

  test('a missing tensor, integers as floats, and an array of another size are errors', async () => {
    await opened(async (weights) => {
      for (const reading of [weights.read('x'), weights.readFloat32('x')]) {
        await expect(reading).rejects.toThrow(/index.json has no tensor "x" among its 4/);
        await expect(reading).rejects.toBeInstanceOf(CheckpointError);
      }
      await expect(weights.readFloat32('ids')).rejects.toThrow(
        /00001-of-00002.safetensors: tensor "ids" is I64/,
      );
      const filling = weights.readFloat32Into('k', new Float32Array(3));
      await expect(filling).rejects.toThrow(/tensor "k" has 2 elements, but the target array has 3/);
      await expect(filling).rejects.toBeInstanceOf(CheckpointError);
    });
  });

  test('works until the weights are closed, which may be done twice', async () => {
    const weights = await openWeights(here);
    await weights.close();
    await weights.close();
    for (const name of ['q', 'k']) await expect(weights.read(name)).rejects.toBeInstanceOf(CheckpointError);
  });

  test.skipIf(!existsSync('/proc/self/fd'))('leaves no file open, after success or failure', async () => {
    const filesOpen = () =>
      readdirSync('/proc/self/fd').filter((number) => {
        const link = join('/proc/self/fd', number);
        return existsSync(link) && readlinkSync(link).startsWith(here);
      }).length;
    await opened(async () => expect(filesOpen()).toBe(2));
    expect(filesOpen()).toBe(0);
    truncateSync(join(here, SECOND), 30);
    await expectRefused(/ends inside its header/);
    writeIndex('{');
    await expectRefused(/not JSON/);
    expect(filesOpen()).toBe(0);
  });
});
