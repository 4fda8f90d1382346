/** Reads `config.json` and finds the model family that it belongs to. */
import { expectObject } from '../arguments.js';
import { quote, visible } from '../checkpoint/index.js';
import { ConfigError } from '../errors.js';
import { withFractions } from './export-config.js';
import type { Family } from './families/family.js';
import { FAMILIES } from './families/index.js';
import { foreignQuantization } from './foreign-weights.js';
import type { Model } from './model.js';
import { quantizationFrom } from './quantization.js';

/** The size limit of a config in bytes, far above any real one. */
const LONGEST_CONFIG = 10_000_000;
const DEEPEST_CONFIG = 64;

/**
 * Parses a `config.json`. Python writes Infinity and NaN, which JSON does not have, literally or as `{"__float__": "Infinity"}`; both are
 * accepted. Throws `ConfigError`, with `path`, for a text that is not a JSON object.
 */
export function parseConfigText(text: string, path: string): Record<string, unknown> {
  if (text.length > LONGEST_CONFIG) {
    throw new ConfigError(`${path} has ${text.length} characters: that is no config`);
  }
  if (text.includes('\0')) throw new ConfigError(`${path} is not UTF-8 text: save it as UTF-8`);
  let value: unknown;
  try {
    value = JSON.parse(quoteBareNumbers(text, path), reviveFloat);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(
      `${path} is not JSON (${visible((error as Error).message)}): copy or download it again`,
      { cause: error },
    );
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConfigError(`${path} is not a JSON object`);
  }
  return value as Record<string, unknown>;
}

function quoteBareNumbers(text: string, path: string): string {
  // Strings are not changed.
  let inString = false;
  let depth = 0;
  return text.replace(/"|\\[\s\S]|[[{]|[\]}]|-?Infinity|NaN/g, (match) => {
    if (match === '"') inString = !inString;
    if (inString) return match;
    if (match === '[' || match === '{') depth++;
    if (match === ']' || match === '}') depth--;
    if (depth > DEEPEST_CONFIG) throw new ConfigError(`${path} nests deeper than any config`);
    return match === 'NaN' || match.endsWith('Infinity') ? `{"__float__":"${match}"}` : match;
  });
}

function reviveFloat(_: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('__float__' in value)) return value;
  const written = value.__float__;
  return written === 'NaN' || written === 'Infinity' || written === '-Infinity' ? Number(written) : value;
}

/** The text of a `config.json` with the value `json`. */
export function formatConfig(json: Readonly<Record<string, unknown>>): string {
  const text = JSON.stringify(
    json,
    (_, value: unknown) =>
      typeof value === 'number' && !Number.isFinite(value) ? { __float__: String(value) } : value,
    2,
  );
  // Readers of other families' configs distinguish 1 from 1.0.
  return `${json.model_type === 'heddle' ? text : withFractions(text)}\n`;
}

/** The model of a `config.json`. Throws `ConfigError` for an unknown family, and for values that the family does not allow. */
export function modelFromConfig(json: Readonly<Record<string, unknown>>, path: string): Model {
  expectObject(json, 'the config is', 'an object');
  const type = json.model_type;
  const family = FAMILIES.find((one) =>
    type === undefined ? one.recognizes?.(json) : one.modelTypes.some((name) => name === type),
  );
  if (!family) {
    const known = FAMILIES.flatMap(({ modelTypes }) => modelTypes).join(', ');
    const given = type === undefined ? 'no model_type' : `the model_type ${quote(type)}`;
    throw new ConfigError(`${path} has ${given}; those that are read: ${known}`);
  }
  expectArchitecture(family, json, path);
  const { quantization_config: quantized, ...own } = json;
  const model = family.read(own, path);
  if (!quantized) return model;
  const foreign = foreignQuantization(quantized);
  return foreign ? { ...model, foreign } : { ...model, quantization: quantizationFrom(quantized, path) };
}

/** The head that a class name implies; without one, the weights decide whether there is a language model head. */
const TEXT_HEAD = /(?:ForCausalLM|ForConditionalGeneration|LMHeadModel|(?<!PreTrained)Model)$/;

/**
 * Throws `ConfigError` if none of the config's `architectures` is the family's language model: a classifier, or another architecture with
 * the same model_type.
 */
function expectArchitecture(
  { architecture }: Family,
  { model_type: type, architectures }: Readonly<Record<string, unknown>>,
  path: string,
): void {
  const named: unknown[] = Array.isArray(architectures) ? architectures : [];
  const names = named.filter((name): name is string => typeof name === 'string');
  const refused = (problem: string): ConfigError =>
    new ConfigError(`${path} has the architectures ${names.map(quote).join(', ') || 'nothing'}${problem}`);
  if (names.length > 0 && !names.some((name) => TEXT_HEAD.test(name)))
    throw refused(', whose head does not write text; take the model that ends in ForCausalLM');
  if (architecture !== undefined && !names.includes(architecture))
    throw refused(`; of the ${type} models those of ${architecture} are read`);
  if (architecture !== undefined || names.length === 0 || typeof type !== 'string') return;
  const plain = (name: string): string => name.replaceAll('_', '').toLowerCase();
  // The class of a text part may have "Text" in its name, and FSDP2 adds a prefix.
  const own = [plain(type), plain(type.replace(/_text$/, ''))];
  if (names.some((name) => own.includes(plain(name.replace(/^FSDP/, '').replace(TEXT_HEAD, ''))))) return;
  throw refused(
    ` and the model_type ${quote(type)}: of those models it reads what the class of that name computes, not what others do`,
  );
}
