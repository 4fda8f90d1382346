/**
 * Rotary frequencies for contexts longer than those trained on: `linear` (position interpolation), `llama3` and `yarn`
 * (Peng et al., 2023). `dynamic` changes them only beyond the trained length, which would invalidate cached keys, so it is treated as
 * `default`. The formulas are those of transformers' modeling_rope_utils.py.
 */
import { z } from 'zod';
import { quote } from '../../checkpoint/index.js';
import { ConfigError } from '../../errors.js';
import { type RopeConfig, ropeFrequencies } from '../../nn/index.js';
import { IN_WORDS, problemsIn } from '../../schema-issues.js';

const positive = z.number().positive();
const base = { rope_theta: z.number().gt(1), partial_rotary_factor: positive.max(1) };

const schema = z.discriminatedUnion('rope_type', [
  z.looseObject({ ...base, rope_type: z.literal('default') }),
  z.looseObject({ ...base, rope_type: z.literal('dynamic') }),
  z.looseObject({ ...base, rope_type: z.literal('linear'), factor: positive }),
  z.looseObject({
    ...base,
    rope_type: z.literal('llama3'),
    factor: positive,
    low_freq_factor: positive,
    high_freq_factor: positive,
    original_max_position_embeddings: positive.nullish(),
  }),
  z.looseObject({
    ...base,
    rope_type: z.literal('yarn'),
    factor: positive.nullish(),
    original_max_position_embeddings: positive.nullish(),
    attention_factor: positive.nullish(),
    beta_fast: positive.nullish(),
    beta_slow: positive.nullish(),
    mscale: z.number().nullish(),
    mscale_all_dim: z.number().nullish(),
    truncate: z.boolean().default(true),
  }),
]);

const TYPES = schema.options.map(({ shape }) => shape.rope_type.value);

type Rope = z.output<typeof schema>;
type Yarn = Extract<Rope, { rope_type: 'yarn' }>;
type Llama3 = Extract<Rope, { rope_type: 'llama3' }>;

/** The rotary positions of heads of size `headDim`. Throws `ConfigError` for an unknown kind. */
export function ropeFrom(
  parameters: Readonly<Record<string, unknown>>,
  headDim: number,
  maxPositions: number | undefined,
): RopeConfig {
  const fail = (problem: string): ConfigError =>
    new ConfigError(`the rotary positions (rope_parameters, rope_scaling) ${problem}`);
  const { rope_type: type } = parameters;
  if (!TYPES.some((known) => known === type)) {
    throw fail(`have the rope_type ${quote(type)}; known are ${TYPES.join(', ')}`);
  }
  const result = schema.safeParse(parameters, IN_WORDS);
  if (!result.success) throw fail(`cannot be used: ${problemsIn(result.error)}`);
  const rope = result.data;
  const size = Math.trunc(headDim * rope.partial_rotary_factor);
  if (size < 2 || size % 2 !== 0) {
    throw new ConfigError(
      `${size} of ${headDim} elements of a head (partial_rotary_factor ${rope.partial_rotary_factor}) cannot rotate in pairs`,
    );
  }
  const scaled = rescaled(ropeFrequencies(rope.rope_theta, size), rope, maxPositions);
  if (![...scaled.frequencies, scaled.factor ?? 1].every(Number.isFinite)) {
    throw fail(`of type ${rope.rope_type} give no frequencies that are numbers: check their factors`);
  }
  return scaled;
}

function rescaled(frequencies: Float32Array, rope: Rope, maxPositions: number | undefined): RopeConfig {
  switch (rope.rope_type) {
    case 'default':
    case 'dynamic':
      return { frequencies };
    case 'linear':
      return { frequencies: frequencies.map((f) => f / rope.factor) };
    case 'llama3':
      return { frequencies: llama3(frequencies, rope, trainedLength(rope, maxPositions)) };
    case 'yarn':
      return yarn(frequencies, rope, trainedLength(rope, maxPositions), maxPositions);
  }
}

function trainedLength(
  { original_max_position_embeddings: original }: Llama3 | Yarn,
  maxPositions: number | undefined,
): number {
  const length = original ?? maxPositions;
  if (length === undefined)
    throw new ConfigError('the rotary positions need original_max_position_embeddings');
  return length;
}

/** Long wavelengths are scaled, short ones kept, and those in between interpolated. */
function llama3(frequencies: Float32Array, rope: Llama3, trained: number): Float32Array {
  const { factor, low_freq_factor: low, high_freq_factor: high } = rope;
  if (high <= low) {
    throw new ConfigError(`high_freq_factor (${high}) must be greater than low_freq_factor (${low})`);
  }
  return frequencies.map((f) => {
    const turns = (trained * f) / (2 * Math.PI);
    if (turns < low) return f / factor;
    if (turns > high) return f;
    const share = (turns - low) / (high - low);
    return ((1 - share) * f) / factor + share * f;
  });
}

function yarn(
  frequencies: Float32Array,
  rope: Yarn,
  trained: number,
  maxPositions: number | undefined,
): RopeConfig {
  const size = 2 * frequencies.length;
  const factor = rope.factor ?? (maxPositions ?? trained) / trained;
  // The dimension that makes this many rotations within the trained length.
  const pairOf = (turns: number): number =>
    (size * Math.log(trained / (turns * 2 * Math.PI))) / (2 * Math.log(rope.rope_theta));
  const round = (f: (x: number) => number, x: number): number => (rope.truncate ? f(x) : x);
  const low = Math.max(round(Math.floor, pairOf(rope.beta_fast ?? 32)), 0);
  const high = Math.min(round(Math.ceil, pairOf(rope.beta_slow ?? 1)), size - 1);
  const width = high === low ? 0.001 : high - low;
  const blended = frequencies.map((f, i) => {
    const stretched = Math.min(1, Math.max(0, (i - low) / width));
    return (stretched * f) / factor + (1 - stretched) * f;
  });
  const magnitude = (scale: number): number => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1);
  const { mscale, mscale_all_dim: all } = rope;
  const suggested = mscale && all ? magnitude(mscale) / magnitude(all) : magnitude(1);
  return { frequencies: blended, factor: rope.attention_factor ?? suggested };
}
