/** Parses the body of a request. */
import type { Context } from 'hono';
import type { z } from 'zod';
import { IN_WORDS } from '../../schema-issues.js';
import { ApiError, invalid } from './api-error.js';

/** The deepest nesting of JSON: deeper bodies could overflow the stack of recursive code. */
const DEEPEST = 100;

/** The body, parsed and validated by the schema. Throws `ApiError` if it is invalid. */
export async function bodyOf<Schema extends z.ZodType>(
  context: Context,
  schema: Schema,
): Promise<z.output<Schema>> {
  const type = context.req.header('content-type') ?? '';
  // Pages of other origins can send other content types without a CORS preflight.
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new ApiError(415, 'unsupported_media_type', 'send JSON, with content-type: application/json');
  }
  const coding = context.req.header('content-encoding') ?? 'identity';
  if (coding !== 'identity')
    throw new ApiError(
      415,
      'unsupported_media_type',
      `the content-encoding ${coding} is not read: send it uncompressed`,
    );
  const text = await context.req.text();
  if (depthOf(text) > DEEPEST) {
    throw new ApiError(400, 'too_deep', `the body is nested deeper than ${DEEPEST} levels: flatten it`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ApiError(400, 'invalid_json', `the body is no JSON: ${(error as Error).message}`);
  }
  const result = schema.safeParse(value, IN_WORDS);
  if (result.success) return result.data;
  throw invalid(result.error);
}

/** The nesting depth of a JSON text. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const sign = text[i]!;
    if (quoted) {
      if (sign === '\\') i++;
      else if (sign === '"') quoted = false;
    } else if (sign === '"') quoted = true;
    else if (sign === '[' || sign === '{') deepest = Math.max(deepest, ++depth);
    else if (sign === ']' || sign === '}') depth--;
  }
  return deepest;
}
