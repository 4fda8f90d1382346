/** The model for training on other data than text: a design of some size, or a config. */
import { isDeepStrictEqual } from 'node:util';
import type { Command } from 'commander';
import { ConfigError } from '../errors.js';
import { hybridModel, type ModalityConfig, type Model, modelFromConfig, presetOf } from '../models/index.js';
import { readConfigFile } from './named-file.js';
import type { RunFlags } from './run-flags.js';

/**
 * `input` is what the data says of it. A config needs none of that, and what it has in its own `input` comes first: a patch, or a
 * convolutional stem. Throws `ConfigError`.
 */
export async function signalDesign(
  { config: path, design, size: named }: RunFlags,
  command: Command,
  input: ModalityConfig,
): Promise<Model> {
  if (path === undefined) {
    if (design === 'encoder-decoder')
      throw new ConfigError(`the design '${design}' writes texts: it does not go with ${input.kind}`);
    const size = command.getOptionValueSource('size') === 'cli' ? named : 'nano';
    return hybridModel(presetOf(design, size, input));
  }
  const json = readConfigFile(path);
  const { input: own } = json;
  if (json.model_type !== 'heddle')
    throw new ConfigError(
      `${path} is no config of ours, which has the model_type heddle: it cannot read ${input.kind}`,
    );
  const isObject = typeof own === 'object' && own !== null && !Array.isArray(own);
  if (own !== undefined && !isObject) throw new ConfigError(`${path}: input must be an object`);
  return modelFromConfig({ ...json, input: { ...input, ...own } }, path);
}

/**
 * Throws `ConfigError` if a run that is resumed has another model than the options say: `asked` are options with what was given and what the
 * model has. Options that were left out say nothing.
 */
export async function expectSameModel(
  model: Model,
  flags: RunFlags,
  command: Command,
  asked: Readonly<Record<string, readonly [given: unknown, known: unknown]>>,
): Promise<void> {
  const isGiven = (key: string): boolean => command.getOptionValueSource(key) === 'cli';
  const elsewhere = 'resume with the same, or train into another folder';
  for (const [key, [given, known]] of Object.entries(asked)) {
    if (!isGiven(key) || String(given) === String(known)) continue;
    throw new ConfigError(
      `--${key} is ${given}, and the run in ${flags.out} ${known === undefined ? 'has none' : `has ${known}`}: ${elsewhere}`,
    );
  }
  const designed = (['design', 'size', 'config'] as const).filter(isGiven);
  if (designed.length === 0) return;
  const { input } = model.json as { input: ModalityConfig };
  const { json } = await signalDesign(flags, command, input);
  if (!isDeepStrictEqual(json, model.json))
    throw new ConfigError(
      `the run in ${flags.out} is of another model than ${designed.map((key) => `--${key} ${flags[key]}`).join(' ')}: ${elsewhere}`,
    );
}
