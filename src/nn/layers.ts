/** Token-wise layers: linear maps, the embedding, norms, the MLP. */
import {
  add,
  broadcastTo,
  type Dim,
  divide,
  fill,
  gather,
  matmul,
  mean,
  multiply,
  rmsNorm as normalize,
  reshape,
  silu,
  split,
  sqrt,
  subtract,
  type Tensor,
  transpose,
} from '../graph/index.js';
import { chain, named, scale, stateless, together } from './compose.js';
import type { Mixer } from './mixer.js';
import { constantly, type Initializer, normal, type Parameters } from './parameters.js';

/** The standard deviation of initial embeddings, as in GPT-2 and Mamba. */
export const INITIAL_DEVIATION = 0.02;

/**
 * The standard deviation of initial matrices with this many inputs, as in PyTorch's linear layers. It is 0.02 at GPT-2's width of 768; in narrower
 * models 0.02 would make all products start near 0, and recall would emerge late or never.
 */
export function initialDeviation(inputs: number): number {
  return 1 / Math.sqrt(3 * inputs);
}

/** Options of `linear`. */
export interface LinearOptions {
  bias?: boolean;
  initialize?: Initializer;
  /** It is not quantized; see `ParameterSpec`. */
  precise?: boolean;
}

/**
 * x W^T + b with `weight` [outputs, inputs]: x [..., inputs] -> [..., outputs]. With an adapter (LoRA: Hu et al., 2021), W + scale B A replaces W
 * without being materialized, and its rows are multiplied by the adapter's factors, if any.
 */
export function linear(
  parameters: Parameters,
  x: Tensor,
  outputs: number,
  options: LinearOptions = {},
): Tensor {
  const inputs = x.shape.at(-1) as number;
  const plain = project(x, storedWeight(parameters, inputs, outputs, options));
  const adapter = parameters.adapter(inputs, outputs);
  const sum = adapter
    ? add(plain, project(multiply(project(x, adapter.A), adapter.scale), adapter.B))
    : plain;
  const product = adapter?.factors ? multiply(sum, adapter.factors) : sum;
  return options.bias ? add(product, parameters.get('bias', [outputs], constantly(0))) : product;
}

/**
 * The matrix [outputs, inputs] of `linear`, including its adapter, for layers that use parts of it. It is read as numbers, so it must be
 * `precise`.
 */
export function linearWeight(
  parameters: Parameters,
  inputs: number,
  outputs: number,
  options: LinearOptions & { precise: true },
): Tensor {
  const weight = storedWeight(parameters, inputs, outputs, options);
  const adapter = parameters.adapter(inputs, outputs);
  if (!adapter) return weight;
  const sum = add(weight, multiply(matmul(adapter.B, adapter.A), adapter.scale));
  return adapter.factors ? multiply(sum, reshape(adapter.factors, [outputs, 1])) : sum;
}

function storedWeight(
  parameters: Parameters,
  inputs: number,
  outputs: number,
  { initialize = normal(initialDeviation(inputs)), precise = false }: LinearOptions,
): Tensor {
  return parameters.get('weight', [outputs, inputs], initialize, { precise });
}

/** x W^T: x [..., inputs], weight [outputs, inputs] -> [..., outputs]. */
export function project(x: Tensor, weight: Tensor): Tensor {
  return matmul(x, weight, { transposeB: true });
}

/** Rows of `weight` [vocabulary, size] by token: int64 ids [...] -> [..., size]. */
export function embedding(parameters: Parameters, ids: Tensor, vocabulary: number, size: number): Tensor {
  return gather(embeddingTable(parameters, vocabulary, size), ids);
}

/** The embedding table, which tied models also use as the head. */
export function embeddingTable(parameters: Parameters, vocabulary: number, size: number): Tensor {
  return parameters.get('weight', [vocabulary, size], normal(INITIAL_DEVIATION));
}

/** Options of `rmsNorm`. */
export interface RmsNormOptions {
  epsilon: number;
  /** Normalises this many equal groups of the last axis separately. */
  groups?: number;
  /** Multiplies by 1 + weight, as Gemma does: weights decay towards 1. */
  zeroCentered?: boolean;
  /** Initial value of the weights; 1 by default. */
  initial?: number;
}

/** x / rms(x) * weight over the last axis. */
export function rmsNorm(
  parameters: Parameters,
  x: Tensor,
  { epsilon, groups = 1, zeroCentered = false, initial = 1 }: RmsNormOptions,
): Tensor {
  const size = x.shape.at(-1) as number;
  const stored = parameters.get('weight', [size], constantly(zeroCentered ? initial - 1 : initial));
  const weight = zeroCentered ? add(stored, 1) : stored;
  if (groups === 1) return normalize(x, weight, epsilon);
  const parts = reshape(x, [...x.shape.slice(0, -1), groups, size / groups]);
  return multiply(reshape(normalize(parts, fill([size / groups], 1), epsilon), x.shape), weight);
}

/** Options of `layerNorm`. */
export interface LayerNormOptions {
  /** Distinguishes these options from those of an RMS norm. */
  centered: true;
  epsilon: number;
  /** Normalises this many equal groups of the last axis separately. */
  groups?: number;
  /** The initial value of weights; 1 by default. */
  initial?: number;
  /** Whether it has a bias; it has by default. */
  bias?: boolean;
}

/** (x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias over the last axis (Ba et al., 2016, arXiv 1607.06450). */
export function layerNorm(
  parameters: Parameters,
  x: Tensor,
  { epsilon, groups = 1, initial = 1, bias = true }: LayerNormOptions,
): Tensor {
  const size = x.shape.at(-1) as number;
  const parts = reshape(x, [...x.shape.slice(0, -1), groups, size / groups]);
  const centered = subtract(parts, mean(parts, -1, { keepDims: true }));
  const variance = mean(multiply(centered, centered), -1, { keepDims: true });
  const scaled = reshape(divide(centered, sqrt(add(variance, epsilon))), x.shape);
  const weighted = multiply(scaled, parameters.get('weight', [size], constantly(initial)));
  return bias ? add(weighted, parameters.get('bias', [size], constantly(0))) : weighted;
}

/** The options of either norm; `centered` tells which. */
export type NormOptions = RmsNormOptions | LayerNormOptions;

/** A layer norm or an RMS norm, as the options say. */
export function normalizeBy(parameters: Parameters, x: Tensor, options: NormOptions): Tensor {
  return 'centered' in options ? layerNorm(parameters, x, options) : rmsNorm(parameters, x, options);
}

/** A norm as a layer of its own, called `name`. */
export function norm(name: string, options: NormOptions): Mixer {
  return named(
    name,
    stateless((parameters, x) => normalizeBy(parameters, x, options)),
  );
}

/**
 * Parallel mixers in one layer (Hymba: Dong et al., 2024, arXiv 2411.13676): the mean of their outputs, each normalised separately so that
 * no output dominates. Their parameters are under `mixers.N`, their norms under `norms.N`.
 */
export function sideBySide(mixers: readonly Mixer[], options: RmsNormOptions): Mixer {
  const branches = mixers.map((mixer, i) => chain(named(`mixers.${i}`, mixer), norm(`norms.${i}`, options)));
  return chain(together(...branches), scale(1 / mixers.length));
}

/** Activations of MLPs. */
export type Activation = (x: Tensor) => Tensor;

/** The sizes and the activation of an MLP. */
export interface MlpConfig {
  hiddenSize: number;
  intermediateSize: number;
  /** The standard deviation of the output projection; smaller in deep models, since residual branches add up. */
  outputDeviation: number;
  /** silu by default. */
  activation?: Activation;
  bias?: boolean;
}

/** The names of a gated MLP's projections; a fused projection of gate and value (in this order by default) has only `input`. */
export type GatedMlpNames =
  | { input: string; output: string; valueFirst?: true }
  | { gate: string; value: string; output: string };

/** The names of a gated MLP's projections in Llama's and most later checkpoints. */
export const LLAMA_MLP: GatedMlpNames = { gate: 'gate_proj', value: 'up_proj', output: 'down_proj' };

/** output(activation(gate(x)) * value(x)): with silu it is SwiGLU (Shazeer, 2020). */
export function gatedMlp(
  config: MlpConfig & {
    names: GatedMlpNames;
    /** Multiplies the gate before its activation. */
    gateFactor?: number;
  },
): Mixer {
  const { intermediateSize, activation = silu, gateFactor = 1, names } = config;
  return stateless((parameters, x) => {
    const project = (name: string, outputs: number): Tensor =>
      parameters.within(name, (p) => linear(p, x, outputs, { bias: config.bias ?? false }));
    const [gate, value] =
      'input' in names
        ? halves(project(names.input, 2 * intermediateSize), names.valueFirst ?? false)
        : [project(names.gate, intermediateSize), project(names.value, intermediateSize)];
    const opened = activation(gateFactor === 1 ? gate : multiply(gate, gateFactor));
    return mlpOutput(parameters, names.output, multiply(opened, value), config);
  });
}

function halves(x: Tensor, swapped: boolean): [Tensor, Tensor] {
  const half = (x.shape.at(-1) as number) / 2;
  const [first, second] = split(x, -1, [half, half]) as [Tensor, Tensor];
  return swapped ? [second, first] : [first, second];
}

/** The SwiGLU layer of our own models; gate and value come from one projection. */
export function mlp(config: MlpConfig): Mixer {
  return gatedMlp({ ...config, names: { input: 'input_linear', output: 'output_linear' } });
}

/** down_proj(activation(up_proj(x))) */
export function plainMlp(config: MlpConfig & { activation: Activation }): Mixer {
  return stateless((parameters, x) => {
    const inner = parameters.within('up_proj', (p) =>
      linear(p, x, config.intermediateSize, { bias: config.bias ?? false }),
    );
    return mlpOutput(parameters, 'down_proj', config.activation(inner), config);
  });
}

function mlpOutput(parameters: Parameters, name: string, x: Tensor, config: MlpConfig): Tensor {
  const { hiddenSize, outputDeviation, bias = false } = config;
  return parameters.within(name, (p) =>
    linear(p, x, hiddenSize, { bias, initialize: normal(outputDeviation) }),
  );
}

/** [batch, sequence, heads * size] -> [batch, heads, sequence, size] */
export function splitHeads(x: Tensor, heads: number): Tensor {
  const [batch, sequence, width] = x.shape as [Dim, Dim, number];
  return transpose(reshape(x, [batch, sequence, heads, width / heads]), [0, 2, 1, 3]);
}

/** [batch, heads, sequence, size] -> [batch, sequence, heads * size] */
export function mergeHeads(x: Tensor): Tensor {
  const [batch, heads, sequence, size] = x.shape as [Dim, number, Dim, number];
  return reshape(transpose(x, [0, 2, 1, 3]), [batch, sequence, heads * size]);
}

/** A number for each head, [..., heads], repeated for each of its `size` channels: [..., heads * size]. */
export function perChannel(x: Tensor, size: number): Tensor {
  return reshape(broadcastTo(reshape(x, [...x.shape, 1]), [...x.shape, size]), [
    ...x.shape.slice(0, -1),
    (x.shape.at(-1) as number) * size,
  ]);
}
