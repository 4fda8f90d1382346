/**
 * Reads weights that other programs have quantized: FP8 with scales by block, row or tensor; GPTQ, AWQ and compressed-tensors in 4 and 8 bits.
 * `decoded` presents a folder's files as if each such matrix were one float32 tensor with the name of the weight; devices with quantized
 * products get it in their own block format.
 *
 * Sources: transformers' finegrained_fp8, compressed-tensors' pack_quantized, AutoGPTQ's and AutoAWQ's own linear layers.
 */
import { z } from 'zod';
import {
  awqCodeAt,
  codeAt,
  expectShape,
  type Float8,
  type GroupedIntegers,
  isFloat8,
  type PackedMatrix,
  packGrouped,
  quantizeBlocks,
  type TypedTensor,
  type WeightFiles,
  type WeightInfo,
  widenFloat8,
  widenGrouped,
} from '../checkpoint/index.js';
import { CheckpointError } from '../errors.js';

const bits = z.union([z.literal(4), z.literal(8)]);

const schema = z.discriminatedUnion('quant_method', [
  z.looseObject({
    quant_method: z.enum(['fp8', 'fbgemm_fp8']),
    weight_block_size: z.tuple([z.number().int().positive(), z.number().int().positive()]).nullish(),
  }),
  z.looseObject({
    quant_method: z.literal('gptq'),
    bits,
    checkpoint_format: z.enum(['gptq', 'gptq_v2']).nullish(),
  }),
  z.looseObject({
    quant_method: z.literal('awq'),
    bits: z.literal(4),
    version: z.string().toLowerCase().pipe(z.literal('gemm')).nullish(),
  }),
  z.looseObject({
    quant_method: z.literal('compressed-tensors'),
    format: z.enum(['pack-quantized', 'int-quantized', 'float-quantized', 'naive-quantized']),
    sparsity_config: z.looseObject({ format: z.literal('dense').optional() }).nullish(),
  }),
]);

/** The `quantization_config` of a checkpoint that another program quantized. */
export type ForeignQuantization = z.output<typeof schema>;

/** The supported formats of a `quantization_config`; undefined for others. */
export function foreignQuantization(value: unknown): ForeignQuantization | undefined {
  const result = schema.safeParse(value);
  return result.success ? result.data : undefined;
}

/** A matrix that is stored as several tensors. */
interface Coded {
  readonly shape: readonly [rows: number, columns: number];
  /** The names of those tensors. */
  readonly from: readonly string[];
  read(): Promise<Float32Array>;
  pack(): Promise<PackedMatrix>;
}

/** The files of a folder, with each coded matrix as a single tensor. */
export interface DecodedWeights extends WeightFiles {
  /** Whether a tensor is a coded matrix. */
  isCoded(name: string): boolean;
  /** A coded matrix in the devices' block format. */
  packed(name: string): Promise<PackedMatrix>;
  /** The names of the stored tensors that make up a tensor. */
  sources(name: string): readonly string[];
}

/** Scales for quantized activations, which are ignored. */
const HELPERS =
  /\.(?:(?:input|output|[qkv])_(?:scale|zero_point)|(?:input|activation)_scale(?:_inv)?|weight_shape|weight_g_idx)$/;

/** Presents `files` decoded. Throws `CheckpointError` with the tensor's name if the tensors of a matrix are inconsistent. */
export async function decoded(
  files: WeightFiles,
  how: ForeignQuantization | undefined,
): Promise<DecodedWeights> {
  const coded = new Map<string, Coded>();
  if (how) {
    for (const name of files.tensors.keys()) {
      const found = await codedAt(files, how, name);
      if (found) coded.set(...found);
    }
  }
  const hidden = new Set([...coded.values()].flatMap(({ from }) => from));
  const tensors = new Map<string, WeightInfo>(
    [...files.tensors].filter(([name]) => !hidden.has(name) && !(how && HELPERS.test(name))),
  );
  for (const [name, { shape, from }] of coded) {
    const info = files.tensors.get(from[0]!)!;
    tensors.set(name, { ...info, dtype: 'F32', shape, byteOffset: 0, byteLength: 4 * shape[0] * shape[1] });
  }
  return {
    path: files.path,
    absent: files.absent,
    tensors,
    read: async (name) => {
      const matrix = coded.get(name);
      return matrix ? { dtype: 'F32', shape: matrix.shape, data: await matrix.read() } : files.read(name);
    },
    readFloat32: (name) => coded.get(name)?.read() ?? files.readFloat32(name),
    readFloat32Into: async (name, target) => {
      const matrix = coded.get(name);
      if (matrix) target.set(await matrix.read());
      else await files.readFloat32Into(name, target);
    },
    close: () => files.close(),
    isCoded: (name) => coded.has(name),
    packed: (name) => coded.get(name)!.pack(),
    sources: (name) => coded.get(name)?.from ?? [name],
  };
}

/** The coded matrix whose main tensor has this name, and the name of its weight. */
async function codedAt(
  files: WeightFiles,
  how: ForeignQuantization,
  name: string,
): Promise<readonly [weight: string, Coded] | undefined> {
  const info = files.tensors.get(name)!;
  const [, module, leaf] = /^(.*)\.([^.]+)$/.exec(name) ?? [];
  if (module === undefined) return undefined;
  const beside = (...leaves: string[]): string | undefined =>
    leaves.map((each) => `${module}.${each}`).find((each) => files.tensors.has(each));
  const of = (matrix: Coded): readonly [string, Coded] => [`${module}.weight`, matrix];
  if (leaf === 'weight' && info.shape.length === 2 && (isFloat8(info.dtype) || info.dtype === 'I8')) {
    const scale = beside('weight_scale_inv', 'weight_scale');
    if (scale === undefined) return undefined;
    const block = 'weight_block_size' in how ? (how.weight_block_size as [number, number] | null) : undefined;
    const zero = beside('weight_zero_point');
    if (zero) throw unread(files, zero, 'zeros of weights in 8 bits');
    return of(scaledBlocks(files, name, scale, block ?? undefined));
  }
  if (leaf === 'weight_packed') return of(await compressed(files, module));
  if (leaf === 'qweight' && how.quant_method === 'gptq') {
    return of(gptq(files, module, how.bits, how.checkpoint_format === 'gptq_v2' ? 0 : 1));
  }
  if (leaf === 'qweight' && how.quant_method === 'awq') return of(awq(files, module));
  return undefined;
}

function unread(files: WeightFiles, name: string, what: string): CheckpointError {
  return new CheckpointError(
    `${files.tensors.get(name)!.path}: the tensor ${name} says that there are ${what}, which are not read. Take the model that it was made from, in bfloat16, or a GGUF file of it.`,
  );
}

/** An 8-bit matrix with a scale for each block; blocks have the given size, or divide the matrix equally by the number of scales. */
function scaledBlocks(
  files: WeightFiles,
  name: string,
  scaleName: string,
  given: readonly [number, number] | undefined,
): Coded {
  const [rows, columns] = files.tensors.get(name)!.shape as [number, number];
  const scale = files.tensors.get(scaleName)!;
  const [down = 1, across = 1] = scale.shape;
  const isGiven = given && down === Math.ceil(rows / given[0]) && across === Math.ceil(columns / given[1]);
  const [height, width] = isGiven ? given : [rows / down, columns / across];
  if (!Number.isInteger(height) || !Number.isInteger(width) || scale.shape.length > 2) {
    throw new CheckpointError(
      `${scale.path}: the tensor ${scaleName} is [${scale.shape}], which is no number of blocks of ${name} [${rows},${columns}]`,
    );
  }
  const read = async (): Promise<Float32Array> => {
    const [stored, scales] = [await files.read(name), await files.readFloat32(scaleName)];
    const values = isFloat8(stored.dtype)
      ? widenFloat8(stored.dtype as Float8, stored.data as Uint8Array)
      : Float32Array.from(stored.data as Int8Array);
    for (let row = 0; row < rows; row++) {
      const first = Math.floor(row / height) * across;
      for (let column = 0; column < columns; column++) {
        values[row * columns + column]! *= scales[first + Math.floor(column / width)]!;
      }
    }
    return values;
  };
  return {
    shape: [rows, columns],
    from: [name, scaleName],
    read,
    pack: async () => ({ bits: 8, block: 32, ...quantizeBlocks(await read(), columns, 8, 32, name) }),
  };
}

function grouped(
  shape: readonly [number, number],
  from: readonly (string | undefined)[],
  load: () => Promise<GroupedIntegers>,
): Coded {
  return {
    shape,
    from: from.filter((name) => name !== undefined),
    read: async () => widenGrouped(await load()),
    pack: async () => packGrouped(await load()),
  };
}

const wordsOf = ({ data }: TypedTensor): Int32Array =>
  data instanceof Int32Array ? data : new Int32Array(data.buffer, data.byteOffset, data.length);

async function compressed(files: WeightFiles, module: string): Promise<Coded> {
  const name = `${module}.weight_packed`;
  const { dtype, shape } = files.tensors.get(name)!;
  const scaleName = `${module}.weight_scale`;
  const scale = required(files, scaleName, name);
  const shapeName = `${module}.weight_shape`;
  required(files, shapeName, name);
  const [rows, words] = shape as [number, number];
  const [said, columns] = Array.from((await files.read(shapeName)).data, Number) as [number, number];
  const width = [4, 8].find((each) => Math.ceil(columns / (32 / each)) === words);
  if (dtype !== 'I32' || said !== rows || !width) {
    throw unread(files, name, `other than 4 or 8 bits in 32 for [${said},${columns}] weights`);
  }
  const groups = scale.shape[1] ?? 1;
  expectShape(scale, scaleName, scale.shape.length === 1 ? [rows] : [rows, groups]);
  const each = 32 / width;
  const zeroName = `${module}.weight_zero_point`;
  const zero = files.tensors.get(zeroName);
  if (zero) expectShape(zero, zeroName, [Math.ceil(rows / each), groups]);
  const groupName = `${module}.weight_g_idx`;
  const from = [
    name,
    scaleName,
    zero && zeroName,
    shapeName,
    files.tensors.has(groupName) ? groupName : undefined,
  ];
  return grouped([rows, columns], from, async () => {
    const stored = wordsOf(await files.read(name));
    const zeros = zero && wordsOf(await files.read(zeroName));
    const given = files.tensors.has(groupName)
      ? Array.from((await files.read(groupName)).data, Number)
      : undefined;
    // -1 means that groups were not reordered.
    const groupOf = given?.every((group) => group >= 0 && group < groups) ? given : undefined;
    const size = Math.ceil(columns / groups);
    const codes = new Int16Array(rows * columns);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const group = groupOf?.[column] ?? Math.floor(column / size);
        // Zero points are packed along the rows, group by group.
        const middle = zeros
          ? (zeros[Math.floor(row / each) * groups + group]! >>> (width * (row % each))) & (2 ** width - 1)
          : 2 ** (width - 1);
        codes[row * columns + column] = codeAt(stored, row * words, column, width) - middle;
      }
    }
    return { rows, columns, codes, scales: await files.readFloat32(scaleName), groups, groupOf };
  });
}

function gptq(files: WeightFiles, module: string, width: number, offset: 0 | 1): Coded {
  const name = `${module}.qweight`;
  const [words, rows] = files.tensors.get(name)!.shape as [number, number];
  const each = 32 / width;
  const columns = words * each;
  const scale = required(files, `${module}.scales`, name);
  const zero = required(files, `${module}.qzeros`, name);
  const groups = scale.shape[0]!;
  expectShape(scale, `${module}.scales`, [groups, rows]);
  expectShape(zero, `${module}.qzeros`, [groups, rows / each]);
  const groupName = files.tensors.has(`${module}.g_idx`) ? `${module}.g_idx` : undefined;
  const from = [name, `${module}.scales`, `${module}.qzeros`, groupName];
  return grouped([rows, columns], from, async () => {
    const [codesOf, zeros] = [wordsOf(await files.read(name)), wordsOf(await files.read(`${module}.qzeros`))];
    const groupOf = groupName ? Array.from((await files.read(groupName)).data as Int32Array) : undefined;
    const size = Math.ceil(columns / groups);
    const codes = new Int16Array(rows * columns);
    for (let column = 0; column < columns; column++) {
      const group = groupOf?.[column] ?? Math.floor(column / size);
      for (let row = 0; row < rows; row++) {
        const word = codesOf[Math.floor(column / each) * rows + row]!;
        const code = (word >>> (width * (column % each))) & (2 ** width - 1);
        // The format stores the zero point minus 1, so that 0 has wrapped around.
        const middle = (codeAt(zeros, (group * rows) / each, row, width) + offset) & (2 ** width - 1);
        codes[row * columns + column] = code - middle;
      }
    }
    return { rows, columns, codes, scales: await turned(files, `${module}.scales`), groups, groupOf };
  });
}

function awq(files: WeightFiles, module: string): Coded {
  const name = `${module}.qweight`;
  const [columns, words] = files.tensors.get(name)!.shape as [number, number];
  const rows = words * 8;
  const scale = required(files, `${module}.scales`, name);
  const zero = required(files, `${module}.qzeros`, name);
  const groups = scale.shape[0]!;
  expectShape(scale, `${module}.scales`, [groups, rows]);
  expectShape(zero, `${module}.qzeros`, [groups, words]);
  return grouped([rows, columns], [name, `${module}.scales`, `${module}.qzeros`], async () => {
    const [codesOf, zeros] = [wordsOf(await files.read(name)), wordsOf(await files.read(`${module}.qzeros`))];
    const size = Math.ceil(columns / groups);
    const codes = new Int16Array(rows * columns);
    for (let column = 0; column < columns; column++) {
      const group = Math.floor(column / size);
      for (let row = 0; row < rows; row++) {
        codes[row * columns + column] =
          awqCodeAt(codesOf, column * words, row) - awqCodeAt(zeros, group * words, row);
      }
    }
    return { rows, columns, codes, scales: await turned(files, `${module}.scales`), groups };
  });
}

function required(files: WeightFiles, name: string, besides: string): WeightInfo {
  const info = files.tensors.get(name);
  if (info) return info;
  throw new CheckpointError(
    `${files.path} lacks the tensor ${name}, which belongs to ${besides}: download the model again`,
  );
}

/** Scales [groups, rows] as [rows, groups]. */
async function turned(files: WeightFiles, name: string): Promise<Float32Array> {
  const [groups, rows] = files.tensors.get(name)!.shape as [number, number];
  const stored = await files.readFloat32(name);
  return Float32Array.from(
    { length: stored.length },
    (_, i) => stored[(i % groups) * rows + Math.floor(i / groups)]!,
  );
}
