/** What others have quantized: matrices encoded here as their formats are published, read back number by number. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import {
  dequantizeBlocks,
  type QuantizedBlocks,
  type TensorToWrite,
  writeSafetensors,
} from '../checkpoint/index.js';
import { isQuantized, openDevice, type QuantizedTensor } from '../engine/index.js';
import { CheckpointError, ConfigError } from '../errors.js';
import { relativeError } from '../graph/testing/arrays.js';
import { generator } from '../graph/testing/random.js';
import { randomWeights } from '../nn/testing/weights.js';
import { modelFromConfig } from './config-file.js';
import { locateWeights, readModel, readWeights } from './folder.js';
import { parametersOf } from './model.js';
import { reader } from './testing/reader.js';
import { readReference } from './testing/reference.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-foreign-'));
afterAll(() => rmSync(root, { recursive: true }));

const config = {
  model_type: 'llama',
  vocab_size: 48,
  hidden_size: 128,
  intermediate_size: 160,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  tie_word_embeddings: true,
};
const plain = modelFromConfig(config, 'config.json');
const random = generator(11);
const below = (count: number): number => Math.floor(random() * count);
const halfOf = (value: number): number => {
  // Numbers of 8 bits are the same in float16 and float32.
  const exponent = Math.floor(Math.log2(value)) - 7;
  return Math.round(value / 2 ** exponent) * 2 ** exponent;
};
const scaleAt = (): number => halfOf(0.005 + 0.01 * random());

interface Encoded {
  readonly tensors: readonly TensorToWrite[];
  readonly values: Float32Array;
}
type Encode = (module: string, rows: number, columns: number) => Encoded;

const I32 = (name: string, shape: number[], data: ArrayLike<number>): TensorToWrite => {
  return { name, dtype: 'I32', shape, data: Int32Array.from(data, (value) => value | 0) };
};
const F32 = (name: string, shape: number[], data: ArrayLike<number>): TensorToWrite => {
  return { name, dtype: 'F32', shape, data: Float32Array.from(data) };
};
const numbers = (count: number, value: (i: number) => number): number[] =>
  Array.from({ length: count }, (_, i) => value(i));

/** What E4M3 writes as its bytes, by bits: a sign, four of an exponent, three of a fraction. */
function e4m3(byte: number): number {
  const sign = byte >= 128 ? -1 : 1;
  const exponent = Math.floor((byte % 128) / 8);
  return exponent === 0 ? (sign * (byte % 8)) / 512 : sign * (1 + (byte % 8) / 8) * 2 ** (exponent - 7);
}

function fp8(block: readonly [number, number] | undefined, scaleName: string, across = true): Encode {
  return (module, rows, columns) => {
    const bytes = Uint8Array.from({ length: rows * columns }, () => {
      const byte = below(256);
      return byte % 128 === 127 ? 0 : byte;
    });
    const [height, width] = block ?? [across ? 1 : rows, columns];
    const shape = [Math.ceil(rows / height), Math.ceil(columns / width)];
    const scales = numbers(shape[0]! * shape[1]!, () => scaleAt() / 64);
    const values = Float32Array.from(bytes, (byte, i) => {
      const at = Math.floor(Math.floor(i / columns) / height) * shape[1]! + Math.floor((i % columns) / width);
      return e4m3(byte) * Math.fround(scales[at]!);
    });
    const stored = block || across ? shape : [1];
    return {
      values,
      tensors: [
        { name: `${module}.weight`, dtype: 'F8_E4M3', shape: [rows, columns], data: bytes },
        F32(`${module}.${scaleName}`, stored, scales),
        F32(`${module}.input_scale`, [1], [0.5]),
      ],
    };
  };
}

/** Codes with a zero and a scale for each row and group of columns. */
function coded(rows: number, columns: number, bits: number, groups: number, zero?: number, order?: number[]) {
  const codes = numbers(rows * columns, () => below(2 ** bits));
  const zeros = numbers(rows * groups, () => zero ?? below(2 ** bits));
  const scales = numbers(rows * groups, scaleAt);
  const groupOf = order ?? numbers(columns, (column) => Math.floor(column / (columns / groups)));
  const values = Float32Array.from(codes, (code, i) => {
    const at = Math.floor(i / columns) * groups + groupOf[i % columns]!;
    return (code - zeros[at]!) * scales[at]!;
  });
  return { codes, zeros, scales, values, groupOf };
}

/** `count` words of the codes that `code` gives by word and place. */
function words(count: number, bits: number, code: (word: number, place: number) => number): number[] {
  return numbers(count, (word) =>
    numbers(32 / bits, (place) => code(word, place)).reduce(
      (sum, value, place) => sum + value * 2 ** (bits * place),
      0,
    ),
  );
}

function compressed(bits: number, size: number, zero?: 'some'): Encode {
  return (module, rows, columns) => {
    const groups = columns / size;
    const each = 32 / bits;
    const { codes, zeros, scales, values } = coded(
      rows,
      columns,
      bits,
      groups,
      zero ? undefined : 2 ** (bits - 1),
    );
    const wide = columns / each;
    const packed = words(rows * wide, bits, (word, place) => codes[word * each + place]!);
    const down = words((rows / each) * groups, bits, (word, place) => {
      const row = Math.floor(word / groups) * each + place;
      return zeros[row * groups + (word % groups)]!;
    });
    return {
      values,
      tensors: [
        I32(`${module}.weight_packed`, [rows, wide], packed),
        F32(`${module}.weight_scale`, [rows, groups], scales),
        {
          name: `${module}.weight_shape`,
          dtype: 'I64',
          shape: [2],
          data: BigInt64Array.of(BigInt(rows), BigInt(columns)),
        },
        ...(zero ? [I32(`${module}.weight_zero_point`, [rows / each, groups], down)] : []),
      ],
    };
  };
}

const byGroup = (of: readonly number[], groups: number, rows: number): number[] =>
  numbers(groups * rows, (i) => of[(i % rows) * groups + Math.floor(i / rows)]!);

function gptq(bits: number, size: number, kind: 'symmetric' | 'zeros' | 'reordered', less: 0 | 1): Encode {
  return (module, rows, columns) => {
    const groups = columns / size;
    const each = 32 / bits;
    const order = kind === 'reordered' ? numbers(columns, (column) => (column * 7 + 3) % groups) : undefined;
    const zero = kind === 'symmetric' ? 2 ** (bits - 1) : undefined;
    const { codes, zeros, scales, values, groupOf } = coded(rows, columns, bits, groups, zero, order);
    const qweight = words((columns / each) * rows, bits, (word, place) => {
      const column = Math.floor(word / rows) * each + place;
      return codes[(word % rows) * columns + column]!;
    });
    const qzeros = words(groups * (rows / each), bits, (word, place) => {
      const [group, row] = [Math.floor(word / (rows / each)), (word % (rows / each)) * each + place];
      return (zeros[row * groups + group]! - less + 2 ** bits) % 2 ** bits;
    });
    return {
      values,
      tensors: [
        I32(`${module}.qweight`, [columns / each, rows], qweight),
        I32(`${module}.qzeros`, [groups, rows / each], qzeros),
        F32(`${module}.scales`, [groups, rows], byGroup(scales, groups, rows)),
        I32(`${module}.g_idx`, [columns], groupOf),
      ],
    };
  };
}

const awq: Encode = (module, rows, columns) => {
  const groups = columns / 32;
  const { codes, zeros, scales, values } = coded(rows, columns, 4, groups);
  // Place n of a word holds row ORDER[n] of its eight.
  const order = [0, 2, 4, 6, 1, 3, 5, 7];
  const wide = rows / 8;
  const qweight = words(columns * wide, 4, (word, place) => {
    const row = (word % wide) * 8 + order[place]!;
    return codes[row * columns + Math.floor(word / wide)]!;
  });
  const qzeros = words(groups * wide, 4, (word, place) => {
    const row = (word % wide) * 8 + order[place]!;
    return zeros[row * groups + Math.floor(word / wide)]!;
  });
  return {
    values,
    tensors: [
      I32(`${module}.qweight`, [columns, wide], qweight),
      I32(`${module}.qzeros`, [groups, wide], qzeros),
      F32(`${module}.scales`, [groups, rows], byGroup(scales, groups, rows)),
    ],
  };
};

/** The model's folder with its projections encoded, and what its weights are. */
async function written(name: string, quantization: object, encode: Encode) {
  const folder = join(root, name);
  mkdirSync(folder);
  writeFileSync(
    join(folder, 'config.json'),
    JSON.stringify({ ...config, quantization_config: quantization }),
  );
  const given = randomWeights(parametersOf(plain), { seed: 2, deviation: 0.1 });
  const tensors: TensorToWrite[] = [];
  const weights = new Map<string, Float32Array>();
  for (const [parameter, { dims, data }] of given) {
    const isCoded = /_proj\.weight$/.test(parameter);
    const encoded = isCoded && encode(parameter.replace(/\.weight$/, ''), dims[0]!, dims[1]!);
    tensors.push(...(encoded ? encoded.tensors : [F32(parameter, [...dims], data as Float32Array)]));
    weights.set(parameter, encoded ? encoded.values : (data as Float32Array));
  }
  await writeSafetensors(join(folder, 'model.safetensors'), tensors, { format: 'pt' });
  return { folder, weights };
}

const compressedTensors = { quant_method: 'compressed-tensors', format: 'pack-quantized' };
const CASES: Readonly<Record<string, readonly [object, Encode, bits: number, exact: boolean]>> = {
  'FP8 in blocks': [
    { quant_method: 'fp8', weight_block_size: [64, 48] },
    fp8([64, 48], 'weight_scale_inv'),
    8,
    false,
  ],
  'FP8 by row': [{ quant_method: 'fbgemm_fp8' }, fp8(undefined, 'weight_scale'), 8, false],
  'FP8 as a whole': [
    { quant_method: 'compressed-tensors', format: 'float-quantized' },
    fp8(undefined, 'weight_scale', false),
    8,
    false,
  ],
  'compressed-tensors, 4 bits': [compressedTensors, compressed(4, 32), 4, true],
  'compressed-tensors, 4 bits with zeros': [compressedTensors, compressed(4, 32, 'some'), 8, true],
  'compressed-tensors, 8 bits': [compressedTensors, compressed(8, 32), 8, true],
  'GPTQ, symmetric': [
    { quant_method: 'gptq', bits: 4, group_size: 32 },
    gptq(4, 32, 'symmetric', 1),
    4,
    true,
  ],
  'GPTQ with zeros': [{ quant_method: 'gptq', bits: 4 }, gptq(4, 32, 'zeros', 1), 8, true],
  'GPTQ of the second form': [
    { quant_method: 'gptq', bits: 4, checkpoint_format: 'gptq_v2' },
    gptq(4, 32, 'zeros', 0),
    8,
    true,
  ],
  'GPTQ in another order': [
    { quant_method: 'gptq', bits: 4, desc_act: true },
    gptq(4, 32, 'reordered', 1),
    8,
    false,
  ],
  'GPTQ, 8 bits': [{ quant_method: 'gptq', bits: 8 }, gptq(8, 16, 'symmetric', 1), 8, false],
  AWQ: [{ quant_method: 'awq', bits: 4, version: 'gemm', zero_point: true }, awq, 8, true],
};

describe.each(Object.entries(CASES))('%s', (name, [quantization, encode, bits, exact]) => {
  test('every number, packed as far as kernels go', async () => {
    const { folder, weights } = await written(name, quantization, encode);
    const model = await readModel(folder);
    const read = await readWeights(folder, model);
    expect([...read.keys()]).toEqual([...weights.keys()]);
    for (const [parameter, values] of weights) expect(read.get(parameter)!.data, parameter).toEqual(values);

    const located = await locateWeights(folder, model);
    const packed = [...located].filter(([, weight]) => isQuantized(weight));
    expect(packed).toHaveLength(7);
    for (const [parameter, weight] of packed) {
      if (!isQuantized(weight)) continue;
      expect(weight.bits, parameter).toBe(bits);
      const values = dequantizeBlocks(
        weight as unknown as QuantizedBlocks,
        weight.dims.at(-1)!,
        weight.bits,
        weight.block,
      );
      const error = relativeError(values, weights.get(parameter)!);
      expect(error, parameter).toBeLessThan(exact ? 1e-12 : 0.008);
    }

    if (name !== 'FP8 in blocks' && name !== 'GPTQ, symmetric') return;
    for (const kind of ['cpu', 'wasm'] as const) {
      const device = await openDevice(kind, { threads: 1 });
      const ids = [[3, 14, 15, 9, 2, 6]];
      const wide = await reader(device, model, read);
      const few = await reader(device, model, located);
      const error = relativeError(await few.inPieces(ids, [6]), await wide.inPieces(ids, [6]));
      expect(error, kind).toBeLessThan(0.03);
      await wide.dispose();
      await few.dispose();
      await device.dispose();
    }
  });
});

test('experts, each stored on its own, are packed one below the other', async () => {
  const { folder: jamba, ids } = await readReference('hf', 'jamba');
  const base = JSON.parse(readFileSync(join(jamba, 'config.json'), 'utf8'));
  const folder = join(root, 'experts');
  mkdirSync(folder);
  const json = { ...base, quantization_config: { quant_method: 'gptq', bits: 4 } };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(json));
  // Every other expert takes more than 4 bits, so that all are kept in 8.
  const kinds = [gptq(4, 32, 'symmetric', 1), gptq(4, 32, 'zeros', 1)];
  const model = modelFromConfig(base, 'config.json');
  const given = randomWeights(parametersOf(model), { seed: 2, deviation: 0.1 });
  const tensors: TensorToWrite[] = [];
  const values = new Map<string, number[]>();
  for (const spec of parametersOf(model)) {
    const data = given.get(spec.name)!.data as Float32Array;
    if (!spec.name.endsWith('experts.gate_up_proj')) {
      let at = 0;
      for (const { name, shape } of spec.parts ?? [spec]) {
        const size = shape.reduce((a, b) => a * b, 1);
        tensors.push(F32(name, [...shape], data.subarray(at, at + size)));
        at += size;
      }
      continue;
    }
    const encoded = spec.parts!.map(({ name, shape: [rows, columns] }, i) =>
      kinds[(i >> 1) % 2]!(name.replace(/\.weight$/, ''), rows!, columns!),
    );
    tensors.push(...encoded.flatMap((each) => each.tensors));
    values.set(
      spec.name,
      encoded.flatMap((each) => [...each.values]),
    );
  }
  await writeSafetensors(join(folder, 'model.safetensors'), tensors, { format: 'pt' });
  const read = await readModel(folder);
  const [located, wide] = [await locateWeights(folder, read), await readWeights(folder, read)];
  expect(values.size).toBe(2);
  for (const [name, numbers] of values) {
    const { dims, bits, block, ...blocks } = located.get(name) as QuantizedTensor & QuantizedBlocks;
    expect([...dims, bits, block]).toEqual([4, 96, 32, 8, 32]);
    expect([...dequantizeBlocks(blocks, 32, bits, block)], name).toEqual(numbers);
    expect([...wide.get(name)!.data], name).toEqual(numbers);
  }
  const device = await openDevice('wasm', { threads: 1 });
  const [few, all] = [await reader(device, read, located), await reader(device, read, wide)];
  expect(relativeError(await few.inPieces(ids, [5, 1]), await all.inPieces(ids, [5, 1]))).toBeLessThan(0.03);
  for (const each of [few, all]) await each.dispose();
  await device.dispose();
});

describe('refused in words', () => {
  test.each([
    [{ quant_method: 'gptq', bits: 3 }, /quant_method "gptq" \(GPTQ\), bits 3/],
    [{ quant_method: 'awq', bits: 4, version: 'gemv' }, /quant_method "awq"/],
    [
      { quant_method: 'compressed-tensors', format: 'nvfp4-pack-quantized' },
      /quant_method "compressed-tensors"/,
    ],
    [
      { quant_method: 'modelopt', quant_algo: 'NVFP4' },
      /quant_method "modelopt" .*heddle pull owner\/name:Q4_K_M/,
    ],
  ])('%j', (quantization, words) => {
    const parse = () =>
      modelFromConfig({ ...config, quantization_config: quantization }, 'there/config.json');
    expect(parse).toThrow(ConfigError);
    expect(parse).toThrow(words);
  });

  test('tensors that do not belong together', async () => {
    const cut =
      (leaf: string, change?: (tensor: TensorToWrite) => TensorToWrite) =>
      (encode: Encode): Encode =>
      (module, rows, columns) => {
        const { tensors, values } = encode(module, rows, columns);
        const kept = tensors.filter(({ name }) => change || !name.endsWith(leaf));
        return {
          values,
          tensors: kept.map((tensor) => (change && tensor.name.endsWith(leaf) ? change(tensor) : tensor)),
        };
      };
    const gptqConfig = { quant_method: 'gptq', bits: 4 };
    for (const [i, [quantization, encode, words]] of (
      [
        [
          gptqConfig,
          cut('.qzeros')(gptq(4, 32, 'zeros', 1)),
          /lacks the tensor \S+_proj\.qzeros, which belongs to \S+_proj\.qweight/,
        ],
        [
          compressedTensors,
          cut('.weight_scale')(compressed(4, 32)),
          /lacks the tensor \S+\.weight_scale, which belongs/,
        ],
        [
          compressedTensors,
          cut('.weight_shape', (tensor) => ({ ...tensor, data: BigInt64Array.of(7n, 7n) }))(
            compressed(4, 32),
          ),
          /the tensor \S+\.weight_packed says that there are other than 4 or 8 bits in 32 for \[7,7\]/,
        ],
        [
          { quant_method: 'fp8', weight_block_size: [64, 64] },
          cut('.weight_scale_inv', (tensor) => F32(tensor.name, [5], [1, 1, 1, 1, 1]))(
            fp8([64, 64], 'weight_scale_inv'),
          ),
          /weight_scale_inv is \[5\], which is no number of blocks of \S+_proj\.weight \[\d+,\d+\]/,
        ],
        [
          { quant_method: 'fp8' },
          cut('.weight_scale_inv')(fp8([64, 64], 'weight_scale_inv')),
          /_proj\.weight is F8_E4M3/,
        ],
      ] as const
    ).entries()) {
      const { folder } = await written(`broken ${i}`, quantization, encode);
      const read = async () => readWeights(folder, await readModel(folder));
      await expect(read(), `${words}`).rejects.toThrow(CheckpointError);
      await expect(read()).rejects.toThrow(words);
    }
  });
});
