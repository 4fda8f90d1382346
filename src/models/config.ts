/** The config of a hybrid language model: plain data, kept as `config.json` with snake_case keys. */
import { z } from 'zod';
import { ConfigError } from '../errors.js';
import { IN_WORDS } from '../schema-issues.js';
import { attentiveKeys } from './attentive.js';
import { modalitySchema } from './modalities/index.js';
import { parsePattern } from './pattern.js';
import { recurrentKeys } from './recurrent.js';
import { sourceSchema } from './source.js';
import { wholeKeys } from './whole.js';

/** Upper bounds far above any real model, so that a typo does not exhaust memory. */
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
  /** Absent for models of other data than text. */
  vocabSize: z
    .number()
    .int()
    .nonnegative()
    .max(2 ** 24)
    .default(0),
  /** The input, for models of other data than text. */
  input: modalitySchema.optional(),
  /** The source of a language model that has one. */
  source: sourceSchema.optional(),
  hiddenSize: size,
  /** The layers; see pattern.ts. */
  pattern: z.string(),
  /** The inner width of MLPs. */
  intermediateSize: size,
  /** `gelu`: MLPs with biases and GELU instead of gated ones with SiLU. */
  mlpType: z.literal('gelu').optional(),
  normEpsilon: z.number().positive().default(1e-5),
  /** `layer`: layer norms with biases instead of RMS norms in the residual stream. */
  normType: z.literal('layer').optional(),
  tieWordEmbeddings: z.boolean().default(true),
  /** The tokens of a training sequence: the model was not trained beyond it. */
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
  /** Whether the projections of attention have biases; by default they do not. */
  attentionBias: z.boolean().optional(),
  numKeyValueHeads: headCount.default(1),
  headDim: headSize.default(64),
  /** Base of the rotary wavelengths; null for attention without positions. */
  ropeTheta: z.number().gt(1).nullable().default(null),
  /** The window of selective and sliding-window attention, in tokens. */
  attentionWindow: z
    .number()
    .int()
    .min(1, 'is 1 or more: the present token is always seen, and K tokens are selected beside a window')
    .max(2 ** 31)
    .default(64),
  /** The number of older tokens that selective attention keeps. */
  attentionSelected: length.default(64),
  /** Mixtures of experts: by default 8 experts, 2 for each token, as wide as the MLPs. */
  numExperts: size.max(2 ** 12).optional(),
  numExpertsPerTok: size.max(2 ** 12).optional(),
  moeIntermediateSize: size.optional(),
  ...recurrentKeys,
  ...attentiveKeys,
  ...wholeKeys,
});

/** A validated config with all defaults filled in. */
export type ModelConfig = z.output<typeof configSchema>;
/** A config as input: keys with a default may be omitted. */
export type ModelConfigInput = z.input<typeof configSchema>;

/** Validates a config and fills in defaults. Throws `ConfigError` with every wrong key. */
export function modelConfig(value: ModelConfigInput): ModelConfig {
  return parse(value, 'the config', (key) => key);
}

function parse(value: unknown, source: string, named: (key: string) => string): ModelConfig {
  const result = configSchema.safeParse(value, IN_WORDS);
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

/** Parses the contents of a `config.json` of our own family; `path` is for error messages. */
export function parseConfig(json: Readonly<Record<string, unknown>>, path: string): ModelConfig {
  const foreign = Object.keys(json).filter((key) => snakeCase(camelCase(key)) !== key);
  if (foreign.length > 0) {
    throw new ConfigError(`${path} is not one of ours: unknown keys: ${foreign.join(', ')}`);
  }
  const camel = Object.fromEntries(Object.entries(json).map(([key, entry]) => [camelCase(key), entry]));
  return parse(camel, path, snakeCase);
}

/** The contents of a config's `config.json`. */
export function configJson(config: ModelConfig): Record<string, unknown> {
  return Object.fromEntries(Object.entries(config).map(([key, entry]) => [snakeCase(key), entry]));
}

function camelCase(key: string): string {
  return key.replace(/_(\w)/g, (_, c: string) => c.toUpperCase());
}

function snakeCase(key: string): string {
  return key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
}
