/** The config of a hybrid language model: plain data, kept as `config.json` with snake_case keys. */
import { z } from 'zod';
import { ConfigError } from '../errors.js';
import { attentiveKeys } from './attentive.js';
import { modalitySchema } from './modalities/index.js';
import { parsePattern } from './pattern.js';
import { recurrentKeys } from './recurrent.js';
import { sourceSchema } from './source.js';
import { wholeKeys } from './whole.js';

/** Bounds that no model comes near keep a slip from costing memory. */
const size = z
  .number()
  .int()
  .positive()
  .max(2 ** 20);
const headCount = size.max(2 ** 16);
const headSize = size.max(2 ** 16);
/** In tokens. */
const length = z
  .number()
  .int()
  .positive()
  .max(2 ** 31);

/** The schema of a config, whose keys docs/designs.md explains. */
export const configSchema = z.strictObject({
  modelType: z.literal('heddle'),
  architectures: z.array(z.string()).optional(),
  /** Left out where the model is of something other than text. */
  vocabSize: z
    .number()
    .int()
    .nonnegative()
    .max(2 ** 24)
    .default(0),
  /** What the model is of, where that is not text. */
  input: modalitySchema.optional(),
  /** What a model of text reads before it writes. */
  source: sourceSchema.optional(),
  hiddenSize: size,
  /** Layers; see pattern.ts. */
  pattern: z.string(),
  /** Of the MLPs. */
  intermediateSize: size,
  /** `gelu`: plain MLPs with biases and GELU in the place of gated ones with SiLU. */
  mlpType: z.literal('gelu').optional(),
  normEpsilon: z.number().positive().default(1e-5),
  /** `layer`: norms of the residual stream also centre, and have biases (layer norms in the place of RMS norms). */
  normType: z.literal('layer').optional(),
  tieWordEmbeddings: z.boolean().default(true),
  /** Tokens in a training sequence: beyond it nothing was learned. */
  maxPositionEmbeddings: length,
  bosTokenId: z.number().int().nonnegative().optional(),
  eosTokenId: z.number().int().nonnegative().optional(),

  mambaNumHeads: headCount.default(1),
  mambaHeadDim: headSize.default(64),
  ssmStateSize: headSize.default(64),
  nGroups: headCount.default(1),
  convKernel: headSize.default(4),
  useConvBias: z.boolean().default(true),
  timeStepLimit: z.tuple([z.number().nonnegative(), z.number().nullable()]).default([0, null]),

  numAttentionHeads: headCount.default(1),
  /** Whether queries, keys, values and outputs of attention have biases; they have none by default. */
  attentionBias: z.boolean().optional(),
  numKeyValueHeads: headCount.default(1),
  headDim: headSize.default(64),
  /** Base of the rotary wavelengths; null for attention without positions. */
  ropeTheta: z.number().gt(1).nullable().default(null),
  /** W of selective and of sliding-window attention. */
  attentionWindow: z
    .number()
    .int()
    .min(1, 'is 1 or more: the present token is always seen, and K tokens are selected beside a window')
    .max(2 ** 31)
    .default(64),
  /** K of selective attention. */
  attentionSelected: length.default(64),
  /** Of mixtures of experts: 8 experts, of which a token uses 2, as wide as the MLPs by default. */
  numExperts: size.max(2 ** 12).optional(),
  numExpertsPerTok: size.max(2 ** 12).optional(),
  moeIntermediateSize: size.optional(),
  ...recurrentKeys,
  ...attentiveKeys,
  ...wholeKeys,
});

/** The config of a hybrid, checked and with every default filled in. */
export type ModelConfig = z.output<typeof configSchema>;
/** The same as one writes it: keys with a default may be left out. */
export type ModelConfigInput = z.input<typeof configSchema>;

/** Checks a config and fills in the defaults. Throws `ConfigError` naming every key that is wrong. */
export function modelConfig(value: ModelConfigInput): ModelConfig {
  return parse(value, 'the config', (key) => key);
}

function parse(value: unknown, source: string, named: (key: string) => string): ModelConfig {
  const result = configSchema.safeParse(value);
  if (!result.success) {
    const problems = result.error.issues.map((issue) =>
      issue.code === 'unrecognized_keys'
        ? `unknown keys: ${issue.keys.map(named).join(', ')}`
        : `${issue.path.map((key) => named(String(key))).join('.')}: ${issue.message}`,
    );
    throw new ConfigError(`${source} is not one of ours: ${problems.join('; ')}`);
  }
  const config = result.data;
  parsePattern(config.pattern);
  const said = (key: keyof ModelConfig): string => `${named(key)} (${config[key]})`;
  const expect = (holds: boolean, text: string): void => {
    if (!holds) throw new ConfigError(`${source}: ${text}`);
  };
  const divides = (a: keyof ModelConfig, b: keyof ModelConfig): void =>
    expect(
      (config[a] as number) % (config[b] as number) === 0,
      `${said(a)} must be a multiple of ${said(b)}`,
    );
  expect(
    (config.vocabSize === 0) === (config.input !== undefined),
    config.input
      ? `${named('vocabSize')} is of a model of text, and 'input' of one of ${config.input.kind}: leave one out`
      : `${named('vocabSize')} must be more than 0`,
  );
  expect(
    !(config.source && config.input),
    "'source' is of a model of text, and 'input' of another one: leave one out",
  );
  divides('numAttentionHeads', 'numKeyValueHeads');
  divides('mambaNumHeads', 'nGroups');
  expect(
    config.ropeTheta === null || config.headDim % 2 === 0,
    `${said('headDim')} must be even, since ${named('ropeTheta')} rotates halves of a head`,
  );
  const { numExperts = 8, numExpertsPerTok = Math.min(2, numExperts) } = config;
  expect(
    numExpertsPerTok <= numExperts,
    `${named('numExpertsPerTok')} (${numExpertsPerTok}) must be at most ${named('numExperts')} (${numExperts})`,
  );
  const [low, high] = config.timeStepLimit;
  expect(high === null || low < high, `${said('timeStepLimit')} must be a lower and a higher bound`);
  for (const key of ['bosTokenId', 'eosTokenId'] as const) {
    expect(
      config[key] === undefined || config[key] < config.vocabSize,
      `${said(key)} must be less than ${said('vocabSize')}`,
    );
  }
  return config;
}

/** Reads what a `config.json` of ours holds; `path` is for messages. */
export function parseConfig(json: Readonly<Record<string, unknown>>, path: string): ModelConfig {
  const foreign = Object.keys(json).filter((key) => snakeCase(camelCase(key)) !== key);
  if (foreign.length > 0) {
    throw new ConfigError(`${path} is not one of ours: unknown keys: ${foreign.join(', ')}`);
  }
  const camel = Object.fromEntries(Object.entries(json).map(([key, entry]) => [camelCase(key), entry]));
  return parse(camel, path, snakeCase);
}

/** What the `config.json` of a config holds. */
export function configJson(config: ModelConfig): Record<string, unknown> {
  return Object.fromEntries(Object.entries(config).map(([key, entry]) => [snakeCase(key), entry]));
}

function camelCase(key: string): string {
  return key.replace(/_(\w)/g, (_, c: string) => c.toUpperCase());
}

function snakeCase(key: string): string {
  return key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
}
