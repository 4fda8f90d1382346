/**
 * Adapters that PEFT made (test/fixtures/peft), against the logits that it computes with them, and the other forms in which
 * adapters are found, against the model whose weights were changed by hand.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openSafetensors, type TensorToWrite, writeSafetensors } from '../checkpoint/index.js';
import { float32, type HostTensor, openDevice, type Weight } from '../engine/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { Random } from '../nn/index.js';
import { readModel, readWeights } from './folder.js';
import { mergeAdapter, plusProduct } from './lora.js';
import { openModel, readAdapter } from './lora-folder.js';
import type { Model } from './model.js';
import { reader } from './testing/reader.js';
import { fixtureFolder } from './testing/reference.js';
import { writeModelLike } from './write-folder.js';

const device = await openDevice('cpu', { threads: 1 });
const adapters = join(fixtureFolder('hf', 'llama'), '../../peft');

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'heddle-peft-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function logits(model: Model, weights: ReadonlyMap<string, Weight>, ids: number[][]) {
  const read = await reader(device, model, weights);
  const result = await read.inPieces(ids, [ids[0]!.length]);
  await read.dispose();
  return result;
}

describe.each(readdirSync(adapters))('%s, made by PEFT', (name) => {
  const path = join(adapters, name);
  const base = fixtureFolder('hf', name.replace(/^\d+-/, ''));

  async function reference() {
    const file = await openSafetensors(join(path, 'reference.safetensors'));
    const { shape, data } = await file.read('input_ids');
    const flat = Array.from(data as BigInt64Array, Number);
    const width = shape[1]!;
    const ids = Array.from({ length: shape[0]! }, (_, row) => flat.slice(row * width, (row + 1) * width));
    const expected = await file.readFloat32('logits');
    await file.close();
    return { ids, expected };
  }

  test('beside its model', async () => {
    const { ids, expected } = await reference();
    const { model, weights } = await openModel(base, path);
    expect(relativeError(await logits(model, weights, ids), expected)).toBeLessThan(2e-5);
    const plain = await openModel(base);
    expect(relativeError(await logits(plain.model, plain.weights, ids), expected)).toBeGreaterThan(1e-3);
  });

  test('merged into its model, and read again', async () => {
    const { ids, expected } = await reference();
    const model = await readModel(base);
    const adapter = await readAdapter(path, model, base);
    const merged = mergeAdapter(await readWeights(base, model), adapter);
    await writeModelLike(base, folder, { ...adapter.model, adapters: () => undefined }, merged);
    const opened = await openModel(folder);
    expect(relativeError(await logits(opened.model, opened.weights, ids), expected)).toBeLessThan(2e-5);
  });
});

describe('other forms', () => {
  const ids = [Array.from({ length: 12 }, (_, i) => (7 * i + 3) % 100)];
  const random = new Random(3);
  const matrix = (...dims: number[]): HostTensor =>
    float32(
      Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => 0.2 * random.normal()),
      dims,
    );
  const A = matrix(2, 32);
  const B = matrix(32, 2);
  const q = 'model.layers.0.self_attn.q_proj';

  function write(config: Record<string, unknown>, tensors: Readonly<Record<string, HostTensor>>) {
    const json = { peft_type: 'LORA', r: 2, lora_alpha: 4, target_modules: ['q_proj'], ...config };
    writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(json));
    const entries = Object.entries(tensors).map(([name, { dims, data }]): TensorToWrite => {
      return { name, dtype: 'F32', shape: dims, data: data as Float32Array };
    });
    return writeSafetensors(join(folder, 'adapter_model.safetensors'), entries);
  }

  /** The logits of a model with the adapter in the folder, and with weights changed by hand. */
  async function expectSame(base: string, change: (weights: Map<string, HostTensor>) => void) {
    const model = await readModel(base);
    const weights = await readWeights(base, model);
    change(weights);
    const own = weights.has('lm_head.weight') ? { ...model, tieWordEmbeddings: false } : model;
    const opened = await openModel(base, folder);
    const found = await logits(opened.model, opened.weights, ids);
    expect(relativeError(found, await logits(own, weights, ids))).toBeLessThan(1e-5);
    const plain = await openModel(base);
    expect(relativeError(await logits(plain.model, plain.weights, ids), found)).toBeGreaterThan(1e-3);
  }

  const llama = fixtureFolder('hf', 'llama');
  const changeQ = (weights: Map<string, HostTensor>): void => {
    weights.set(`${q}.weight`, plusProduct(weights.get(`${q}.weight`)!, B, A, 2));
  };

  test.each<[string, (half: string) => string]>([
    ["the adapter's name in its tensors", (half) => `base_model.model.${q}.lora_${half}.default.weight`],
    ['another name', (half) => `base_model.model.${q}.lora_${half}.my-adapter.weight`],
    ['no prefix', (half) => `${q}.lora_${half}.weight`],
  ])('%s', async (_, named) => {
    await write({}, { [named('A')]: A, [named('B')]: B });
    await expectSame(llama, changeQ);
  });

  test("the model's own weights beside the adapter's, and settings that change nothing", async () => {
    await write(
      {
        bias: 'lora_only',
        fan_in_fan_out: true,
        modules_to_save: null,
        use_dora: null,
        trainable_token_indices: null,
      },
      {
        [`base_model.model.${q}.lora_A.default.weight`]: A,
        [`base_model.model.${q}.lora_B.default.weight`]: B,
        [`base_model.model.${q}.base_layer.weight`]: matrix(32, 32),
        'base_model.model.lm_head.original_module.weight': matrix(128, 32),
      },
    );
    await expectSame(llama, changeQ);
  });

  test.each(['lm_head.weight', 'lm_head.modules_to_save.default.weight', 'lm_head.modules_to_save.weight'])(
    'a whole head as %s',
    async (name) => {
      const head = matrix(128, 32);
      await write({ modules_to_save: ['lm_head'] }, { [`base_model.model.${name}`]: head });
      await expectSame(llama, (weights) => weights.set('lm_head.weight', head));
    },
  );

  test('an adapter of the head, one of the embedding, and a norm as a whole', async () => {
    const parts = { headA: matrix(2, 32), headB: matrix(128, 2), E: matrix(2, 128), F: matrix(32, 2) };
    const norm = matrix(32);
    await write(
      { target_modules: ['lm_head', 'embed_tokens'], modules_to_save: ['model.norm'] },
      {
        'base_model.model.lm_head.lora_A.weight': parts.headA,
        'base_model.model.lm_head.lora_B.weight': parts.headB,
        'base_model.model.model.embed_tokens.lora_embedding_A': parts.E,
        'base_model.model.model.embed_tokens.lora_embedding_B': parts.F,
        'base_model.model.model.norm.weight': norm,
      },
    );
    await expectSame(llama, (weights) => {
      const set = (name: string, change: (w: HostTensor) => HostTensor): void => {
        weights.set(name, change(weights.get(name)!));
      };
      set('lm_head.weight', (w) => plusProduct(w, parts.headB, parts.headA, 2));
      set('model.norm.weight', () => norm);
      set('model.embed_tokens.weight', (w) => {
        const data = Float32Array.from(w.data as Float32Array, (value, at) => {
          const [token, i] = [Math.floor(at / 32), at % 32];
          let sum = 0;
          for (let r = 0; r < 2; r++)
            sum += (parts.F.data[i * 2 + r] as number) * (parts.E.data[r * 128 + token] as number);
          return value + 2 * sum;
        });
        return float32(data, w.dims);
      });
    });
  });

  test.each<[string, unknown]>([
    ['a list', [5, 17]],
    ['an object', { embed_tokens: [5, 17] }],
  ])('rows of tokens, told by %s', async (_, trainable_token_indices) => {
    const rows = matrix(2, 32);
    await write(
      { trainable_token_indices },
      { 'base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta': rows },
    );
    const row = (weights: Map<string, HostTensor>, i: number, at: number): void => {
      const data = weights.get('model.embed_tokens.weight')!.data as Float32Array;
      data.set((rows.data as Float32Array).subarray(i * 32, (i + 1) * 32), at * 32);
    };
    await expectSame(llama, (weights) => {
      row(weights, 0, 5);
      row(weights, 1, 17);
    });
  });

  describe('where the head shares the weight of the embedding', () => {
    const tied = readdirSync(join(llama, '..'))
      .map((name) => fixtureFolder('hf', name))
      .find((path) => {
        const json = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
        return json.tie_word_embeddings === true && json.model_type === 'granitemoehybrid';
      })!;
    const embedding = 'model.embed_tokens.weight';
    const sized = async () => (await readWeights(tied, await readModel(tied))).get(embedding)!;

    test('a head of its own', async () => {
      const head = matrix(...(await sized()).dims);
      await write({ modules_to_save: ['lm_head'] }, { 'base_model.model.lm_head.weight': head });
      await expectSame(tied, (weights) => weights.set('lm_head.weight', head));
    });

    test('an embedding that was trained apart', async () => {
      const table = matrix(...(await sized()).dims);
      await write(
        { modules_to_save: ['embed_tokens'] },
        { 'base_model.model.model.embed_tokens.weight': table },
      );
      await expectSame(tied, (weights) => {
        weights.set('lm_head.weight', weights.get(embedding)!);
        weights.set(embedding, table);
      });
    });

    test.each<[string, Record<string, unknown>]>([
      ['saved because it was resized', {}],
      ['trained with the tie kept', { modules_to_save: ['embed_tokens'], ensure_weight_tying: true }],
    ])('an embedding that the head follows, %s', async (_, config) => {
      const table = matrix(...(await sized()).dims);
      await write(config, { 'base_model.model.model.embed_tokens.weight': table });
      await expectSame(tied, (weights) => weights.set(embedding, table));
    });
  });
});
