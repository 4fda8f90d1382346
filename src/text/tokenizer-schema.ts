/** Schemas of the parts of a tokenizer's two files that Heddle relies on; the rest is left to the library that reads them. */
import { z } from 'zod';
import { TokenizerError } from '../errors.js';
import { IN_WORDS } from '../schema-issues.js';

/** Ids by token. `z.record` would lose a token named `__proto__`. */
const ids = z.custom<Readonly<Record<string, number>>>(
  (value) =>
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every((id) => Number.isInteger(id) && id >= 0),
  'expected whole numbers by token',
);

const component = z.looseObject({ type: z.string() }).nullable();

const TokenizerJson = z.looseObject({
  added_tokens: z.array(
    z.looseObject({
      id: z.int().nonnegative(),
      content: z.string().min(1),
      rstrip: z.boolean().optional(),
      special: z.boolean().optional(),
    }),
  ),
  normalizer: component,
  pre_tokenizer: component,
  post_processor: component,
  decoder: component,
  model: z.looseObject({
    type: z.string().optional(),
    vocab: z.union([ids, z.array(z.tuple([z.string(), z.number()]))]),
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])).optional(),
    fuse_unk: z.boolean().nullish(),
  }),
});
/** The validated part of `tokenizer.json`; other keys are kept as they are. */
export type TokenizerJson = z.infer<typeof TokenizerJson>;

/** A pre-tokenizer that splits by a pattern, then maps bytes to characters. */
export const SplitByPattern = z.looseObject({
  type: z.literal('Sequence'),
  pretokenizers: z.tuple([
    z.looseObject({
      type: z.literal('Split'),
      pattern: z.looseObject({ Regex: z.string() }),
      behavior: z.literal('Isolated'),
      invert: z.literal(false).optional(),
    }),
    z.looseObject({
      type: z.literal('ByteLevel'),
      use_regex: z.literal(false),
      add_prefix_space: z.literal(false).optional(),
    }),
  ]),
});

const TokenizerConfig = z.looseObject({
  bos_token: z.union([z.string(), z.looseObject({ content: z.string() })]).nullish(),
  eos_token: z.union([z.string(), z.looseObject({ content: z.string() })]).nullish(),
  add_bos_token: z.boolean().nullish(),
  added_tokens_decoder: z
    .record(
      z.string().regex(/^\d+$/),
      z.looseObject({ content: z.string().min(1), special: z.boolean().optional() }),
    )
    .optional(),
  remove_space: z.boolean().nullish(),
  do_lowercase_and_remove_accent: z.boolean().nullish(),
});
/** The validated part of `tokenizer_config.json`; other keys are kept as they are. */
export type TokenizerConfig = z.infer<typeof TokenizerConfig>;

/** A token in a config: its text, or an object with it. */
export function nameOf(token: TokenizerConfig['eos_token']): string | undefined {
  return (typeof token === 'object' ? token?.content : token) ?? undefined;
}

/** Validates a `tokenizer.json`. Throws `TokenizerError`, which names `origin`, if it is invalid. */
export function checkTokenizerJson(value: unknown, origin: string): TokenizerJson {
  const json = checked(TokenizerJson, value, origin);
  checkMerges(json, origin);
  return json;
}

/** Validates a `tokenizer_config.json`. Throws `TokenizerError`, which names `origin`, if it is invalid. */
export function checkTokenizerConfig(value: unknown, origin: string): TokenizerConfig {
  return checked(TokenizerConfig, value, origin);
}

/** Validates a value with a schema. Throws `TokenizerError`, which names `origin`, if it is invalid. */
export function checked<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  origin: string,
): z.infer<Schema> {
  const result = schema.safeParse(value, IN_WORDS);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = issue?.path.length ? ` (at ${issue.path.join('.')})` : '';
  throw new TokenizerError(
    `${origin} is not what it should be: ${issue?.message}${where}; fetch it again from where the model came from`,
  );
}

/** The library silently drops a token without an id, so text would be lost. */
function checkMerges({ model, added_tokens: addedTokens }: TokenizerJson, origin: string): void {
  if (Array.isArray(model.vocab)) return;
  const known = new Set([...Object.keys(model.vocab), ...addedTokens.map((token) => token.content)]);
  for (const [rank, merge] of (model.merges ?? []).entries()) {
    const [left = '', right = ''] = typeof merge === 'string' ? merge.split(' ') : merge;
    const unknown = [left, right, left + right].find((token) => !known.has(token));
    if (unknown !== undefined) {
      throw new TokenizerError(
        `merge ${rank} of ${origin} needs the token ${JSON.stringify(unknown)}, which its vocabulary lacks; ` +
          'the file was cut or edited: fetch it again, or train it again',
      );
    }
  }
}
