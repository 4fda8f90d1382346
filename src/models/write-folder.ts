/** Writing a model's folder (folder.ts reads it). */
import { join, writeFileAtomic } from '#platform';
import { type QuantizedBlocks, type TensorToWrite, writeSafetensors } from '../checkpoint/index.js';
import type { HostTensor, QuantizedTensor } from '../engine/index.js';
import { isGguf } from '../gguf.js';
import type { ParameterPart } from '../nn/index.js';
import { formatConfig } from './config-file.js';
import { readModel } from './folder.js';
import { type Model, parametersOf } from './model.js';
import { CONFIG_FILE, WEIGHTS_FILE } from './names.js';
import { codedShapes, type Quantization, quantizationJson } from './quantization.js';
import { codesOf, type StoredDtype, scalesOf, withWeights } from './stored-weights.js';

/** Writes `config.json` and `model.safetensors` into a folder that exists. */
export async function writeModel(
  folder: string,
  model: Model,
  weights: ReadonlyMap<string, HostTensor>,
  dtype: StoredDtype = 'F32',
): Promise<void> {
  await writeFileAtomic(join(folder, CONFIG_FILE), formatConfig(model.json));
  const tensors = parametersOf(model).flatMap(({ name, shape, parts = [{ name, shape }] }) =>
    cut(weights.get(name)!, parts, dtype),
  );
  await writeSafetensors(join(folder, WEIGHTS_FILE), tensors, { format: 'pt' });
}

/**
 * Writes a model in float32 as the folder `like` stores it: under the same names, and with what that has besides, such as
 * the part of a model that sees images. Left out is what is made from the weights, or repeats them. Parameters that `like`
 * does not have, such as a head that it shares with the embedding, get their own names.
 */
export async function writeModelLike(
  like: string,
  folder: string,
  model: Model,
  weights: ReadonlyMap<string, HostTensor>,
): Promise<void> {
  // A GGUF file's tensors have other names; what is written is a folder.
  if (await isGguf(like)) return writeModel(folder, model, weights);
  await writeFileAtomic(join(folder, CONFIG_FILE), formatConfig(model.json));
  await withWeights(like, await readModel(like), async (files, located) => {
    const stored = new Set(located.map(([{ name }]) => name));
    const added = parametersOf(model).filter(({ name }) => !stored.has(name));
    const own = [
      ...located.flatMap(([{ name }, places]) => cut(weights.get(name)!, places, 'F32')),
      ...added.flatMap((spec) => cut(weights.get(spec.name)!, [spec], 'F32')),
    ];
    const used = new Set(own.map(({ name }) => name));
    const { layers, head } = model.names;
    const others = [...files.tensors].filter(
      ([name]) => !used.has(name) && !name.startsWith(`${layers}.`) && name !== `${head}.weight`,
    );
    const copied = others.map(([name, { dtype, shape }]) => {
      return { name, dtype, shape, data: async () => (await files.read(name)).data };
    });
    await writeSafetensors(join(folder, WEIGHTS_FILE), [...own, ...copied], { format: 'pt' });
  });
}

/** Writes a quantized model into a folder that exists. */
export async function writeQuantized(
  folder: string,
  model: Model,
  quantization: Quantization,
  weights: ReadonlyMap<string, HostTensor | (QuantizedTensor & QuantizedBlocks)>,
): Promise<void> {
  const json = { ...model.json, quantization_config: quantizationJson(quantization) };
  await writeFileAtomic(join(folder, CONFIG_FILE), formatConfig(json));
  const tensors = [...weights].flatMap(([name, weight]): TensorToWrite[] => {
    if (!('codes' in weight)) {
      return [{ name, dtype: 'F32', shape: weight.dims, data: weight.data as Float32Array }];
    }
    const shapes = codedShapes(weight.dims, weight);
    return [
      { name: codesOf(name), dtype: 'U8', shape: shapes[0], data: weight.codes },
      { name: scalesOf(name), dtype: 'F32', shape: shapes[1], data: weight.scales },
    ];
  });
  await writeSafetensors(join(folder, WEIGHTS_FILE), tensors, { format: 'pt' });
}

/** A parameter as its parts, in which it is stored. */
function cut({ data }: HostTensor, parts: readonly ParameterPart[], dtype: StoredDtype): TensorToWrite[] {
  let at = 0;
  return parts.map(({ name, shape }) => {
    const size = shape.reduce((a, b) => a * b, 1);
    at += size;
    return { name, dtype, shape, data: (data as Float32Array).subarray(at - size, at) };
  });
}
