/** Schemas of the requests and answers of /v1/responses. */
import { z } from 'zod';
import { optional, orEmptyList, Tool, ToolChoice } from '../messages.js';
import { requestOf } from '../parameters.js';
import {
  generation,
  HeddleUsage,
  maxTokens,
  noEffect,
  orNone,
  parallelToolCalls,
  ResponseFormat,
  thinking,
} from '../schemas.js';
import { InputItem, OutputItem } from './items.js';

const {
  // Parameters of chat and text completions only.
  n: _n,
  max_tokens: _maxTokens,
  stream_options: _options,
  state: _state,
  save_state: _save,
  state_name: _name,
  ...sampling
} = generation;

/** The body of `POST /v1/responses`, as in OpenAI's API. */
export const ResponsesRequest = requestOf({
  ...sampling,
  ...thinking,
  input: z.union([z.string(), z.array(InputItem)]).nullish(),
  instructions: optional(z.string()).describe(
    'What the system message is; it is not handed on to later responses.',
  ),
  previous_response_id: optional(z.string()).describe('The response whose items come before the input.'),
  store: optional(z.boolean()).describe(
    'Unless it is false, the response can be gone on from and fetched, until the server ends or others take its room.',
  ),
  max_output_tokens: maxTokens,
  text: optional(z.looseObject({ format: optional(ResponseFormat) })),
  reasoning: optional(
    z.looseObject({
      effort: z.string().nullish(),
      enabled: z.boolean().nullish(),
      summary: z
        .string()
        .nullish()
        .describe('Whatever it is, the thoughts themselves are given as their summary, too.'),
    }),
  ),
  tools: optional(z.array(Tool).max(1024)),
  tool_choice: optional(ToolChoice),
  top_logprobs: orNone(z.int().min(0).max(20)),
  include: optional(z.array(z.string())).describe('Of these, `message.output_text.logprobs` has an effect.'),
  metadata: optional(orEmptyList(z.record(z.string(), z.unknown()))),
  truncation: noEffect,
  parallel_tool_calls: parallelToolCalls,
  max_tool_calls: noEffect,
  service_tier: noEffect,
  safety_identifier: noEffect,
  prompt_cache_key: noEffect,
  prompt_cache_retention: noEffect,
  stream_options: noEffect,
});
/** The body of a request for a response, once it is read. */
export type ResponsesRequest = z.infer<typeof ResponsesRequest>;

const ResponsesUsage = z.object({
  input_tokens: z.int(),
  input_tokens_details: z.object({ cached_tokens: z.int() }),
  output_tokens: z.int(),
  output_tokens_details: z.object({ reasoning_tokens: z.int() }),
  total_tokens: z.int(),
});

/** A response, whole or in progress. */
export const ModelResponse = z.object({
  id: z.string(),
  object: z.literal('response'),
  created_at: z.int(),
  completed_at: z.int().nullable(),
  status: z.enum(['in_progress', 'completed', 'incomplete', 'failed']),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  incomplete_details: z.object({ reason: z.literal('max_output_tokens') }).nullable(),
  model: z.string(),
  output: z.array(OutputItem),
  usage: ResponsesUsage.nullable(),
  instructions: z.string().nullable(),
  previous_response_id: z.string().nullable(),
  store: z.boolean(),
  background: z.literal(false),
  max_output_tokens: z.int().nullable(),
  temperature: z.number().nullable(),
  top_p: z.number().nullable(),
  top_logprobs: z.int(),
  parallel_tool_calls: z.boolean(),
  tools: z.array(
    z.object({
      type: z.literal('function'),
      name: z.string(),
      description: z.string().nullable(),
      parameters: z.record(z.string(), z.unknown()).nullable(),
      strict: z.null(),
    }),
  ),
  tool_choice: z.union([z.string(), z.record(z.string(), z.unknown())]),
  text: z.object({ format: z.record(z.string(), z.unknown()) }),
  reasoning: z.object({ effort: z.string().nullable(), summary: z.string().nullable() }),
  truncation: z.literal('disabled'),
  service_tier: z.literal('default'),
  metadata: z.record(z.string(), z.unknown()),
  heddle: HeddleUsage.optional(),
});
/** A response, whole or in progress. */
export type ModelResponse = z.infer<typeof ModelResponse>;

/** The common fields of events; the others depend on the type, as in OpenAI's documentation. */
export const ResponseEvent = z.looseObject({ type: z.string(), sequence_number: z.int() });
/** An event of a response's stream. */
export type ResponseEvent = z.infer<typeof ResponseEvent>;

/** The input items of a response. */
export const InputItemList = z.object({
  object: z.literal('list'),
  data: z.array(z.looseObject({ type: z.string(), id: z.string() })),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
  has_more: z.literal(false),
});
/** The answer to the deletion of a response. */
export const DeletedResponse = z.object({
  id: z.string(),
  object: z.literal('response'),
  deleted: z.literal(true),
});
