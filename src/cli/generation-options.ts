/** Options that `generate` and `chat` share. */
import { type Command, Option } from 'commander';
import {
  checkGeneration,
  GENERATE_DEFAULTS,
  type GenerateOptions,
  type SamplingOptions,
} from '../generate/index.js';
import { addLoadingOptions, deviceOption, type LoadingFlags } from './loading-options.js';
import { each, number, wholeNumber } from './options.js';

/** The given options; others are absent. */
export interface GenerationFlags extends LoadingFlags {
  maxTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  repetitionPenalty?: number;
  stop?: string[];
  seed?: number;
}

/** Adds the options of commands that write text; they have no defaults here, so that the checkpoint's own apply. */
export function addGenerationOptions(command: Command): Command {
  const d = GENERATE_DEFAULTS;
  const withOwn = command
    .option('--max-tokens <n>', `write at most this many tokens (default: ${d.maxTokens})`, wholeNumber)
    .option(
      '--temperature <t>',
      `0 takes the likeliest token, higher varies more (default: ${d.temperature})`,
      number,
    )
    .option('--top-k <n>', `choose among the n likeliest tokens; 0 for all (default: ${d.topK})`, wholeNumber)
    .option(
      '--top-p <p>',
      `choose among the likeliest tokens of this probability together (default: ${d.topP})`,
      number,
    )
    .option(
      '--repetition-penalty <p>',
      `make tokens that occurred less likely; 1 for none (default: ${d.repetitionPenalty})`,
      number,
    )
    .option('--stop <text>', 'end before this text (may be given several times)', each)
    .option('--seed <n>', 'the same seed writes the same text (default: a new one, printed)', wholeNumber)
    .addOption(deviceOption());
  return addLoadingOptions(withOwn);
}

/** The option for a state that `heddle read` saved. */
export function stateOption(): Option {
  return new Option(
    '--state <file>',
    'continue from a state that the command read saved, in the place of its text',
  );
}

/** The given options, then the model's recommendations, then the defaults; with the seed that is used. */
export function generationOptions(
  flags: GenerationFlags,
  recommended: Partial<SamplingOptions> = {},
): GenerateOptions & { maxTokens: number; seed: number } {
  const { maxTokens, temperature, topK, topP, repetitionPenalty, stop } = {
    ...GENERATE_DEFAULTS,
    ...recommended,
    ...flags,
  };
  const seed = flags.seed ?? Math.floor(Math.random() * 2 ** 31);
  const options = { maxTokens, temperature, topK, topP, repetitionPenalty, stop, seed };
  checkGeneration(options);
  return options;
}
