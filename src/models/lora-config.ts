/**
 * `adapter_config.json` of Hugging Face's PEFT: which modules have adapters, with which rank and scale. PEFT has many kinds of adapters;
 * options that would change the computation are refused, including unknown ones.
 */
import { z } from 'zod';
import { quote } from '../checkpoint/index.js';
import { ConfigError } from '../errors.js';
import { IN_WORDS, problemsIn } from '../schema-issues.js';
import { type LoraConfig, linearLayers } from './lora.js';
import { type Model, parametersOf } from './model.js';

const patterns = z.record(z.string(), z.number().positive()).nullish();

const schema = z.looseObject({
  peft_type: z.string(),
  r: z.number().int().positive(),
  lora_alpha: z.number().positive(),
  target_modules: z.union([z.string(), z.array(z.string())]).nullish(),
  rank_pattern: patterns,
  alpha_pattern: patterns,
  use_rslora: z.boolean().nullish(),
  use_dora: z.boolean().nullish(),
  ensure_weight_tying: z.boolean().nullish(),
  modules_to_save: z.array(z.string()).nullish(),
  trainable_token_indices: z
    .union([z.array(z.number().int()), z.record(z.string(), z.array(z.number().int()))])
    .nullish(),
  init_lora_weights: z.union([z.boolean(), z.string()]).nullish(),
});

/** A parsed `adapter_config.json`. */
export interface AdapterConfig {
  /** Whether the module with this name in transformers has an adapter. */
  has(module: string): boolean;
  rankOf(module: string): number;
  /** The scale of B A. */
  scaleOf(module: string): number;
  /** Whether the rows of W + scale B A are normalized to learned magnitudes (DoRA). */
  readonly usesDora: boolean;
  /** The modules that were trained fully, by the suffixes of their names. */
  readonly wholeModules: readonly string[];
  /** Whether a tied head follows an embedding that was trained fully. */
  readonly keepsTies: boolean;
  /** The rows of an embedding of this name that were trained, if any. */
  tokenRowsOf(module: string): readonly number[] | undefined;
}

/** Keys that do not affect a trained adapter's computation, or that the schema reads. */
const INERT = new Set([
  ...Object.keys(schema.shape),
  'auto_mapping',
  'base_model_name_or_path',
  // Trained biases are stored fully.
  'bias',
  'corda_config',
  'eva_config',
  'exclude_modules',
  // It is for layers with transposed weights, which these models do not have: PEFT resets it.
  'fan_in_fan_out',
  'inference_mode',
  'layers_pattern',
  'layers_to_transform',
  'loftq_config',
  'lora_dropout',
  'lora_ga_config',
  'megatron_config',
  'megatron_core',
  'peft_version',
  'qalora_group_size',
  'revision',
  'task_type',
]);

/** Explanations of unsupported keys. */
const MEANINGS: Readonly<Record<string, string>> = {
  alora_invocation_tokens: 'an adapter that begins to act at certain tokens',
  layer_replication: 'layers that are repeated',
  lora_bias: 'biases beside B',
  target_parameters: 'adapters of parameters outside linear layers, such as experts',
  use_qalora: 'QALoRA, which pools its inputs',
};

/** Initialisations that keep the base weights; others change them. */
const INITIALISATIONS = [true, false, 'gaussian', 'eva', 'orthogonal'];

/** Parses an `adapter_config.json`; `path` is for error messages. Throws `ConfigError` for adapters other than LoRA and DoRA. */
export function parseAdapterConfig(json: Readonly<Record<string, unknown>>, path: string): AdapterConfig {
  const parsed = schema.safeParse(json, IN_WORDS);
  if (!parsed.success) {
    throw new ConfigError(`${path} is not a LoRA adapter's: ${problemsIn(parsed.error)}`);
  }
  const config = parsed.data;
  const refuse = (what: string): never => {
    throw new ConfigError(
      `${path} has ${what}: that is not read. Merge it into its model where it was made.`,
    );
  };
  if (config.peft_type !== 'LORA') refuse(`the peft_type ${quote(config.peft_type)}, and not LORA`);
  const initialisation = config.init_lora_weights ?? true;
  if (!INITIALISATIONS.includes(initialisation)) {
    refuse(`init_lora_weights ${quote(initialisation)}, which also changes the model's own weights`);
  }
  for (const [key, value] of Object.entries(config)) {
    if (INERT.has(key) || isOff(value)) continue;
    refuse(`${key}: ${MEANINGS[key] ?? 'a setting that is not known here'}`);
  }
  const rankOf = lookUp(config.rank_pattern ?? {}, config.r, path);
  const alphaOf = lookUp(config.alpha_pattern ?? {}, config.lora_alpha, path);
  return {
    has: targeted(config.target_modules ?? undefined, path),
    rankOf,
    scaleOf: (module) => {
      const rank = rankOf(module);
      return alphaOf(module) / (config.use_rslora ? Math.sqrt(rank) : rank);
    },
    usesDora: config.use_dora ?? false,
    wholeModules: config.modules_to_save ?? [],
    keepsTies: config.ensure_weight_tying ?? false,
    tokenRowsOf: (module) => {
      const rows = config.trainable_token_indices ?? {};
      // A list refers to the input embedding.
      if (Array.isArray(rows)) return rows;
      return Object.entries(rows).find(([name]) => endsWith(module, name))?.[1];
    },
  };
}

function isOff(value: unknown): boolean {
  if (typeof value === 'object' && value !== null) return Object.keys(value).length === 0;
  return value === null || value === undefined || value === false;
}

/** The value of the first pattern that matches the end of a module's name, as in PEFT. */
function lookUp(
  values: Readonly<Record<string, number>>,
  otherwise: number,
  path: string,
): (module: string) => number {
  const found = Object.entries(values).map(
    ([pattern, value]) => [expression(`^(?:.*\\.)?(?:${pattern})$`, pattern, path), value] as const,
  );
  return (module) => found.find(([pattern]) => pattern.test(module))?.[1] ?? otherwise;
}

/** A list has suffixes of module names; a string is a pattern of whole names, or means all linear layers. */
function targeted(target: string | readonly string[] | undefined, path: string): (module: string) => boolean {
  if (target === undefined || target === 'all-linear') return () => true;
  if (typeof target === 'string') {
    const pattern = expression(`^(?:${target})$`, target, path);
    return (module) => pattern.test(module);
  }
  return (module) => target.some((name) => endsWith(module, name));
}

/** Whether a module's name is this one or ends with it. */
export function endsWith(module: string, name: string): boolean {
  return module === name || module.endsWith(`.${name}`);
}

function expression(source: string, written: string, path: string): RegExp {
  try {
    return new RegExp(source);
  } catch (error) {
    throw new ConfigError(
      `${path} has the pattern ${quote(written)}, which cannot be read: write the modules' names instead`,
      { cause: error },
    );
  }
}

/** The name of a module in transformers, by which PEFT finds it. */
export function peftName({ stored }: Model, module: string): string {
  return stored?.loaded?.(module) ?? module;
}

/** The `adapter_config.json` of a model `withLora`; `base` is the base model. */
export function adapterConfigJson(model: Model, { rank, alpha }: LoraConfig, base: string) {
  return {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: base,
    revision: null,
    inference_mode: true,
    r: rank,
    lora_alpha: alpha,
    lora_dropout: 0,
    target_modules: targetModules(model),
    modules_to_save: null,
    bias: 'none',
    fan_in_fan_out: false,
    init_lora_weights: true,
    layers_to_transform: null,
    layers_pattern: null,
    rank_pattern: {},
    alpha_pattern: {},
    use_rslora: false,
    use_dora: false,
  };
}

/** The shortest suffixes of the adapted modules' names that no other module has. */
function targetModules(model: Model): string[] {
  const all = linearLayers(model).map(({ module }) => module);
  const left = new Set(all.filter((module) => model.adapters?.(module)).map((name) => peftName(model, name)));
  const others = modulesOf(model).filter((module) => !left.has(module));
  const targets = new Set<string>();
  for (let parts = 1; left.size > 0; parts++) {
    const end = (module: string): string => module.split('.').slice(-parts).join('.');
    const taken = new Set(others.map(end));
    for (const module of left) {
      if (taken.has(end(module)) && end(module) !== module) continue;
      targets.add(end(module));
      left.delete(module);
    }
  }
  return [...targets].sort();
}

/** All modules with parameters below them. */
function modulesOf(model: Model): string[] {
  const modules = new Set<string>();
  for (const { name, parts = [], adapts } of parametersOf(model)) {
    if (adapts !== undefined) continue;
    for (const full of [name, ...parts.map((part) => part.name)]) {
      for (let dot = full.lastIndexOf('.'); dot > 0; dot = full.lastIndexOf('.', dot - 1)) {
        modules.add(peftName(model, full.slice(0, dot)));
      }
    }
  }
  return [...modules];
}
