/**
 * What requests may say and what answers are: OpenAI's chat and text completions, with what is Heddle's own beside it. Whatever
 * is not here is refused. `null` is the same as absent, as it is there.
 */
import { z } from 'zod';
import { StateId, StateRecord } from '../states/record.js';

/** A parameter that may be left out, or be null. */
function optional<Schema extends z.ZodType>(schema: Schema) {
  return schema.nullish().transform((value) => value ?? undefined);
}

/** How many answers, prompts and so on one request may ask for. */
const MANY = 64;

const Name = z.string().max(200).nullable().describe('What people call it.');

const Text = z.strictObject({ type: z.literal('text'), text: z.string() });
const Content = z.union([z.string(), z.array(Text).min(1)]).transform((content) => {
  return typeof content === 'string' ? content : content.map(({ text }) => text).join('');
});

const ToolCall = z.strictObject({
  id: z.string(),
  type: z.literal('function'),
  function: z.strictObject({ name: z.string(), arguments: z.string() }),
});

/** What clients send along with an answer that they were given, where it has nothing to say. */
const nothing = z.union([z.null(), z.array(z.never())]).optional();

export const Message = z.discriminatedUnion('role', [
  z.strictObject({ role: z.literal('system'), content: Content, name: z.string().optional() }),
  z.strictObject({ role: z.literal('developer'), content: Content, name: z.string().optional() }),
  z.strictObject({ role: z.literal('user'), content: Content, name: z.string().optional() }),
  z.strictObject({
    role: z.literal('assistant'),
    content: Content.nullish(),
    name: z.string().optional(),
    tool_calls: z.array(ToolCall).nullish(),
    refusal: nothing,
    audio: nothing,
    function_call: nothing,
    annotations: nothing,
  }),
  z.strictObject({ role: z.literal('tool'), content: Content, tool_call_id: z.string() }),
]);
export type Message = z.infer<typeof Message>;

const JsonSchema = z.record(z.string(), z.unknown());

const Tool = z.strictObject({
  type: z.literal('function'),
  function: z.strictObject({
    name: z.string().regex(/^[\w-]{1,64}$/, 'expected 1 to 64 letters, digits, _ or -'),
    description: z.string().nullish(),
    parameters: JsonSchema.nullish(),
    strict: z.boolean().nullish(),
  }),
});
export type Tool = z.infer<typeof Tool>;

const ToolChoice = z.union([
  z.enum(['none', 'auto', 'required']),
  z.strictObject({ type: z.literal('function'), function: z.strictObject({ name: z.string() }) }),
]);

const ResponseFormat = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
  z.strictObject({
    type: z.literal('json_schema'),
    json_schema: z.strictObject({
      name: z.string(),
      description: z.string().nullish(),
      schema: JsonSchema,
      strict: z.boolean().nullish(),
    }),
  }),
]);

const stop = z
  .union([
    z
      .string()
      .min(1)
      .transform((one) => [one]),
    z.array(z.string().min(1).max(500)).max(16),
  ])
  .nullish()
  .transform((value) => value ?? []);

const logitBias = optional(
  z.record(z.string().regex(/^\d{1,9}$/, 'expected the id of a token'), z.number().min(-100).max(100)),
);

const generation = {
  model: z.string().max(200),
  temperature: optional(z.number().min(0).max(2)),
  top_p: optional(z.number().min(0).max(1)),
  top_k: optional(z.int().min(0)).describe('Only so many of the likeliest tokens; 0 for all.'),
  repetition_penalty: optional(z.number().min(0.01).max(100)).describe(
    'Divides the positive logits of tokens that occurred.',
  ),
  n: optional(z.int().min(1).max(16)),
  max_tokens: optional(z.int().min(1)),
  stop,
  seed: optional(z.int().min(0)),
  stream: optional(z.boolean()),
  stream_options: optional(
    z.strictObject({
      include_usage: z.boolean().nullish(),
      include_obfuscation: z.literal(false).nullish(),
    }),
  ),
  frequency_penalty: optional(z.number().min(-2).max(2)),
  presence_penalty: optional(z.number().min(-2).max(2)),
  logit_bias: logitBias,
  user: z.string().nullish().describe('Has no effect.'),
  state: optional(StateId).describe('Goes on from a saved state: the prompt is what comes after it.'),
  save_state: optional(z.boolean()).describe('Saves the state at the end; the answer says its id.'),
  state_name: optional(Name).describe('Of the state that is saved.'),
};

export const ChatRequest = z.strictObject({
  ...generation,
  messages: z.array(Message).min(1).max(10_000),
  max_completion_tokens: optional(z.int().min(1)),
  logprobs: optional(z.boolean()),
  top_logprobs: optional(z.int().min(0).max(20)),
  response_format: optional(ResponseFormat),
  tools: optional(z.array(Tool).max(128)),
  tool_choice: optional(ToolChoice),
  parallel_tool_calls: z.boolean().nullish().describe('Has no effect: a model calls as many as it likes.'),
  metadata: z.record(z.string(), z.string()).nullish().describe('Has no effect.'),
  store: z.literal(false).nullish(),
  service_tier: z.enum(['auto', 'default']).nullish(),
  safety_identifier: z.string().nullish().describe('Has no effect.'),
  prompt_cache_key: z.string().nullish().describe('Has no effect: what was read before is always reused.'),
});
export type ChatRequest = z.infer<typeof ChatRequest>;

const Tokens = z.array(z.int().min(0)).min(1);

export const CompletionRequest = z.strictObject({
  ...generation,
  prompt: z.union([
    z.string(),
    Tokens,
    z.array(z.string()).min(1).max(MANY),
    z.array(Tokens).min(1).max(MANY),
  ]),
  logprobs: optional(z.int().min(0).max(20)),
  echo: z.literal(false).nullish(),
  suffix: z.null().optional(),
  best_of: z.literal(1).nullish(),
});
export type CompletionRequest = z.infer<typeof CompletionRequest>;

export const NewStateRequest = z
  .strictObject({
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

export const ForkRequest = z.strictObject({ name: optional(Name) });
export const RenameRequest = z.strictObject({ name: Name });

export const State = StateRecord.omit({ base: true, messages: true });
export const StateWithMessages = StateRecord.omit({ base: true });
export const StateList = z.object({ object: z.literal('list'), data: z.array(State) });
export const DeletedState = z.object({ id: StateId, object: z.literal('state'), deleted: z.literal(true) });

const Usage = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
  prompt_tokens_details: z.object({ cached_tokens: z.int() }),
});
export type Usage = z.infer<typeof Usage>;

const HeddleUsage = z.object({
  reused_tokens: z.int().describe('Tokens of the prompt whose state was known.'),
  read_tokens: z.int().describe('Tokens of the prompt that were read.'),
  state_bytes: z.int().describe('What the sequence holds at its end.'),
  state: State.optional(),
});
export type HeddleUsage = z.infer<typeof HeddleUsage>;

const Logprob = z.object({ token: z.string(), bytes: z.array(z.int()), logprob: z.number() });
const Logprobs = z.object({
  content: z.array(Logprob.extend({ top_logprobs: z.array(Logprob) })),
  refusal: z.null(),
});

const FinishReason = z.enum(['stop', 'length', 'tool_calls']);
export type FinishReason = z.infer<typeof FinishReason>;

const answer = {
  id: z.string(),
  created: z.int(),
  model: z.string(),
  system_fingerprint: z.string(),
};

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
        tool_calls: z.array(ToolCall).optional(),
      }),
      logprobs: Logprobs.nullable(),
      finish_reason: FinishReason,
    }),
  ),
  usage: Usage,
  heddle: HeddleUsage,
});
export type ChatCompletion = z.infer<typeof ChatCompletion>;

export const ChatChunk = z.object({
  ...answer,
  object: z.literal('chat.completion.chunk'),
  choices: z.array(
    z.object({
      index: z.int(),
      delta: z.object({
        role: z.literal('assistant').optional(),
        content: z.string().optional(),
        tool_calls: z.array(ToolCall.extend({ index: z.int() })).optional(),
      }),
      logprobs: Logprobs.nullable(),
      finish_reason: FinishReason.nullable(),
    }),
  ),
  usage: Usage.nullish(),
  heddle: HeddleUsage.optional(),
});
export type ChatChunk = z.infer<typeof ChatChunk>;

/** Of completions: as lists, and with texts for keys. */
const TextLogprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number()),
  top_logprobs: z.array(z.record(z.string(), z.number())),
  text_offset: z.array(z.int()),
});
export type TextLogprobs = z.infer<typeof TextLogprobs>;

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
export type TextCompletion = z.infer<typeof TextCompletion>;

export const ModelCard = z.object({
  id: z.string(),
  object: z.literal('model'),
  created: z.int(),
  owned_by: z.literal('heddle'),
  heddle: z.object({
    pattern: z.string(),
    parameters: z.int(),
    vocabulary: z.int(),
    context: z.int(),
    chat: z.boolean(),
    tools: z.boolean(),
  }),
});
export type ModelCard = z.infer<typeof ModelCard>;
export const ModelList = z.object({ object: z.literal('list'), data: z.array(ModelCard) });

export const Health = z.object({ status: z.enum(['ok', 'draining', 'failed']) });
