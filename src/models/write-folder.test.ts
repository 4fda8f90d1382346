/** Models written as another folder stores them: the same tensors under the same names, and what belongs to them. */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openSafetensors, openWeights, type TensorToWrite, writeSafetensors } from '../checkpoint/index.js';
import type { HostTensor } from '../engine/index.js';
import { CheckpointError } from '../errors.js';
import { copyCompanions } from './companions.js';
import { readModel, readWeights } from './folder.js';
import { WEIGHTS_FILE } from './names.js';
import { readReference, referenceNames } from './testing/reference.js';
import { writeModelLike } from './write-folder.js';

let here: string;
let out: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-like-'));
  out = join(here, 'out');
  mkdirSync(out);
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

/** What a folder's files hold, as float32 where it is floating-point. */
async function contents(folder: string): Promise<Map<string, { shape: readonly number[]; data: unknown }>> {
  const files = await openWeights(folder);
  const found = new Map<string, { shape: readonly number[]; data: unknown }>();
  for (const [name, { shape, dtype }] of files.tensors) {
    const data = /^B?F\d/.test(dtype) ? await files.readFloat32(name) : (await files.read(name)).data;
    found.set(name, { shape, data });
  }
  await files.close();
  return found;
}

test.each(referenceNames('hf'))('%s comes back', async (name) => {
  const { folder } = await readReference('hf', name);
  const model = await readModel(folder);
  const weights = await readWeights(folder, model);
  await writeModelLike(folder, out, model, weights);
  const [before, after] = [await contents(folder), await contents(out)];
  for (const [tensor, { shape, data }] of after) {
    expect(before.get(tensor)!.shape, tensor).toEqual(shape);
    expect(before.get(tensor)!.data, tensor).toEqual(data);
  }
  // Left out: what is made from the weights, or repeats them.
  const left = [...before.keys()].filter((tensor) => !after.has(tensor));
  expect(
    left.filter(
      (tensor) => !/inv_freq$|_decay$|slope_rate$|shared_transformer|^lm_head\.weight$/.test(tensor),
    ),
  ).toEqual([]);
  expect((await readModel(out)).json).toEqual(model.json);
  const again: ReadonlyMap<string, HostTensor> = await readWeights(out, model);
  for (const [parameter, { data }] of weights) expect(again.get(parameter)!.data, parameter).toEqual(data);
});

/** A copy of a checkpoint with other names for its tensors, and more tensors. */
async function changed(
  name: string,
  rename: (tensor: string) => string,
  more: readonly TensorToWrite[] = [],
): Promise<string> {
  const { folder } = await readReference('hf', name);
  const base = join(here, 'base');
  cpSync(folder, base, { recursive: true });
  const file = await openSafetensors(join(folder, WEIGHTS_FILE));
  const tensors: TensorToWrite[] = [];
  for (const tensor of file.tensors.keys()) {
    const { dtype, shape, data } = await file.read(tensor);
    tensors.push({ name: rename(tensor), dtype, shape, data });
  }
  await file.close();
  await writeSafetensors(join(base, WEIGHTS_FILE), [...tensors, ...more]);
  return base;
}

test('names that only some checkpoints of a family have are kept', async () => {
  const base = await changed('nemotron_h', (tensor) => tensor.replace(/^backbone\./, 'model.'));
  const model = await readModel(base);
  await writeModelLike(base, out, model, await readWeights(base, model));
  expect([...(await contents(out)).keys()].sort()).toEqual([...(await contents(base)).keys()].sort());
});

test('what the model does not use is carried over as it is; what repeats its weights is not', async () => {
  const ids = { dtype: 'I64' as const, shape: [2], data: BigInt64Array.of(7n, -7n) };
  const half = { dtype: 'BF16' as const, shape: [2, 2], data: Uint16Array.of(0x3f80, 1, 2, 0xff80) };
  const base = await changed('qwen3_5', (tensor) => tensor, [
    { ...ids, name: 'mtp.ids' },
    { ...half, name: 'model.visual.patch_embed.weight' },
  ]);
  const model = await readModel(base);
  const weights = await readWeights(base, model);
  const changedHead = weights.get(`${model.names.finalNorm}.weight`)!.data as Float32Array;
  changedHead.fill(3);
  await writeModelLike(base, out, model, weights);
  const file = await openSafetensors(join(out, WEIGHTS_FILE));
  expect((await file.read('mtp.ids')).data).toEqual(ids.data);
  expect(await file.read('model.visual.patch_embed.weight')).toEqual(half);
  await file.close();
  const again = await readWeights(out, model);
  expect(again.get(`${model.names.finalNorm}.weight`)!.data).toEqual(changedHead);
});

test('a head that is tied, but stored, is left out: it would be an old one', async () => {
  const { folder } = await readReference('hf', 'granitemoehybrid');
  const model = await readModel(folder);
  const table = (await readWeights(folder, model)).get(`${model.names.embeddings}.weight`)!;
  const base = await changed('granitemoehybrid', (tensor) => tensor, [
    { name: 'lm_head.weight', dtype: 'F32', shape: table.dims, data: table.data as Float32Array },
  ]);
  await writeModelLike(base, out, model, await readWeights(base, model));
  expect((await contents(out)).has('lm_head.weight')).toBe(false);
});

test('companions are copied byte for byte, and nothing else is', async () => {
  const from = join(here, 'from');
  mkdirSync(join(from, 'LICENSES'), { recursive: true });
  const texts = {
    'tokenizer.json': '{"a":  1e0}',
    'tokenizer_config.json': '{}',
    'chat_template.jinja': '{{ messages }}\r\n',
    'generation_config.json': '{}',
    'LICENSE.txt': 'Do as you like.',
  };
  for (const [name, text] of Object.entries(texts)) writeFileSync(join(from, name), text);
  for (const name of ['config.json', 'model.safetensors', 'README.md', 'training.json']) {
    writeFileSync(join(from, name), 'not this');
  }
  await copyCompanions(from, out);
  expect(readdirSync(out).sort()).toEqual(Object.keys(texts).sort());
  for (const [name, text] of Object.entries(texts)) expect(readFileSync(join(out, name), 'utf8')).toBe(text);
  await expect(copyCompanions(join(here, 'none'), out)).rejects.toThrow(CheckpointError);
});
