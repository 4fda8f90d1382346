/**
 * Schemas of requests and answers: OpenAI's chat and text completions, with Heddle's own fields. `null` means absent; parameters.ts ignores
 * or refuses unknown parameters.
 */
import { z } from 'zod';
import { StateId, StateRecord } from '../../generate/states/record.js';
import { JsonSchema, Message, optional, orEmptyList, Tool, ToolChoice } from './messages.js';
import { requestOf } from './parameters.js';

/** Limits of the prompts and answers of one request. */
const MANY = 2048;
const MOST_ANSWERS = 128;

const Name = z.string().max(200).nullable().describe('What people call it.');

/** A parameter that may be absent, null, or -1, which many clients send for none. */
export function orNone<Schema extends z.ZodType>(schema: Schema) {
  return z
    .union([z.literal(-1).transform(() => undefined), schema])
    .nullish()
    .transform((value) => (value ?? undefined) as z.output<Schema> | undefined);
}

/** The format of an answer, with a JSON Schema in any of the places that OpenAI, llama.cpp, Together and TGI use. */
export const ResponseFormat = z
  .looseObject({
    type: z.enum(['text', 'json_object', 'json_schema', 'json']),
    json_schema: optional(
      z.looseObject({
        name: z.string().nullish(),
        schema: JsonSchema.nullish(),
        strict: z.boolean().nullish(),
      }),
    ),
    schema: optional(JsonSchema).describe('The same as `json_schema.schema`.'),
    value: optional(JsonSchema).describe('The same.'),
  })
  .transform(({ type, json_schema: named, schema, value }) => {
    const bare =
      named && ['type', 'properties', 'anyOf', '$ref'].some((key) => key in named) ? named : undefined;
    return { type, schema: type === 'text' ? undefined : (named?.schema ?? bare ?? schema ?? value) };
  });

/** The same as Ollama's clients send it. */
const ollamaFormat = optional(z.union([z.enum(['json', '']), JsonSchema])).describe(
  "As Ollama's clients ask for JSON: `json`, or a JSON Schema. `response_format` comes first.",
);

/** Any integer; clients send 64-bit seeds, of which a number in JavaScript keeps only the first digits. */
const wholeSeed = z
  .number()
  .refine(Number.isInteger, { error: ({ input }) => `expected a whole number, and it is ${input}` })
  .transform((seed) => (Number.isSafeInteger(seed) ? seed : seed % Number.MAX_SAFE_INTEGER));

/** Empty strings are dropped. */
const stop = z
  .union([z.string().transform((one) => [one]), z.array(z.string().max(1000).nullable()).max(64)])
  .nullish()
  .transform((value) => (value ?? []).filter((one) => one !== null && one !== '') as string[]);

const logitBias = optional(
  orEmptyList(
    z.record(
      z.string().regex(/^\d{1,9}$/, 'expected the id of a token as the key'),
      z.number().min(-100).max(100),
    ),
  ),
);

/** Accepted, since many clients send it, and ignored. */
export const noEffect = z.unknown().optional().describe('Has no effect.');

/** The key that limits the tokens of an answer. */
export const maxTokens = orNone(z.int().min(0)).describe(
  'As many as there is room for, where it is more; -1 is the same as absent.',
);

/** Whether an answer may have several tool calls. */
export const parallelToolCalls = optional(z.boolean()).describe(
  'With false, an answer has at most one tool call: it ends where a second one begins.',
);

/** The keys that chat completions and text completions share. */
export const generation = {
  model: optional(z.string().max(200)).describe('By default, or if it is empty, the only model there is.'),
  temperature: orNone(z.number().min(0).max(2)),
  top_p: orNone(z.number().min(0).max(1)),
  top_k: orNone(z.int().min(0)).describe('Only so many of the likeliest tokens; 0 and -1 for all.'),
  min_p: orNone(z.number().min(0).max(1)).describe(
    'Only tokens that have this part of the probability of the likeliest; 0 for all.',
  ),
  repetition_penalty: optional(z.number().min(0.01).max(100)).describe(
    'Divides the positive logits of tokens that occurred. Also `repeat_penalty`.',
  ),
  n: optional(z.int().min(1).max(MOST_ANSWERS)),
  max_tokens: maxTokens,
  stop,
  // -1 is any seed; other negative ones are seeds.
  seed: orNone(wholeSeed),
  stream: optional(z.boolean()),
  stream_options: optional(orEmptyList(z.looseObject({ include_usage: z.boolean().nullish() }))),
  frequency_penalty: optional(z.number().min(-2).max(2)),
  presence_penalty: optional(z.number().min(-2).max(2)),
  logit_bias: logitBias,
  user: noEffect,
  state: optional(StateId).describe('Goes on from a saved state: the prompt is what comes after it.'),
  save_state: optional(z.boolean()).describe('Saves the state at the end; the answer says its id.'),
  state_name: optional(Name).describe('Of the state that is saved.'),
};

/** Parameters of various servers that switch thinking on or off. */
export const thinking = {
  chat_template_kwargs: optional(orEmptyList(z.record(z.string(), z.unknown()))).describe(
    'Variables of the chat template, such as `enable_thinking`.',
  ),
  reasoning_effort: optional(z.string()).describe(
    '`none` switches thinking off; the template is given others.',
  ),
  enable_thinking: optional(z.boolean()),
  think: optional(z.union([z.boolean(), z.string()])),
  thinking: optional(z.looseObject({ type: z.string().nullish() })),
  reasoning: optional(z.looseObject({ effort: z.string().nullish(), enabled: z.boolean().nullish() })),
};

/** The body of `POST /v1/chat/completions`. */
export const ChatRequest = requestOf({
  ...generation,
  ...thinking,
  messages: z.array(Message).min(1).max(10_000),
  max_completion_tokens: maxTokens,
  logprobs: optional(z.union([z.boolean(), z.int().min(0).max(20)])),
  top_logprobs: orNone(z.int().min(0).max(20)),
  response_format: optional(ResponseFormat),
  format: ollamaFormat,
  tools: optional(z.array(Tool).max(1024)),
  tool_choice: optional(ToolChoice),
  parallel_tool_calls: parallelToolCalls,
  metadata: noEffect,
  store: noEffect,
  service_tier: noEffect,
  safety_identifier: noEffect,
  prompt_cache_key: noEffect,
});
/** The body of a chat request, once it is read. */
export type ChatRequest = z.infer<typeof ChatRequest>;

const Tokens = z.array(z.int().min(0)).min(1);

/** The body of `POST /v1/completions`. */
export const CompletionRequest = requestOf({
  ...generation,
  prompt: z.union([
    z.string(),
    Tokens,
    z
      .array(z.union([z.string(), Tokens]))
      .min(1)
      .max(MANY),
  ]),
  logprobs: optional(z.union([z.literal(false), z.literal(true), orNone(z.int().min(0).max(20))])).transform(
    (value) => (value === false ? undefined : value === true ? 0 : value),
  ),
  echo: optional(z.boolean()).describe(
    'Begins with the prompt, and its log probabilities where they are asked for.',
  ),
  best_of: optional(z.int()),
  response_format: optional(ResponseFormat),
  format: ollamaFormat,
});
/** The body of a completion request, once it is read. */
export type CompletionRequest = z.infer<typeof CompletionRequest>;

/** The body of `POST /v1/states`: what is read into the new state. */
export const NewStateRequest = requestOf({
  model: optional(z.string().max(200)).describe('By default the only model there is, or that of `from`.'),
  messages: optional(z.array(Message).min(1).max(10_000)),
  prompt: optional(z.string().min(1)),
  from: optional(StateId).describe('A state that the messages or the prompt come after.'),
  name: optional(Name),
})
  .refine(({ messages, prompt }) => messages === undefined || prompt === undefined, {
    message: 'give messages or a prompt, not both',
  })
  .refine(({ messages, prompt, from }) => messages || prompt || from, {
    message: 'give messages, a prompt, or a state to fork as `from`',
  });

/** The body of a fork of a state. */
export const ForkRequest = requestOf({ name: optional(Name) });
/** The body of a change of a state's name. */
export const RenameRequest = requestOf({ name: Name });

/** A saved state without its messages. */
export const State = StateRecord.omit({ base: true, messages: true });
/** A saved state with its messages. */
export const StateWithMessages = StateRecord.omit({ base: true });
/** The states of one owner. */
export const StateList = z.object({ object: z.literal('list'), data: z.array(State) });
/** The answer to the deletion of a state. */
export const DeletedState = z.object({ id: StateId, object: z.literal('state'), deleted: z.literal(true) });

const Usage = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
  prompt_tokens_details: z.object({ cached_tokens: z.int() }),
  completion_tokens_details: z.object({ reasoning_tokens: z.int() }),
});
/** The usage of a request, in OpenAI's terms. */
export type Usage = z.infer<typeof Usage>;

/** The usage of a request, in Heddle's terms. */
export const HeddleUsage = z.object({
  reused_tokens: z.int().describe('Tokens of the prompt whose state was known.'),
  read_tokens: z.int().describe('Tokens of the prompt that were read.'),
  state_bytes: z.int().describe('What the sequence holds at its end.'),
  state: State.optional(),
});
/** The usage of a request, in Heddle's terms. */
export type HeddleUsage = z.infer<typeof HeddleUsage>;

const Logprob = z.object({ token: z.string(), bytes: z.array(z.int()), logprob: z.number() });
const Logprobs = z.object({
  content: z.array(Logprob.extend({ top_logprobs: z.array(Logprob) })),
  refusal: z.null(),
});

/** A tool call of an answer. */
const WrittenCall = z.object({
  id: z.string(),
  type: z.literal('function'),
  function: z.object({ name: z.string(), arguments: z.string() }),
});
/** A streamed part of a tool call: the first part has everything but the rest of the arguments. */
const CallDelta = z.object({
  index: z.int(),
  id: z.string().optional(),
  type: z.literal('function').optional(),
  function: z.object({ name: z.string().optional(), arguments: z.string() }),
});

const FinishReason = z.enum(['stop', 'length', 'tool_calls']);
/** Why an answer ended. */
export type FinishReason = z.infer<typeof FinishReason>;

const answer = {
  id: z.string(),
  created: z.int(),
  model: z.string(),
  system_fingerprint: z.string(),
};

/** The answer to a chat request. */
export const ChatCompletion = z.object({
  ...answer,
  object: z.literal('chat.completion'),
  choices: z.array(
    z.object({
      index: z.int(),
      message: z.object({
        role: z.literal('assistant'),
        content: z.string().nullable(),
        refusal: z.null(),
        reasoning_content: z.string().optional().describe('What the model thought before its answer.'),
        tool_calls: z.array(WrittenCall).optional(),
      }),
      logprobs: Logprobs.nullable(),
      finish_reason: FinishReason,
    }),
  ),
  usage: Usage,
  heddle: HeddleUsage,
});
/** The answer to a chat request. */
export type ChatCompletion = z.infer<typeof ChatCompletion>;

/** An event of a streamed chat completion. */
export const ChatChunk = z.object({
  ...answer,
  object: z.literal('chat.completion.chunk'),
  choices: z.array(
    z.object({
      index: z.int(),
      delta: z.object({
        role: z.literal('assistant').optional(),
        content: z.string().optional(),
        reasoning_content: z.string().optional(),
        tool_calls: z.array(CallDelta).optional(),
      }),
      logprobs: Logprobs.nullable(),
      finish_reason: FinishReason.nullable(),
    }),
  ),
  usage: Usage.nullish(),
  heddle: HeddleUsage.optional(),
});
/** An event of a streamed chat completion. */
export type ChatChunk = z.infer<typeof ChatChunk>;

/** Log probabilities of text completions: lists, and objects with texts as keys. */
const TextLogprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number().nullable()).describe('null for the first token of a prompt.'),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
  text_offset: z.array(z.int()),
});
/** Log probabilities in the form of text completions: a list for each key. */
export type TextLogprobs = z.infer<typeof TextLogprobs>;

/** The answer to a completion request, also as an event of a stream. */
export const TextCompletion = z.object({
  ...answer,
  object: z.literal('text_completion'),
  choices: z.array(
    z.object({
      index: z.int(),
      text: z.string(),
      logprobs: TextLogprobs.nullable(),
      finish_reason: FinishReason.nullable(),
    }),
  ),
  usage: Usage.nullish(),
  heddle: HeddleUsage.optional(),
});
/** The answer to a completion request, also as an event of a stream. */
export type TextCompletion = z.infer<typeof TextCompletion>;

/** A model in OpenAI's format, with Heddle's own fields under `heddle`. */
export const ModelCard = z.object({
  id: z.string(),
  object: z.literal('model'),
  created: z.int(),
  owned_by: z.literal('heddle'),
  heddle: z.object({
    pattern: z.string(),
    parameters: z.int(),
    hidden_size: z.int().describe('Numbers of a token between two layers.'),
    vocabulary: z.int(),
    context: z.int(),
    positions: z
      .int()
      .optional()
      .describe('Tokens that it was made to attend to, where its memory grows with what it reads.'),
    chat: z.boolean(),
    tools: z.boolean(),
    images: z.boolean().describe('Whether it reads an image before it writes.'),
  }),
});
/** A model that is served, as it is listed. */
export type ModelCard = z.infer<typeof ModelCard>;
/** The models that are served. */
export const ModelList = z.object({ object: z.literal('list'), data: z.array(ModelCard) });

/** The health of the server. */
export const Health = z.object({ status: z.enum(['ok', 'draining', 'unresponsive', 'failed']) });
/** The state of the server. */
export type Health = z.infer<typeof Health>['status'];
