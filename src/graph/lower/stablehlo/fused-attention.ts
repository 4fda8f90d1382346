/**
 * Attention as a call of cuDNN, which never writes the attention weights to memory (FlashAttention, Dao et al., 2022, arXiv 2205.14135): XLA's
 * custom calls `__cudnn$fmhaSoftmax` and `__cudnn$fmhaSoftmaxBackward` for NVIDIA GPUs, as JAX emits them. Past and new keys are two calls,
 * whose outputs are combined with weights from their sums of exponentials (as in FlashDecoding).
 */
import type { AttentionOptions } from '../../ops/attention.js';
import type { StableHloBuilder } from './builder.js';
import { customCall } from './custom-call.js';
import type { Plain, Value } from './value.js';

/** The largest head size of cuDNN's kernels. */
const LARGEST_HEAD = 128;
/** Sequences must be a multiple of this length. */
const TILE = 64;
/** A logit whose exp() is 0. */
const NEVER = -1e30;

type Operands = readonly (Value | undefined)[];

/** The result of one call: its output `mix` [batch, heads, sequence, size], and the logsumexp of the logits. */
interface Seen {
  readonly mix: Plain;
  readonly logTotal: Plain;
}

/** The output of attention [batch, heads, sequence, valueDim]; undefined if cuDNN has no kernel for it. */
export function fusedAttention(
  builder: StableHloBuilder,
  [query, key, value, bias, pastKey, pastValue, lengths]: Operands,
  options: AttentionOptions,
): Plain | undefined {
  if (bias || !fits(builder, query!, key!, value, options)) return undefined;
  const [q, k, v] = [query!, key!, value!].map((x) => inTime(builder, builder.narrow(x))) as [
    Plain,
    Plain,
    Plain,
  ];
  const own = forward(builder, [q, k, v], options.causal ? 'CAUSAL' : 'NO_MASK', options.scale);
  if (!pastKey) return own.mix;
  if (pastKey.dims[2]! % TILE !== 0) return undefined;
  const past = [pastKey, pastValue!].map((x) => inTime(builder, builder.narrow(x))) as [Plain, Plain];
  const [batch, sequence] = q.dims as [number, number];
  const held = builder.broadcast(builder.reshape(builder.as(builder.plain(lengths!), 'i32'), lengths!.dims), [
    batch,
  ]);
  const rows = builder.splat(sequence, 'i32', [batch]);
  const before = forward(builder, [q, ...past, rows, held], 'PADDING', options.scale);
  // cuDNN's output is undefined for a row without past keys.
  const isThere = builder.reshape(builder.compare('GT', held, builder.splat(0, 'i32')), [batch, 1, 1]);
  const logTotal = builder.select(isThere, before.logTotal, builder.splat(NEVER, 'f32'));
  const top = builder.binary('maximum', logTotal, own.logTotal);
  const share = (x: Plain): Plain => {
    const relative = builder.unary('exponential', builder.binary('subtract', x, top));
    return builder.reshape(relative, [...relative.dims, 1]);
  };
  const [ofPast, ofOwn] = [share(logTotal), share(own.logTotal)];
  const isThereWide = builder.reshape(isThere, [batch, 1, 1, 1]);
  const pastMix = builder.select(isThereWide, builder.wide(before.mix), builder.splat(0, 'f32'));
  const mixed = builder.binary(
    'add',
    builder.binary('multiply', pastMix, ofPast),
    builder.binary('multiply', builder.wide(own.mix), ofOwn),
  );
  return builder.narrow(builder.binary('divide', mixed, builder.binary('add', ofPast, ofOwn)));
}

/** dL/dq, dL/dk and dL/dv of `attentionGradient`; undefined if cuDNN has no kernel for it. */
export function fusedAttentionGradient(
  builder: StableHloBuilder,
  [query, key, value, g]: Operands,
  options: AttentionOptions,
): Plain[] | undefined {
  if (!fits(builder, query!, key!, value, options)) return undefined;
  const [q, k, v, dy] = [query!, key!, value!, g!].map((x) => inTime(builder, builder.narrow(x))) as [
    Plain,
    Plain,
    Plain,
    Plain,
  ];
  const mask = options.causal ? 'CAUSAL' : 'NO_MASK';
  // The same instruction as in the forward pass; the builder deduplicates equal instructions.
  const { mix, logTotal } = forward(builder, [q, k, v], mask, options.scale);
  const operands = [q, k, v, logTotal, dy, inTime(builder, mix)];
  const results = [q, k, v].map(({ element, dims: [batch, tokens, heads, size] }) => ({
    element,
    dims: [batch!, heads!, tokens!, size!],
  }));
  return call(builder, 'fmhaSoftmaxBackward', operands, results, {
    ...config(builder, q, k, mask, options.scale),
    bmm1_grad_gemm1_dot_dimension_numbers: axes([2], [1], [0, 1], [0, 2]),
    bmm1_grad_gemm2_dot_dimension_numbers: axes([3], [1], [0, 1], [0, 2]),
    bmm2_grad_gemm1_dot_dimension_numbers: axes([2], [1], [0, 1], [0, 2]),
    bmm2_grad_gemm2_dot_dimension_numbers: axes([3], [3], [0, 2], [0, 2]),
    ...unused,
  });
}

function fits(
  builder: StableHloBuilder,
  query: Value,
  key: Value,
  value: Value | undefined,
  { window, valueSize }: AttentionOptions,
): boolean {
  const [batch, , sequence, headDim] = query.dims as [number, number, number, number];
  return (
    builder.mayCall('cudnn', batch) &&
    builder.precision === 'bfloat16' &&
    value !== undefined &&
    valueSize === undefined &&
    window === undefined &&
    value.dims[3] === headDim &&
    headDim % 8 === 0 &&
    headDim <= LARGEST_HEAD &&
    sequence % TILE === 0 &&
    key.dims[2]! % TILE === 0
  );
}

/** [batch, heads, sequence, size] -> [batch, sequence, heads, size], the layout of cuDNN's operands. */
function inTime(builder: StableHloBuilder, x: Plain): Plain {
  return builder.transpose(x, [0, 2, 1, 3]);
}

/**
 * The forward call: queries, keys and values [batch, tokens, heads, size]; with a padding mask, i32 [batch] lengths of queries and keys.
 */
function forward(
  builder: StableHloBuilder,
  operands: readonly Plain[],
  mask: 'CAUSAL' | 'NO_MASK' | 'PADDING',
  scale: number,
): Seen {
  const [q, k] = operands as [Plain, Plain];
  const [batch, tokens, heads, size] = q.dims as [number, number, number, number];
  const results = [
    { element: q.element, dims: [batch, heads, tokens, size] },
    { element: 'f32' as const, dims: [batch, heads, tokens] },
  ];
  const [mix, logTotal] = call(builder, 'fmhaSoftmax', operands, results, {
    ...config(builder, q, k, mask, scale),
    bmm1_dot_dimension_numbers: axes([3], [3], [0, 2], [0, 2]),
    bmm2_dot_dimension_numbers: axes([3], [1], [0, 1], [0, 2]),
    ...unused,
  }) as [Plain, Plain];
  return { mix, logTotal };
}

/** A custom call. Results of four axes have a layout with tokens before heads. */
function call(
  builder: StableHloBuilder,
  target: string,
  operands: readonly Plain[],
  results: readonly Pick<Plain, 'element' | 'dims'>[],
  settings: Readonly<Record<string, unknown>>,
): Plain[] {
  const text = JSON.stringify({
    operation_queue_id: '0',
    cudnn_fmha_backend_config: settings,
  }).replaceAll('"', '\\22');
  // The last result is the call's workspace.
  const workspace = { element: 'ui8' as const, dims: [0], isScratch: true };
  const placed = results.map((result) =>
    result.dims.length === 4 ? { ...result, layout: [3, 1, 2, 0] } : result,
  );
  return customCall(builder, {
    target: `__cudnn$${target}`,
    attributes: `api_version = 2 : i32, backend_config = "${text}"`,
    operands,
    results: [...placed, workspace],
  }).slice(0, -1);
}

function axes(
  left: readonly number[],
  right: readonly number[],
  leftBatch: readonly number[],
  rightBatch: readonly number[],
): Record<string, string[]> {
  return {
    lhs_contracting_dimensions: left.map(String),
    rhs_contracting_dimensions: right.map(String),
    lhs_batch_dimensions: leftBatch.map(String),
    rhs_batch_dimensions: rightBatch.map(String),
  };
}

/** A call's configuration for the sequences of one device, in the fields of XLA's `CudnnfMHABackendConfig`. */
function config(
  { devices }: StableHloBuilder,
  q: Plain,
  k: Plain,
  mask: string,
  scale: number,
): Record<string, unknown> {
  const [batch, tokens, heads] = q.dims as [number, number, number];
  return {
    algorithm: {
      algo_id: '0',
      math_type: 'TENSOR_OP_MATH',
      tuning_knobs: { '17': '1', '24': '0' },
      is_cudnn_frontend: true,
      workspace_size: '0',
    },
    fmha_scale: scale,
    intermediate_tensor_shape: {
      element_type: 'BF16',
      dimensions: [batch / devices, heads, tokens, k.dims[1]!].map(String),
      tuple_shapes: [],
      layout: {
        dim_level_types: [],
        dim_unique: [],
        dim_ordered: [],
        minor_to_major: ['3', '2', '1', '0'],
        tiles: [],
        element_size_in_bits: '0',
        memory_space: '0',
        index_primitive_type: 'PRIMITIVE_TYPE_INVALID',
        pointer_primitive_type: 'PRIMITIVE_TYPE_INVALID',
        dynamic_shape_metadata_prefix_bytes: '0',
      },
      is_dynamic_dimension: [false, false, false, false],
    },
    is_flash_attention: true,
    mask_type: mask,
  };
}

/** Fields for dropout, windows, packed sequences and paged keys, which are not used. */
const unused = {
  dropout_rate: 0,
  seed: 42,
  sliding_window_length: 0,
  max_seg_per_batch: 1,
  is_paged_attention: false,
};
