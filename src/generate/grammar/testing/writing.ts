/** A model of random wishes that writes under a grammar, and ajv to hold what it wrote against the schema. */
import { Ajv } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { expect } from 'vitest';
import { Random } from '../../../nn/index.js';
import { Vocabulary } from '../../../text/index.js';
import { tinyTokenizer } from '../../../text/testing/tiny.js';
import { Constraint } from '../constraint.js';
import { Matcher } from '../matcher.js';
import type { Node } from '../node.js';
import { schemaNode } from '../schema/compiler.js';
import { TokenTree } from '../token-tree.js';

/** The bytes of the tiny tokenizer's tokens. */
const vocabulary = Vocabulary.of(tinyTokenizer);
/** The same as a prefix tree. */
export const tree = new TokenTree(vocabulary);
/** The token that ends a text. */
const END = 0;

/** What a model of random wishes writes under a grammar; undefined where it did not come to an end. */
export function written(grammar: Node, seed: number, maxTokens = 300): string | undefined {
  const random = new Random(seed);
  const constraint = new Constraint(grammar, tree, [END]);
  // Some like long texts, some like certain tokens.
  const liking = Float32Array.from(vocabulary.bytes, () => 6 * random.uniform());
  const bytes: number[] = [];
  for (let left = maxTokens; left > 0; left--) {
    const logits = liking.map((like) => like + 6 * random.uniform());
    constraint.steer(logits, left);
    const id = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    if (id === END) return decode(bytes);
    bytes.push(...vocabulary.bytes[id]!);
    if (constraint.chosen(id)) return decode(bytes);
  }
  return undefined;
}

function decode(bytes: readonly number[]): string {
  return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes));
}

/** Whether a whole text follows a grammar. */
export function accepts(grammar: Node, text: string): boolean {
  const matcher = new Matcher(grammar);
  return matcher.run(matcher.start, Buffer.from(text))?.accepts === true;
}

/** Ajv's validator of a schema, of the draft that the schema is written for. */
function validatorOf(schema: object): ((value: unknown) => boolean) & { errors?: unknown } {
  const isOld =
    /draft-0[467]/.test(String((schema as { $schema?: unknown }).$schema)) ||
    JSON.stringify(schema).includes('"items":[');
  const ajv = new (isOld ? Ajv : Ajv2020)({
    strict: false,
    allErrors: true,
    validateSchema: false,
    logger: false,
  });
  (formats as unknown as (ajv: unknown) => void)(ajv);
  return ajv.compile(schema);
}

/** Some texts that follow a schema; each is held against it, or against `strict` where ajv does not know what a dialect means. */
export function expectValid(
  schema: object,
  { texts = 12, strict = schema, maxTokens = 300 } = {},
): unknown[] {
  const validate = validatorOf(strict);
  const grammar = schemaNode(schema);
  return Array.from({ length: texts }, (_, seed) => {
    const text = written(grammar, seed, maxTokens);
    expect([seed, text === undefined]).toEqual([seed, false]);
    const value: unknown = JSON.parse(text!);
    expect([text, validate(value), validate.errors ?? null]).toEqual([text, true, null]);
    return value;
  });
}
