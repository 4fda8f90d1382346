/**
 * Generation settings of a checkpoint: sampling parameters (`generation_config.json`), and the tokens that end a text.
 * The latter are in several files, which do not always agree; a chat turn ends at any of them.
 */
import { z } from 'zod';
import { join } from '#platform';
import type { Tokenizer } from './tokenizer.js';
import { readJson } from './tokenizer-json.js';
import { checked } from './tokenizer-schema.js';

const GENERATION_CONFIG = 'generation_config.json';
const MODEL_CONFIG = 'config.json';

/** The settings in the file; others are absent. */
export interface GenerationConfig {
  readonly bosTokenId?: number;
  readonly eosTokenIds: readonly number[];
  /** 0 if the file disables sampling. */
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly repetitionPenalty?: number;
}

/** Some files use -1 for "none". */
const ids = z
  .union([z.int(), z.array(z.int())])
  .nullish()
  .transform((value) => [value ?? []].flat().filter((id) => id >= 0));

/** A number; one outside its range is ignored, so that a wrong default does not make a checkpoint unusable. */
function within(isInRange: (value: number) => boolean) {
  return z
    .number()
    .nullish()
    .transform((value) => (value != null && isInRange(value) ? value : undefined));
}

const schema = z.looseObject({
  bos_token_id: ids,
  eos_token_id: ids,
  do_sample: z.boolean().nullish(),
  temperature: within((value) => value >= 0),
  // -1 and 0 both mean all tokens.
  top_k: within(Number.isInteger).transform((value) => (value === undefined ? value : Math.max(0, value))),
  top_p: within((value) => value > 0 && value <= 1),
  repetition_penalty: within((value) => value > 0),
});

const endsOnly = z.looseObject({ eos_token_id: ids });

/**
 * Reads a folder's `generation_config.json`; a missing file gives no settings. Throws `TokenizerError`, with the file's
 * path, for one that is damaged.
 */
export async function readGenerationConfig(folder: string): Promise<GenerationConfig> {
  const file = await checkedFile(folder, GENERATION_CONFIG, schema);
  const [bosTokenId] = file.bos_token_id;
  const said = {
    bosTokenId,
    temperature: file.do_sample === false ? 0 : file.temperature,
    topK: file.top_k,
    topP: file.top_p,
    repetitionPenalty: file.repetition_penalty,
  };
  const given = Object.entries(said).filter(([, value]) => value !== undefined && value !== null);
  return { eosTokenIds: file.eos_token_id, ...Object.fromEntries(given) };
}

/**
 * The tokens at which an answer ends: those of `generation_config.json` and of `config.json`, and the tokenizer's end of
 * a text. Throws `TokenizerError`, with the file's path, for one that is damaged.
 */
export async function endOfTurnIds(folder: string, tokenizer: Tokenizer): Promise<number[]> {
  const { eosTokenIds } = await readGenerationConfig(folder);
  const model = await checkedFile(folder, MODEL_CONFIG, endsOnly);
  const own = tokenizer.endOfText === undefined ? [] : [tokenizer.endOfText];
  return [...new Set([...eosTokenIds, ...model.eos_token_id, ...own])];
}

async function checkedFile<Schema extends z.ZodType>(
  folder: string,
  name: string,
  expected: Schema,
): Promise<z.output<Schema>> {
  const path = join(folder, name);
  return checked(expected, (await readJson(path)) ?? {}, path);
}
