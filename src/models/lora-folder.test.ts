/**
 * Adapters in folders: written as PEFT writes them and read back bit for bit, read as PEFT writes them with all that it may
 * say about ranks and scales, and refused, with words, where they are something else.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openSafetensors, type TensorToWrite, writeSafetensors } from '../checkpoint/index.js';
import { type HostTensor, openDevice } from '../engine/index.js';
import { CheckpointError, ConfigError } from '../errors.js';
import { relativeError } from '../graph/testing/arrays.js';
import { Random } from '../nn/index.js';
import { randomWeights } from '../nn/testing/weights.js';
import { refusal } from '../testing/refusal.js';
import { readModel, readWeights } from './folder.js';
import { type Adapted, linearLayers, withLora } from './lora.js';
import { peftName } from './lora-config.js';
import { openModel, readAdapter, writeAdapter } from './lora-folder.js';
import { type Model, parametersOf } from './model.js';
import { reader } from './testing/reader.js';
import { readReference, referenceNames } from './testing/reference.js';

const device = await openDevice('cpu', { threads: 1 });
const references = (['hf', 'variants'] as const).flatMap((kind) =>
  referenceNames(kind).map((name) => [name, kind] as const),
);

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'heddle-adapter-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Adapters of rank 2 that are far from new ones. */
function adapters(model: Model): Adapted {
  const adapted = withLora(model, { rank: 2, alpha: 4 });
  const specs = parametersOf(adapted).filter(({ adapts }) => adapts !== undefined);
  return { model: adapted, weights: randomWeights(specs, { seed: 2, deviation: 0.1 }) };
}

async function logits(
  model: Model,
  weights: Awaited<ReturnType<typeof openModel>>['weights'],
): Promise<Float32Array> {
  const read = await reader(device, model, weights);
  const random = new Random(5);
  const ids = Array.from({ length: 12 }, () => random.below(model.vocabSize));
  const result = await read.inPieces([ids], [12]);
  await read.dispose();
  return result;
}

const jsonOf = (path: string): Record<string, unknown> =>
  JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;

describe('written', () => {
  test('and read again it is bit for bit the same', async () => {
    const { folder: base } = await readReference('hf', 'granitemoehybrid-moe-bf16');
    const model = await readModel(base);
    const adapted = adapters(model);
    await writeAdapter(folder, adapted, { rank: 2, alpha: 4 }, 'ibm/some-granite');
    const read = await readAdapter(folder, model, base);
    expect([...read.weights.keys()].sort()).toEqual([...adapted.weights.keys()].sort());
    for (const [name, { dims, data }] of adapted.weights) {
      expect(read.weights.get(name)!.dims).toEqual(dims);
      expect(read.weights.get(name)!.data, name).toEqual(data);
    }
    const opened = await openModel(base, folder);
    const weights = new Map([...(await openModel(base)).weights, ...adapted.weights]);
    expect(await logits(opened.model, opened.weights)).toEqual(await logits(adapted.model, weights));
    expect(jsonOf(join(folder, 'adapter_config.json'))).toMatchObject({
      peft_type: 'LORA',
      task_type: 'CAUSAL_LM',
      base_model_name_or_path: 'ibm/some-granite',
      r: 2,
      lora_alpha: 4,
      bias: 'none',
      // The experts' matrices end in input_linear and output_linear too.
      target_modules: [
        'in_proj',
        'k_proj',
        'o_proj',
        'q_proj',
        'shared_mlp.input_linear',
        'shared_mlp.output_linear',
        'v_proj',
      ],
    });
  });

  test.each(references)('%s: by the names that its modules have in transformers', async (name, kind) => {
    const { folder: base, gradientNorms } = await readReference(kind, name);
    const model = await readModel(base);
    const adapted = adapters(model);
    await writeAdapter(folder, adapted, { rank: 2, alpha: 4 }, base);
    const file = await openSafetensors(join(folder, 'adapter_model.safetensors'));
    const modules = new Set(
      [...file.tensors.keys()].map((tensor) => tensor.replace(/\.lora_[AB]\.weight$/, '')),
    );
    await file.close();
    // Tied blocks are modules of their own, whose parameters transformers names once.
    const weightOf = new Map(
      linearLayers(model).map(({ module, weight }) => [peftName(model, module), peftName(model, weight)]),
    );
    for (const module of modules) {
      expect(module.startsWith('base_model.model.')).toBe(true);
      const own = module.slice('base_model.model.'.length);
      expect(Object.keys(gradientNorms), own).toContain(weightOf.get(own));
    }
    // What PEFT finds by the target modules is what was written, and no other module.
    const { target_modules: targets } = jsonOf(join(folder, 'adapter_config.json'));
    const matches = (module: string): boolean =>
      (targets as string[]).some((target) => module === target || module.endsWith(`.${target}`));
    const paths = [...Object.keys(gradientNorms), ...[...weightOf.keys()].map((own) => `${own}.weight`)];
    const known = new Set(
      paths.flatMap((path) => {
        const parts = path.split('.');
        return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join('.'));
      }),
    );
    expect(new Set([...known].filter(matches).map((own) => `base_model.model.${own}`))).toEqual(modules);
    expect(await readAdapter(folder, model, base)).toMatchObject({ weights: adapted.weights });
  });
});

describe("PEFT's own", () => {
  /** Writes what PEFT would have, for a list of [module, rank], and returns the halves by module. */
  async function written(
    config: Record<string, unknown>,
    modules: readonly (readonly [module: string, inputs: number, outputs: number, rank: number])[],
    dtype: 'F32' | 'BF16' = 'F32',
  ) {
    const json = { peft_type: 'LORA', task_type: 'CAUSAL_LM', bias: 'none', lora_dropout: 0.1, ...config };
    writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(json));
    const random = new Random(8);
    const halves = new Map<string, { A: Float32Array; B: Float32Array }>();
    const tensors: TensorToWrite[] = [];
    for (const [module, inputs, outputs, rank] of modules) {
      // Numbers that all dtypes hold.
      const make = (size: number) =>
        Float32Array.from({ length: size }, () => Math.round(32 * random.normal()) / 128);
      const [A, B] = [make(rank * inputs), make(outputs * rank)];
      halves.set(module, { A, B });
      const name = `base_model.model.${module}`;
      tensors.push(
        { name: `${name}.lora_A.weight`, dtype, shape: [rank, inputs], data: A },
        { name: `${name}.lora_B.weight`, dtype, shape: [outputs, rank], data: B },
      );
    }
    await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors);
    return halves;
  }

  test('ranks and scales by pattern, rsLoRA, a pattern for targets, halves', async () => {
    const { folder: base } = await readReference('hf', 'llama');
    const model = await readModel(base);
    const layers = new Map(linearLayers(model).map((layer) => [layer.module, layer]));
    const modules = [
      ['model.layers.0.self_attn.q_proj', 4, 8 / Math.sqrt(4)],
      ['model.layers.1.self_attn.q_proj', 2, 8 / Math.sqrt(2)],
      ['model.layers.1.self_attn.o_proj', 2, 3 / Math.sqrt(2)],
      ['model.layers.0.mlp.down_proj', 6, 8 / Math.sqrt(6)],
      ['model.layers.1.mlp.down_proj', 4, 12 / Math.sqrt(4)],
    ] as const;
    const halves = await written(
      {
        r: 4,
        lora_alpha: 8,
        use_rslora: true,
        target_modules: '.*\\.(self_attn\\.(q|o)_proj|mlp\\.down_proj)',
        rank_pattern: { 'layers.1.self_attn.(q|o)_proj': 2, '^model.layers.0.mlp.down_proj': 6 },
        alpha_pattern: { o_proj: 3, 'model.layers.1.mlp.down_proj': 12 },
        megatron_core: 'megatron.core',
        qalora_group_size: 16,
        modules_to_save: null,
        layers_to_transform: [0, 1],
      },
      modules.map(([module, rank]) => {
        const { inputs, outputs } = layers.get(module)!;
        return [module, inputs, outputs, rank];
      }),
      'BF16',
    );
    const expected = await readWeights(base, model);
    for (const [module, rank, scale] of modules) {
      const { inputs, outputs } = layers.get(module)!;
      const { A, B } = halves.get(module)!;
      const W = expected.get(`${module}.weight`)!.data as Float32Array;
      for (let o = 0; o < outputs; o++)
        for (let i = 0; i < inputs; i++)
          for (let r = 0; r < rank; r++) W[o * inputs + i]! += scale * B[o * rank + r]! * A[r * inputs + i]!;
    }
    const opened = await openModel(base, folder);
    const found = await logits(opened.model, opened.weights);
    expect(relativeError(found, await logits(model, expected))).toBeLessThan(1e-5);
    const plain = await openModel(base);
    expect(relativeError(await logits(plain.model, plain.weights), found)).toBeGreaterThan(0.1);
  });

  test('of Nemotron-H, by the names of its checkpoints and by those of transformers', async () => {
    const { folder: base } = await readReference('hf', 'nemotron_h');
    const model = await readModel(base);
    const layer = linearLayers(model).find(({ module }) => module.endsWith('q_proj'))!;
    const seen: HostTensor[] = [];
    for (const module of [layer.module, layer.module.replace('backbone.', 'model.')]) {
      await written({ r: 2, lora_alpha: 2, target_modules: ['q_proj'] }, [
        [module, layer.inputs, layer.outputs, 2],
      ]);
      const { weights } = await readAdapter(folder, model, base);
      expect([...weights.keys()]).toEqual(['A', 'B'].map((half) => `${layer.module}.lora_${half}.weight`));
      seen.push(...weights.values());
    }
    expect(seen.slice(0, 2)).toEqual(seen.slice(2));
  });

  describe('that is refused:', () => {
    const q = 'model.layers.0.self_attn.q_proj';
    const plain = { r: 2, lora_alpha: 4, target_modules: ['q_proj'] };

    async function refused(config: Record<string, unknown>, module = q, sizes?: [number, number]) {
      const { folder: base } = await readReference('hf', 'llama');
      const model = await readModel(base);
      const { inputs, outputs } = linearLayers(model).find((layer) => layer.module === q)!;
      await written({ ...plain, ...config }, [[module, ...(sizes ?? [inputs, outputs]), 2] as const]);
      return refusal(readAdapter(folder, model, base));
    }

    test.each<[string, Record<string, unknown>, RegExp]>([
      ['another method', { peft_type: 'LOHA' }, /peft_type "LOHA"/],
      ['biases of B', { lora_bias: true }, /lora_bias/],
      ['experts', { target_parameters: ['mlp.experts.gate_up_proj'] }, /target_parameters.*experts/],
      ['activated LoRA', { alora_invocation_tokens: [1, 2] }, /alora_invocation_tokens/],
      ['repeated layers', { layer_replication: [[0, 2]] }, /layer_replication/],
      ['changed weights', { init_lora_weights: 'pissa_niter_16' }, /init_lora_weights "pissa_niter_16"/],
      ['what is not known', { use_next_years_idea: true }, /use_next_years_idea.*not known/],
      ['a rank that is none', { r: 0 }, /not a LoRA adapter's: r:/],
      ['a pattern that cannot be read', { target_modules: '(q_proj' }, /the pattern "\(q_proj"/],
    ])('%s', async (_, config, message) => {
      const error = await refused(config);
      expect(error).toBeInstanceOf(ConfigError);
      expect(error.message).toMatch(message);
      expect(error.message).toContain(join(folder, 'adapter_config.json'));
    });

    test.each<[string, string, [number, number] | undefined, Record<string, unknown>, RegExp]>([
      [
        'the embedding as a linear layer',
        'model.embed_tokens',
        undefined,
        {},
        /embed_tokens is no linear layer/,
      ],
      ['a module of another model', 'model.layers.9.self_attn.q_proj', undefined, {}, /no linear layer/],
      ['another size', q, [8, 8], {}, /q_proj\.lora_A\.weight is \[2,8\], but .* make it \[2,32\]/],
      ['another rank', q, undefined, { r: 3 }, /make it \[3,32\]/],
      ['a module without a target', q, undefined, { target_modules: ['k_proj'] }, /do not name that module/],
      ['DoRA without lengths', q, undefined, { use_dora: true }, /lacks the lora_magnitude_vector of/],
      [
        'a whole head that is not there',
        q,
        undefined,
        { modules_to_save: ['lm_head'] },
        /lacks lm_head\.weight/,
      ],
    ])('%s', async (_, module, sizes, config, message) => {
      const error = await refused(config, module, sizes);
      expect(error).toBeInstanceOf(CheckpointError);
      expect(error.message).toMatch(message);
      expect(error.message).toContain(join(folder, 'adapter_model.safetensors'));
    });

    test('one half alone, nothing at all, other tensors', async () => {
      const { folder: base } = await readReference('hf', 'llama');
      const model = await readModel(base);
      writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ peft_type: 'LORA', ...plain }));
      const path = join(folder, 'adapter_model.safetensors');
      const half = { dtype: 'F32' as const, shape: [2, 32], data: new Float32Array(64) };
      const A = { ...half, name: `base_model.model.${q}.lora_A.weight` };
      for (const [tensors, message] of [
        [[A], /only one of the two halves/],
        [[], /is empty/],
        [[{ ...half, name: `base_model.model.${q}.lora_magnitude_vector` }], /is \[2,32\], but .* \[32\]/],
        [
          [{ ...half, name: `base_model.model.${q}.lora_something` }],
          /neither half of a low-rank adapter nor/,
        ],
        [[{ ...half, name: 'base_model.model.lm_head.weight' }], /lm_head\.weight is \[2,32\]/],
        [
          [A, { ...A, name: A.name.replace('_A', '_B.other') }],
          /several adapters, one without a name and other/,
        ],
      ] as const) {
        await writeSafetensors(path, tensors);
        const error = await refusal(readAdapter(folder, model, base));
        expect(error).toBeInstanceOf(CheckpointError);
        expect(error.message).toMatch(message);
      }
      rmSync(path);
      writeFileSync(join(folder, 'adapter_model.bin'), '');
      expect((await refusal(readAdapter(folder, model, base))).message).toMatch(
        /adapter_model\.bin, a format/,
      );
    });
  });
});

describe('one folder for another', () => {
  test('an adapter where a model is expected, a model where an adapter is, and neither', async () => {
    const { folder: base } = await readReference('hf', 'llama');
    const model = await readModel(base);
    await writeAdapter(folder, adapters(model), { rank: 2, alpha: 4 }, base);
    const asModel = await refusal(openModel(folder));
    expect(asModel).toBeInstanceOf(CheckpointError);
    expect(asModel.message).toMatch(/is an adapter, not a model: name the model/);
    const asAdapter = await refusal(openModel(base, base));
    expect(asAdapter).toBeInstanceOf(CheckpointError);
    expect(asAdapter.message).toMatch(/is a model, not an adapter/);
    mkdirSync(join(folder, 'empty'));
    for (const name of ['empty', 'none']) {
      expect((await refusal(openModel(base, join(folder, name)))).message).toMatch(/is not an adapter/);
    }
  });

  test('an adapter of another model', async () => {
    const [llama, granite] = [
      await readReference('hf', 'llama'),
      await readReference('hf', 'granitemoehybrid'),
    ];
    await writeAdapter(folder, adapters(await readModel(granite.folder)), { rank: 2, alpha: 4 }, 'x');
    const error = await refusal(openModel(llama.folder, folder));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(
      /no linear layer of this llama model: use the model that it was trained on/,
    );
  });
});
