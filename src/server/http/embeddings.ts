/** `/v1/embeddings`. */
import { z } from 'zod';
import { invalidValue } from './api-error.js';
import { bodyOf } from './body.js';
import { type App, type Deps, modelNamed, signalOf } from './context.js';
import { optional } from './messages.js';
import { requestOf } from './parameters.js';
import { promptsOf } from './requests.js';
import { noEffect } from './schemas.js';

const MANY = 2048;
const Text = z.string().min(1, 'an empty text has no meaning to embed');
const Tokens = z.array(z.int().min(0)).min(1);

/** The body of `POST /v1/embeddings`, as in OpenAI's API. */
export const EmbeddingsRequest = requestOf({
  model: optional(z.string().max(200)).describe('By default the only model there is.'),
  input: z.union([
    Text,
    Tokens,
    z
      .array(z.union([Text, Tokens]))
      .min(1)
      .max(MANY),
  ]),
  encoding_format: optional(z.enum(['float', 'base64'])).describe(
    'As numbers, or as their float32 bytes, little-endian, in base64.',
  ),
  dimensions: optional(z.int()).describe('As many as the model has.'),
  user: noEffect,
});

/** The answer: a vector for each input. */
export const Embeddings = z.object({
  object: z.literal('list'),
  data: z.array(
    z.object({
      object: z.literal('embedding'),
      index: z.int(),
      embedding: z
        .union([z.array(z.number()), z.string()])
        .describe('The mean of hidden states, of length 1.'),
    }),
  ),
  model: z.string(),
  usage: z.object({ prompt_tokens: z.int(), total_tokens: z.int() }),
});

/** Adds `POST /v1/embeddings`. */
export function addEmbeddingsRoute(app: App, deps: Deps): void {
  app.post('/v1/embeddings', async (context) => {
    const { model, input, encoding_format: format, dimensions } = await bodyOf(context, EmbeddingsRequest);
    const { id } = modelNamed(deps, model);
    const signal = signalOf(context, deps);
    const { vectors, tokens } = await deps.engine.call(
      'embed',
      { model: id, inputs: promptsOf(input) },
      signal,
    );
    const size = vectors[0]!.length;
    if (dimensions !== undefined && dimensions !== size) {
      throw invalidValue(
        'dimensions',
        `'dimensions' is ${dimensions}, and the vectors of ${id} have ${size}: it was not trained so that fewer would do, leave it out`,
      );
    }
    context.get('facts').prompt_tokens = tokens;
    deps.metrics.tokens.inc({ model: id, kind: 'read' }, tokens);
    return context.json({
      object: 'list',
      data: vectors.map((vector, index) => ({
        object: 'embedding',
        index,
        embedding: format === 'base64' ? encoded(vector) : [...vector],
      })),
      model: id,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    });
  });
}

function encoded(vector: Float32Array): string {
  const view = new DataView(new ArrayBuffer(4 * vector.length));
  for (const [i, value] of vector.entries()) view.setFloat32(4 * i, value, true);
  return Buffer.from(view.buffer).toString('base64');
}
