/**
 * Quantized models. The matrices that tokens are multiplied with, those of experts among them, and the embedding, are kept in blocks of 4 or 8 bits;
 * what decides much with few numbers stays in float32: norms, biases, convolutions, time scales, routers, scores.
 *
 * A quantized folder is laid out as any other, with two tensors for such a matrix [rows, columns], whose rows are
 * ceil(columns / block_size) blocks: `NAME.codes` U8 [rows, blocks * block_size * bits / 8], of two 4-bit codes the first in
 * the lower half, and `NAME.scales` F32 [rows, blocks]; a value is scale * (code - 2^(bits - 1)). Those of experts have these axes
 * behind that of the experts. config.json says so in
 * `quantization_config`: `{"quant_method": "heddle", "bits": 4, "block_size": 64}`, with `"layers": {"S": 8}` where layers of some letters
 * have other bits.
 */
import { z } from 'zod';
import { heddleCommand } from '#platform';
import { type QuantizedBlocks, quantizeBlocks, quote } from '../checkpoint/index.js';
import { type HostTensor, isQuantized, type QuantizedTensor, type Weight } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { topologicalOrder } from '../graph/index.js';
import { ParameterRegistry } from '../nn/index.js';
import { IN_WORDS, problemsIn } from '../schema-issues.js';
import { ofLayer } from './layer-letters.js';
import { type Model, wholeOf } from './model.js';

/** Bits that a quantized weight may have. */
export const QUANTIZED_BITS = [4, 8] as const;
/** How many weights may share a scale. */
export const QUANTIZED_BLOCKS = [32, 64, 128] as const;
/** The one of them where nothing else is said. */
export const QUANTIZED_BLOCK = 64;

/** How matrices are quantized: the bits of a weight, and how many weights share a scale. */
export interface Quantization {
  readonly bits: (typeof QUANTIZED_BITS)[number];
  /** Columns that share a scale. */
  readonly block: (typeof QUANTIZED_BLOCKS)[number];
  /** Bits of the layers of some letters (pattern.ts), where they are others: 32 leaves them as they are. */
  readonly layers?: Readonly<Record<string, LayerBits>>;
}

/** Bits that the layers of a letter may have. */
export const LAYER_BITS = [...QUANTIZED_BITS, 32] as const;
/** How many bits a layer's matrices take: one of `LAYER_BITS`. */
export type LayerBits = (typeof LAYER_BITS)[number];

/** The bits of a parameter that quantization concerns: of mixers side by side those of its own letter come first. */
export function bitsOf(model: Model, { bits, layers = {} }: Quantization, name: string): LayerBits {
  return ofLayer(model, layers, name) ?? bits;
}

/** The method's name in a config. */
const METHOD = 'heddle';

const schema = z.strictObject({
  quant_method: z.literal(METHOD),
  bits: z.literal(QUANTIZED_BITS),
  block_size: z.literal(QUANTIZED_BLOCKS),
  layers: z.record(z.string(), z.literal(LAYER_BITS)).optional(),
});

/** What others quantize with, by the `quant_method` that transformers writes. */
const OTHERS: Readonly<Record<string, string>> = {
  fp8: 'FP8 in blocks, as DeepSeek, Qwen and Ling publish it',
  fbgemm_fp8: 'FP8 by row',
  modelopt: "NVIDIA's FP8 or FP4",
  gptq: 'GPTQ',
  awq: 'AWQ',
  'compressed-tensors': 'compressed-tensors, of vLLM',
  bitsandbytes: 'bitsandbytes',
  mxfp4: 'MXFP4',
  torchao: 'torchao',
  quark: "AMD's Quark",
  mlx: "Apple's MLX",
};

/**
 * What a config's `quantization_config` says. Throws `ConfigError`, which names the method and the way out, for what others have
 * quantized.
 */
export function quantizationFrom(value: unknown, path: string): Quantization {
  const result = schema.safeParse(value, IN_WORDS);
  if (result.success) {
    const { bits, block_size: block, layers } = result.data;
    return { bits, block, ...(layers && { layers }) };
  }
  const config = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  // MLX names no method, and its blocks in a way of its own.
  const method = config.quant_method ?? config.quant_algo ?? (config.group_size ? 'mlx' : undefined);
  if (method === METHOD) {
    throw new ConfigError(
      `${path} has a quantization_config that is not one of ours: ${problemsIn(result.error)}. Quantize the model again.`,
    );
  }
  const name = Object.hasOwn(OTHERS, String(method)) ? ` (${OTHERS[String(method)]})` : '';
  const bits = typeof config.bits === 'number' ? `, bits ${config.bits}` : '';
  throw new ConfigError(
    `${path} has a quantization_config with the quant_method ${quote(method ?? 'missing')}${name}${bits}: weights quantized so are not read. Take the model that it was made from, in float32, float16 or bfloat16, and quantize that with '${heddleCommand()} quantize'; or a GGUF file of it, with '${heddleCommand()} pull owner/name:Q4_K_M'.`,
  );
}

/** The same, for a config. */
export function quantizationJson({ bits, block, layers }: Quantization): Record<string, unknown> {
  return { quant_method: METHOD, bits, block_size: block, ...(layers && { layers }) };
}

/**
 * The largest blocks, up to those asked for, that rows of the model's width fill: others leave the embeddings as they are,
 * and longer reads are slower. Those asked for where none does.
 */
export function fittingBlocks({ hiddenSize }: Model, asked: Quantization): Quantization {
  const fitting = QUANTIZED_BLOCKS.filter((block) => block <= asked.block && hiddenSize % block === 0);
  return { ...asked, block: fitting.at(-1) ?? asked.block };
}

/** Fewer rows than this are not worth it. */
const FEWEST_ROWS = 32;

/** The names of the parameters that quantization concerns. */
export function quantizable(model: Model, quantization: Quantization): Set<string> {
  const { block } = quantization;
  const registry = new ParameterRegistry();
  const whole = wholeOf(model, registry);
  const names = new Map([...registry.tensors].map(([name, tensor]) => [tensor, name]));
  const fits = new Set(
    [...registry.specs.values()].flatMap(({ name, shape, precise }) =>
      !precise &&
      bitsOf(model, quantization, name) !== 32 &&
      shape.length >= 2 &&
      shape.at(-2)! >= FEWEST_ROWS &&
      shape.at(-1)! >= block
        ? [name]
        : [],
    ),
  );
  // Only as what the engine has kernels for: the transposed factor of a product, a table of rows, and experts.
  for (const { operator, inputs, attributes } of topologicalOrder(whole)) {
    for (const [place, operand] of inputs.entries()) {
      const name = operand && names.get(operand);
      if (name === undefined) continue;
      const { transposeA, transposeB } = (attributes ?? {}) as { transposeA?: boolean; transposeB?: boolean };
      const isMatrix = operand!.rank === 2;
      const isFactor = isMatrix && operator.name === 'matmul' && place === 1 && transposeB && !transposeA;
      const isTable =
        isMatrix && operator.name === 'gather' && place === 0 && (operand!.shape[1] as number) % block === 0;
      const isOfExperts = operator.name === 'experts' && place >= 2;
      if (!isFactor && !isTable && !isOfExperts) fits.delete(name);
    }
  }
  return fits;
}

/** How one of the parameters that quantization concerns is stored. */
export function codingOf(
  model: Model,
  quantization: Quantization,
  name: string,
): Pick<Quantization, 'bits' | 'block'> {
  const bits = bitsOf(model, quantization, name);
  return { bits: bits === 32 ? quantization.bits : bits, block: quantization.block };
}

/** A matrix, or those of experts, in blocks. Throws `CheckpointError` for values that are no numbers. */
export function quantizeMatrix(
  name: string,
  { dims, data }: HostTensor,
  { bits, block }: Pick<Quantization, 'bits' | 'block'>,
): QuantizedTensor & QuantizedBlocks {
  const { codes, scales } = quantizeBlocks(data as Float32Array, dims.at(-1)!, bits, block, name);
  return { dims, bits, block, codes, scales };
}

/** Bytes that a weight takes in memory. */
export function weightBytes(weight: Weight): number {
  if (!isQuantized(weight)) return 4 * weight.dims.reduce((a, b) => a * b, 1);
  const [codes, scales] = codedShapes(weight.dims, weight).map((dims) => dims.reduce((a, b) => a * b, 1));
  return codes! + 4 * scales!;
}

/** The shapes of a quantized matrix's codes and scales. */
export function codedShapes(
  dims: readonly number[],
  { bits, block }: { bits: number; block: number },
): [codes: number[], scales: number[]] {
  const rows = dims.slice(0, -1);
  const blocks = Math.ceil(dims.at(-1)! / block);
  return [
    [...rows, (blocks * block * bits) / 8],
    [...rows, blocks],
  ];
}
