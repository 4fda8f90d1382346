/** Options that `generate` and `chat` share. */
import type { Command } from 'commander';
import { checkGeneration, GENERATE_DEFAULTS, type GenerateOptions } from '../generate/index.js';
import { number, wholeNumber } from './options.js';

export interface GenerationFlags {
  maxTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  repetitionPenalty: number;
  stop: string[];
  seed?: number;
  threads?: number;
}

export function addGenerationOptions(command: Command): Command {
  const d = GENERATE_DEFAULTS;
  return command
    .option('--max-tokens <n>', 'write at most this many tokens', wholeNumber, d.maxTokens)
    .option('--temperature <t>', '0 takes the likeliest token, higher varies more', number, d.temperature)
    .option('--top-k <n>', 'choose among the n likeliest tokens; 0 for all', wholeNumber, d.topK)
    .option('--top-p <p>', 'choose among the likeliest tokens of this probability together', number, d.topP)
    .option(
      '--repetition-penalty <p>',
      'make tokens that occurred less likely; 1 for none',
      number,
      d.repetitionPenalty,
    )
    .option('--stop <text...>', 'end before this text (may be given several times)', [...d.stop])
    .option('--seed <n>', 'the same seed writes the same text (default: a new one, printed)', wholeNumber)
    .option('--threads <n>', 'threads (default: one a core)', wholeNumber);
}

/** With the seed that is used. */
export function generationOptions(flags: GenerationFlags): GenerateOptions & { seed: number } {
  const { maxTokens, temperature, topK, topP, repetitionPenalty, stop } = flags;
  const seed = flags.seed ?? Math.floor(Math.random() * 2 ** 31);
  const options = { maxTokens, temperature, topK, topP, repetitionPenalty, stop, seed };
  checkGeneration(options);
  return options;
}

/** For `loadModel`. */
export function threadsOf({ threads }: { threads?: number }): { threads?: number } {
  return threads === undefined ? {} : { threads };
}
