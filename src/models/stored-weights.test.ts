/**
 * How checkpoints store weights: under other names, each expert on its own or all in one, in one file or several. It is
 * all the same to the model; and what does not fit it is told, with the file and the tensor.
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openWeights, type TensorToWrite, writeSafetensors } from '../checkpoint/index.js';
import { type HostTensor, openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { CheckpointError } from '../errors.js';
import { input, multiply } from '../graph/index.js';
import { refusal } from '../testing/refusal.js';
import { locateWeights, readModel, readWeights } from './folder.js';
import { parametersOf } from './model.js';
import { CONFIG_FILE, WEIGHTS_FILE } from './names.js';
import { fixtureFolder, referenceNames } from './testing/reference.js';

const INDEX_FILE = 'model.safetensors.index.json';
const device = await openDevice('cpu', { threads: 1 });

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'heddle-stored-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

type Kind = 'hf' | 'variants';
type Tensors = Map<string, TensorToWrite & { data: Float32Array }>;

/** The tensors of a fixture, as float32. */
async function tensorsOf(kind: Kind, name: string): Promise<Tensors> {
  const files = await openWeights(fixtureFolder(kind, name));
  const tensors: Tensors = new Map();
  for (const [key, { shape }] of files.tensors) {
    tensors.set(key, { name: key, dtype: 'F32', shape, data: await files.readFloat32(key) });
  }
  await files.close();
  return tensors;
}

/** Writes a fixture with a change to its config and tensors, and reads it back. */
async function rewritten(
  kind: Kind,
  name: string,
  change: (tensors: Tensors) => void,
  config: Readonly<Record<string, unknown>> = {},
): Promise<Map<string, HostTensor>> {
  const tensors = await tensorsOf(kind, name);
  change(tensors);
  await writeSafetensors(join(folder, WEIGHTS_FILE), tensors.values());
  copyConfig(kind, name, config);
  return readBoth(folder);
}

function copyConfig(kind: Kind, name: string, change: Readonly<Record<string, unknown>> = {}): void {
  const text = readFileSync(join(fixtureFolder(kind, name), CONFIG_FILE), 'utf8');
  writeFileSync(join(folder, CONFIG_FILE), JSON.stringify({ ...JSON.parse(text), ...change }));
}

/** The weights as they are read, after seeing that a device that maps them gets the same bits. */
async function readBoth(path: string): Promise<Map<string, HostTensor>> {
  const model = await readModel(path);
  const read = await readWeights(path, model);
  const located = await locateWeights(path, model);
  expect([...located.keys()]).toEqual([...read.keys()]);
  const outputs = Object.fromEntries(
    parametersOf(model).map(({ name, shape }) => [
      `copy/${name}`,
      multiply(input(name, 'float32', shape), 1),
    ]),
  );
  const executable = await device.compile(withInputs({ outputs, weights: located }));
  const values = await executable.run({});
  for (const [name, { dims, data }] of read) {
    expect(values[`copy/${name}`]!.dims, name).toEqual(dims);
    expect(values[`copy/${name}`]!.data, name).toEqual(data);
  }
  await executable.dispose();
  return read;
}

async function refusalText(run: Promise<unknown>): Promise<string> {
  const error = await refusal(run);
  expect(error).toBeInstanceOf(CheckpointError);
  return error.message;
}

const original = async (kind: Kind, name: string): Promise<Map<string, HostTensor>> => {
  const path = fixtureFolder(kind, name);
  return readWeights(path, await readModel(path));
};

describe('a device maps what is read', () => {
  for (const name of referenceNames('hf')) {
    test(name, async () => {
      const weights = await readBoth(fixtureFolder('hf', name));
      expect(weights.size).toBeGreaterThan(10);
      for (const [key, { data }] of weights)
        expect((data as Float32Array).some(Number.isNaN), key).toBe(false);
    });
  }

  test('also float64, which it cannot map', async () => {
    const name = 'model.layers.0.mlp.down_proj.weight';
    const before = await original('hf', 'llama');
    const read = await rewritten('hf', 'llama', (tensors) => {
      const { shape, data } = tensors.get(name)!;
      const wide = { name, dtype: 'F64' as const, shape, data: Float64Array.from(data) };
      tensors.set(name, wide as unknown as TensorToWrite & { data: Float32Array });
    });
    expect(read).toEqual(before);
  });
});

/** Puts the experts of a jamba or qwen3_next into one tensor for each matrix. */
function stackExperts(tensors: Tensors): void {
  const layers = new Map<string, Map<number, Partial<Record<string, Float32Array>>>>();
  const pattern = /^(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.weight$/;
  const sizes = new Map<string, readonly number[]>();
  for (const [key, { data, shape }] of [...tensors]) {
    const [, path, index, kind] = pattern.exec(key) ?? [];
    if (!path) continue;
    const experts = layers.get(path) ?? new Map();
    layers.set(path, experts);
    experts.set(Number(index), { ...experts.get(Number(index)), [kind!]: data });
    sizes.set(kind!, shape);
    tensors.delete(key);
  }
  for (const [path, experts] of layers) {
    const joined = (kinds: readonly string[]): Float32Array =>
      Float32Array.from(
        Array.from({ length: experts.size }, (_, e) =>
          kinds.flatMap((kind) => [...experts.get(e)![kind]!]),
        ).flat(),
      );
    const [inner, hidden] = sizes.get('up') as [number, number];
    const put = (name: string, shape: readonly number[], kinds: readonly string[]) =>
      tensors.set(name, { name, dtype: 'F32', shape, data: joined(kinds) });
    put(`${path}.gate_up_proj`, [experts.size, 2 * inner, hidden], ['gate', 'up']);
    put(`${path}.down_proj`, [experts.size, hidden, inner], ['down']);
  }
}

describe('experts', () => {
  for (const name of ['jamba', 'qwen3_next']) {
    test(`${name}: each on its own, or all in one`, async () => {
      const before = await original('hf', name);
      const read = await rewritten('hf', name, (tensors) => {
        const count = tensors.size;
        stackExperts(tensors);
        expect(tensors.size).toBeLessThan(count - 10);
      });
      expect(read).toEqual(before);
      const [, experts] = [...read].find(([key]) => key.endsWith('experts.gate_up_proj'))!;
      expect(experts.dims).toHaveLength(3);
    });
  }

  const gate = 'model.layers.1.feed_forward.experts.2.gate_proj.weight';

  test('one that is missing is told by its own name', async () => {
    const message = await refusalText(rewritten('hf', 'jamba', (tensors) => tensors.delete(gate)));
    expect(message).toContain(`${join(folder, WEIGHTS_FILE)} lacks the tensor ${gate}`);
  });

  test('one too many is told', async () => {
    const name = gate.replace('.2.', '.4.');
    const message = await refusalText(
      rewritten('hf', 'jamba', (tensors) => tensors.set(name, { ...tensors.get(gate)!, name })),
    );
    expect(message).toContain(`${join(folder, WEIGHTS_FILE)} has the tensor ${name}, which the model`);
  });

  test('all in one, and each on its own besides: too many', async () => {
    const message = await refusalText(
      rewritten('hf', 'jamba', (tensors) => {
        const one = tensors.get(gate)!;
        stackExperts(tensors);
        tensors.set(gate, one);
      }),
    );
    expect(message).toContain(`has the tensor ${gate}`);
  });

  test('parts that do not make up the whole', async () => {
    for (const shape of [[47, 32], [32, 48], [48 * 32]]) {
      const message = await refusalText(
        rewritten('hf', 'jamba', (tensors) => {
          const size = shape.reduce((a, b) => a * b, 1);
          tensors.set(gate, { name: gate, dtype: 'F32', shape, data: new Float32Array(size) });
        }),
      );
      expect(message).toContain(join(folder, WEIGHTS_FILE));
      expect(message).toMatch(/experts\.0\.gate_proj\.weight .* do not make up \[4,96,32\]/);
    }
  });

  test('stacked in another order than the model has', async () => {
    const message = await refusalText(
      rewritten('hf', 'jamba', (tensors) => {
        stackExperts(tensors);
        const name = 'model.layers.1.feed_forward.experts.gate_up_proj';
        tensors.set(name, { ...tensors.get(name)!, shape: [4, 32, 96] });
      }),
    );
    expect(message).toMatch(/gate_up_proj is \[4,32,96\], but its config\.json makes it \[4,96,32\]/);
  });
});

describe('parts', () => {
  const parts = ['q', 'k', 'v'].map((name) => `model.layers.0.linear_attn.${name}_conv1d.weight`);

  test('of a convolution may be one tensor', async () => {
    const before = await original('hf', 'olmo_hybrid');
    const read = await rewritten('hf', 'olmo_hybrid', (tensors) => {
      const all = parts.map((name) => tensors.get(name)!);
      for (const name of parts) tensors.delete(name);
      const data = Float32Array.from(all.flatMap(({ data }) => [...data]));
      const name = 'model.layers.0.linear_attn.conv1d.weight';
      const width = all[0]!.shape.at(-1)!;
      tensors.set(name, { name, dtype: 'F32', shape: [data.length / width, 1, width], data });
    });
    expect(read).toEqual(before);
  });

  test('may be cut elsewhere, or lack an axis of one: their elements count', async () => {
    const before = await original('hf', 'olmo_hybrid');
    const read = await rewritten('hf', 'olmo_hybrid', (tensors) => {
      const all = parts.map((name) => tensors.get(name)!);
      const data = Float32Array.from(all.flatMap(({ data }) => [...data]));
      const width = all[0]!.shape.at(-1)!;
      const rows = data.length / width;
      let at = 0;
      for (const [i, count] of [1, 2, rows - 3].entries()) {
        const slice = data.slice(at * width, (at + count) * width);
        tensors.set(parts[i]!, { name: parts[i]!, dtype: 'F32', shape: [count, width], data: slice });
        at += count;
      }
    });
    expect(read).toEqual(before);
  });

  test('of several dtypes', async () => {
    const before = await original('hf', 'olmo_hybrid');
    const read = await rewritten('hf', 'olmo_hybrid', (tensors) => {
      for (const [i, dtype] of (['F16', 'BF16', 'F32'] as const).entries()) {
        tensors.set(parts[i]!, { ...tensors.get(parts[i]!)!, dtype });
      }
    });
    const name = 'model.layers.0.linear_attn.conv1d.weight';
    const [rounded, exact] = [read, before].map((weights) => weights.get(name)!.data as Float32Array);
    expect(rounded).not.toEqual(exact);
    for (const [i, value] of exact!.entries()) {
      expect(Math.abs(rounded![i]! - value)).toBeLessThanOrEqual(Math.abs(value) * 2 ** -8);
    }
  });

  test('one of integers is told by its own name', async () => {
    const message = await refusalText(
      rewritten('hf', 'olmo_hybrid', (tensors) => {
        const { shape, data } = tensors.get(parts[1]!)!;
        const integers = { name: parts[1]!, dtype: 'I8' as const, shape, data: new Int8Array(data.length) };
        tensors.set(parts[1]!, integers as unknown as TensorToWrite & { data: Float32Array });
      }),
    );
    expect(message).toContain(`${join(folder, WEIGHTS_FILE)}: the tensor ${parts[1]} is I8`);
    expect(message).toMatch(/before it was quantized/);
  });
});

describe('names', () => {
  const renamed = (pattern: RegExp, replacement: string) => (tensors: Tensors) => {
    const all = [...tensors.values()];
    tensors.clear();
    for (const tensor of all) {
      const name = tensor.name.replace(pattern, replacement);
      tensors.set(name, { ...tensor, name });
    }
  };

  test('nemotron_h: under model as under backbone', async () => {
    const tensors = await tensorsOf('hf', 'nemotron_h');
    const [from, to] = tensors.has('backbone.embeddings.weight')
      ? [/^backbone\./, 'model.']
      : [/^model\./, 'backbone.'];
    expect(await rewritten('hf', 'nemotron_h', renamed(from!, to as string))).toEqual(
      await original('hf', 'nemotron_h'),
    );
  });

  test('qwen3_5: with or without what sees images above it', async () => {
    const before = await original('hf', 'qwen3_5');
    const plain = renamed(/^model\.language_model\./, 'model.');
    expect(await rewritten('hf', 'qwen3_5', plain)).toEqual(before);
    const deeper = renamed(/^model\.(?!language_model|visual)/, 'model.language_model.');
    expect(await rewritten('hf', 'qwen3_5', deeper)).toEqual(before);
  });

  test('other names are not taken', async () => {
    const message = await refusalText(rewritten('hf', 'llama', renamed(/^model\./, 'transformer.')));
    expect(message).toMatch(/lacks the tensor model\.embed_tokens\.weight/);
  });
});

describe('tensors beside the parameters', () => {
  const extra = (name: string, shape: number[]) => (tensors: Tensors) =>
    tensors.set(name, {
      name,
      dtype: 'F32',
      shape,
      data: new Float32Array(shape.reduce((a, b) => a * b, 1)),
    });

  test('that older checkpoints have are left out', async () => {
    const before = await original('hf', 'llama');
    const old = extra('model.layers.0.self_attn.rotary_emb.inv_freq', [4]);
    expect(await rewritten('hf', 'llama', old)).toEqual(before);
  });

  test('that predict further tokens are left out', async () => {
    const before = await original('hf', 'qwen3_next');
    expect(await rewritten('hf', 'qwen3_next', extra('mtp.layers.0.input_layernorm.weight', [32]))).toEqual(
      before,
    );
  });

  test('that lie outside what writes text are left out', async () => {
    const before = await original('hf', 'llama');
    for (const name of ['mtp.x', 'score.weight', 'visual.patch_embed.bias']) {
      expect(await rewritten('hf', 'llama', extra(name, [32])), name).toEqual(before);
    }
  });

  test('in its layers, or beside its head, are told', async () => {
    for (const name of [
      'model.layers.0.self_attn.q_proj.bias',
      'model.layers.9.mlp.up_proj.weight',
      'lm_head.bias',
    ]) {
      const message = await refusalText(rewritten('hf', 'llama', extra(name, [32])));
      expect(message).toContain(`${join(folder, WEIGHTS_FILE)} has the tensor ${name}, which the model`);
    }
  });

  test('a head that is tied may be stored as well: what counts is the table', async () => {
    const tied = { tie_word_embeddings: true };
    const read = await rewritten('hf', 'llama', extra('lm_head.weight', [64, 32]), tied);
    expect(read.has('lm_head.weight')).toBe(false);
    expect(read.get('model.embed_tokens.weight')).toEqual(
      (await original('hf', 'llama')).get('model.embed_tokens.weight'),
    );
  });

  test('a head that is not tied must be there', async () => {
    const message = await refusalText(
      rewritten('hf', 'llama', (tensors) => tensors.delete('lm_head.weight'), { tie_word_embeddings: false }),
    );
    expect(message).toMatch(/lacks the tensor lm_head\.weight/);
  });
});

describe('several files', () => {
  /** Writes a fixture's tensors in three files with an index that `lie` may change. */
  async function sharded(name: string, lie: (map: Record<string, string>) => void = () => {}): Promise<void> {
    const tensors = [...(await tensorsOf('hf', name)).values()];
    const files = ['a', 'b', 'c'].map((key) => `model-${key}.safetensors`);
    const shards = files.map((_, i) => tensors.filter((_, at) => at % 3 === i));
    const map: Record<string, string> = {};
    for (const [i, file] of files.entries()) {
      await writeSafetensors(join(folder, file), shards[i]!);
      for (const tensor of shards[i]!) map[tensor.name] = file;
    }
    lie(map);
    writeFileSync(join(folder, INDEX_FILE), JSON.stringify({ metadata: {}, weight_map: map }));
    copyConfig('hf', name);
  }

  for (const name of ['jamba', 'olmo_hybrid', 'zamba2']) {
    test(`${name}: as one`, async () => {
      await sharded(name);
      const read = await readBoth(folder);
      expect(read).toEqual(await original('hf', name));
      const located = await locateWeights(folder, await readModel(folder));
      const paths = new Set(
        [...located.values()].flatMap((weight) =>
          'parts' in weight ? weight.parts.map(({ path }) => basename(path)) : [],
        ),
      );
      expect([...paths].sort()).toEqual([
        'model-a.safetensors',
        'model-b.safetensors',
        'model-c.safetensors',
      ]);
    });
  }

  test('a tensor that the model lacks is told by its file', async () => {
    await sharded('llama');
    const config = JSON.parse(readFileSync(join(folder, CONFIG_FILE), 'utf8'));
    writeFileSync(
      join(folder, CONFIG_FILE),
      JSON.stringify({
        ...config,
        hidden_size: 48,
        head_dim: 8,
        num_attention_heads: 6,
        num_key_value_heads: 2,
      }),
    );
    const message = await refusalText(readBoth(folder));
    expect(message).toMatch(/model-[abc]\.safetensors: the tensor model\.embed_tokens\.weight is \[\d+,32\]/);
  });

  test('an index that lies is told', async () => {
    await sharded('llama', (map) => {
      map['model.norm.weight'] = map['model.norm.weight']!.endsWith('a.safetensors')
        ? 'model-b.safetensors'
        : 'model-a.safetensors';
    });
    const message = await refusalText(readBoth(folder));
    expect(message).toContain(join(folder, INDEX_FILE));
    expect(message).toContain('model.norm.weight');
  });

  test('a file that is missing is told', async () => {
    await sharded('llama');
    rmSync(join(folder, 'model-b.safetensors'));
    expect(await refusalText(readBoth(folder))).toContain(
      `${join(folder, 'model-b.safetensors')} is missing`,
    );
    mkdirSync(join(folder, 'model-b.safetensors'));
    expect(await refusalText(readBoth(folder))).toContain(join(folder, 'model-b.safetensors'));
  });
});
