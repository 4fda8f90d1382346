/** The config of a hybrid language model: plain data, kept as `config.json` with snake_case keys. */
import { z } from 'zod';
import { ConfigError } from '../errors.js';
import { parsePattern } from './pattern.js';

const size = z.number().int().positive();

const schema = z.strictObject({
  modelType: z.literal('heddle'),
  architectures: z.array(z.string()).optional(),
  vocabSize: size,
  hiddenSize: size,
  /** Layers; see pattern.ts. */
  pattern: z.string(),
  /** Of the MLPs. */
  intermediateSize: size,
  normEpsilon: z.number().positive().default(1e-5),
  tieWordEmbeddings: z.boolean().default(true),
  /** Tokens in a training sequence: beyond it nothing was learned. */
  maxPositionEmbeddings: size,
  bosTokenId: z.number().int().nonnegative().optional(),
  eosTokenId: z.number().int().nonnegative().optional(),

  mambaNumHeads: size.default(1),
  mambaHeadDim: size.default(64),
  ssmStateSize: size.default(64),
  nGroups: size.default(1),
  convKernel: size.default(4),
  useConvBias: z.boolean().default(true),
  timeStepLimit: z.tuple([z.number().nonnegative(), z.number().nullable()]).default([0, null]),

  numAttentionHeads: size.default(1),
  numKeyValueHeads: size.default(1),
  headDim: size.default(64),
  /** Base of the rotary wavelengths; null for attention without positions. */
  ropeTheta: z.number().positive().nullable().default(null),
  /** W of selective and of sliding-window attention. */
  attentionWindow: size.default(64),
  /** K of selective attention. */
  attentionSelected: size.default(64),
});

export type ModelConfig = z.output<typeof schema>;
export type ModelConfigInput = z.input<typeof schema>;

/** Checks a config and fills in the defaults. Throws `ConfigError` naming every key that is wrong. */
export function modelConfig(value: ModelConfigInput): ModelConfig {
  return parse(value, 'the config', (key) => key);
}

function parse(value: unknown, source: string, named: (key: string) => string): ModelConfig {
  const result = schema.safeParse(value);
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
  divides('numAttentionHeads', 'numKeyValueHeads');
  divides('mambaNumHeads', 'nGroups');
  expect(
    config.ropeTheta === null || config.headDim % 2 === 0,
    `${said('headDim')} must be even, since ${named('ropeTheta')} rotates halves of a head`,
  );
  const [low, high] = config.timeStepLimit;
  expect(high === null || low < high, `${said('timeStepLimit')} must be a lower and a higher bound`);
  for (const key of ['bosTokenId', 'eosTokenId'] as const) {
    expect((config[key] ?? 0) < config.vocabSize, `${said(key)} must be less than ${said('vocabSize')}`);
  }
  return config;
}

/** Reads the text of a `config.json`; `path` is for messages. */
export function parseConfig(text: string, path: string): ModelConfig {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ConfigError(`${path} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConfigError(`${path} is not a JSON object`);
  }
  const type = (value as Record<string, unknown>).model_type;
  if (type !== 'heddle') {
    throw new ConfigError(`${path} has the model_type '${String(type)}'; this version reads: heddle`);
  }
  const foreign = Object.keys(value).filter((key) => snakeCase(camelCase(key)) !== key);
  if (foreign.length > 0) {
    throw new ConfigError(`${path} is not one of ours: unknown keys: ${foreign.join(', ')}`);
  }
  const camel = Object.fromEntries(Object.entries(value).map(([key, entry]) => [camelCase(key), entry]));
  return parse(camel, path, snakeCase);
}

/** The text of a `config.json`. */
export function formatConfig(config: ModelConfig): string {
  const snake = Object.fromEntries(Object.entries(config).map(([key, entry]) => [snakeCase(key), entry]));
  return `${JSON.stringify(snake, null, 2)}\n`;
}

function camelCase(key: string): string {
  return key.replace(/_(\w)/g, (_, c: string) => c.toUpperCase());
}

function snakeCase(key: string): string {
  return key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
}
