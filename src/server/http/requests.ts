/** Converts requests of clients to requests of the engine. */
import type { ChatMessage, ExactJson } from '../../text/index.js';
import type { Calls, Format, GenerateRequest, Owner, Prompt, ServedModelInfo } from '../engine/protocol.js';
import { ApiError, invalidValue } from './api-error.js';
import { exactTools, exactVariables } from './exact-body.js';
import type { Message, ToolCall } from './messages.js';
import type { ChatRequest, CompletionRequest } from './schemas.js';
import { shownImage } from './shown-image.js';

/** The type without undefined values. */
type Given<T> = { [Key in keyof T]?: Exclude<T[Key], undefined> };

/** An object without the keys whose value is undefined. */
export function given<T extends object>(values: T): Given<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Given<T>;
}

/** The least top_p: 0 means the most likely token only. */
const NARROWEST = 1e-9;

function common(body: ChatRequest | CompletionRequest, info: ServedModelInfo, owner: Owner) {
  const bias = Object.entries(body.logit_bias ?? {}).map(([id, amount]) => [Number(id), amount] as const);
  const beyond = bias.find(([id]) => id >= info.vocabulary)?.[0];
  if (beyond !== undefined) {
    const message = `the token ${beyond} is not one of the ${info.vocabulary} of ${info.id}: ids of tokens are those of the model's own tokenizer`;
    throw invalidValue(`logit_bias.${beyond}`, message);
  }
  const topP = body.top_p === undefined ? undefined : Math.max(NARROWEST, body.top_p);
  const n = body.n ?? 1;
  if (body.save_state && n > 1) {
    throw invalidValue('n', "'save_state' is for one answer: leave out 'n'");
  }
  return {
    owner,
    model: info.id,
    n,
    seed: seedOf(body.seed),
    stop: body.stop,
    ...given({
      state: body.state,
      save: body.save_state ? { name: body.state_name ?? null } : undefined,
      temperature: body.temperature,
      topP,
      topK: body.top_k,
      minP: body.min_p,
      repetitionPenalty: body.repetition_penalty,
      frequencyPenalty: body.frequency_penalty,
      presencePenalty: body.presence_penalty,
      bias: bias.length > 0 ? bias : undefined,
    }),
  };
}

/** The seed, or a random one. The sampler uses its lowest 32 bits. */
function seedOf(seed: number | undefined): number {
  return seed === undefined ? Math.floor(Math.random() * 2 ** 31) : seed >>> 0;
}

/** `exact` is the body as parsed by `exactBodyOf`. */
export function chatRequest(
  body: ChatRequest,
  info: ServedModelInfo,
  owner: Owner,
  exact: ReadonlyMap<string, ExactJson> = new Map(),
): GenerateRequest {
  const { logprobs } = body;
  if (body.top_logprobs && !logprobs) {
    throw invalidValue('top_logprobs', "'top_logprobs' needs 'logprobs': true");
  }
  const tools = toolsOf(body, info);
  const format = formatOf(body);
  const calls = callsOf(body, tools);
  const variables = templateVariables(body);
  const image = shownImage(body, info);
  return {
    ...common(body, info, owner),
    prompt: {
      kind: 'messages',
      messages: body.messages.map(templateMessage),
      ...(image && { image }),
      ...(tools && { tools, exactTools: exactTools(tools, exact) }),
      ...(variables && { variables: exactVariables(variables, exact) }),
    },
    ...given({
      maxTokens: body.max_completion_tokens ?? body.max_tokens,
      // Some clients send the number of alternatives here, as in /v1/completions.
      logprobs: logprobs ? (body.top_logprobs ?? Number(logprobs === true ? 0 : logprobs)) : undefined,
      format,
      calls,
    }),
  };
}

/** One request for each prompt. */
export function completionRequests(
  body: CompletionRequest,
  info: ServedModelInfo,
  owner: Owner,
): GenerateRequest[] {
  const prompts = promptsOf(body.prompt);
  if (body.save_state && prompts.length > 1) {
    throw invalidValue('prompt', "'save_state' is for one prompt");
  }
  const { best_of: best = 1 } = body;
  if (best > (body.n ?? 1)) {
    throw invalidValue(
      'best_of',
      `'best_of' asks for ${best} answers to choose from, and all that are written are given here: ask for as many with 'n'`,
    );
  }
  const shared = {
    ...common(body, info, owner),
    ...given({
      maxTokens: body.max_tokens ?? DEFAULT_COMPLETION,
      logprobs: body.logprobs,
      echo: body.echo,
      format: formatOf(body),
    }),
  };
  return prompts.map((prompt) => ({ ...shared, prompt }));
}

/** OpenAI's default. */
const DEFAULT_COMPLETION = 16;

/** One or many prompts, as texts or tokens. */
export function promptsOf(prompt: CompletionRequest['prompt']): Prompt[] {
  const one = (single: string | number[]): Prompt =>
    typeof single === 'string' ? { kind: 'text', text: single } : { kind: 'tokens', ids: single };
  if (typeof prompt === 'string' || typeof prompt[0] === 'number') return [one(prompt as string | number[])];
  return (prompt as (string | number[])[]).map(one);
}

/** Messages as a prompt of text only. Throws `ApiError` for images. */
export function textMessages(messages: readonly Message[]): Extract<Prompt, { kind: 'messages' }> {
  for (const [at, message] of messages.entries()) {
    const [image] = message.role === 'user' ? (message.images ?? []) : [];
    if (image)
      throw new ApiError(400, 'images_not_supported', 'it has an image, and here only text is read', {
        param: `messages.${at}.content.${image.part}`,
      });
  }
  return { kind: 'messages', messages: messages.map(templateMessage) };
}

/** A message in the format of chat templates. */
function templateMessage(message: Message): ChatMessage {
  const name = given({ name: message.name });
  switch (message.role) {
    case 'developer':
      return { role: 'system', content: message.content, ...name };
    case 'assistant': {
      const { content, refusal, reasoning_content, reasoning, tool_calls, function_call } = message;
      const calls = tool_calls?.length
        ? tool_calls
        : function_call
          ? [{ id: undefined, function: function_call }]
          : [];
      const thoughts = [reasoning_content, reasoning].find((one) => typeof one === 'string' && one !== '');
      return {
        role: 'assistant',
        content: content === '' ? (refusal ?? '') : content,
        ...name,
        ...(thoughts !== undefined && { reasoning_content: thoughts }),
        ...(calls.length > 0 && { tool_calls: calls.map(templateCall) }),
      };
    }
    case 'tool':
      return {
        role: 'tool',
        content: message.content,
        ...name,
        ...given({ tool_call_id: message.tool_call_id }),
      };
    case 'function':
      return { role: 'tool', content: message.content, ...name };
    default:
      return { role: message.role, content: message.content, ...name };
  }
}

/** Arguments stay JSON text, which the template parses exactly: `JSON.parse` would change numbers such as 1.0. */
function templateCall({ id, function: called }: Pick<ToolCall, 'id' | 'function'>, i: number) {
  return {
    id: id ?? `call_${i}`,
    type: 'function',
    function: { name: called.name, arguments: argumentsOf(called.arguments) },
  };
}

/** Arguments as the JSON text of an object: empty text means no arguments, truncated text is repaired, and other text is unchanged. */
function argumentsOf(json: string): string {
  for (const text of [json, ...closed(json)]) {
    try {
      const value: unknown = JSON.parse(text);
      if (typeof value === 'object' && value !== null) return text;
    } catch {}
  }
  return /^\s*(?:null\s*)?$/.test(json) ? '{}' : json;
}

/** Repairs of truncated JSON: closed at its end, and closed after its last complete member. */
export function closed(json: string): string[] {
  const open: string[] = [];
  let quoted = false;
  let member = '';
  for (let i = 0; i < json.length; i++) {
    const sign = json[i]!;
    if (quoted) {
      if (sign === '\\') i++;
      else if (sign === '"') quoted = false;
    } else if (sign === '"') quoted = true;
    else if (sign === '{' || sign === '[') open.unshift(sign === '{' ? '}' : ']');
    else if (sign === '}' || sign === ']') open.shift();
    else if (sign === ',') member = json.slice(0, i) + open.join('');
  }
  return [json + (quoted ? '"' : '') + open.join(''), member];
}

/** The template's variables for thinking, from their names in various servers. */
function templateVariables(
  body: Pick<
    ChatRequest,
    'chat_template_kwargs' | 'reasoning_effort' | 'enable_thinking' | 'think' | 'thinking' | 'reasoning'
  >,
): Readonly<Record<string, unknown>> | undefined {
  const { chat_template_kwargs: own, think, thinking, reasoning } = body;
  const effort =
    body.reasoning_effort ?? reasoning?.effort ?? (typeof think === 'string' ? think : undefined);
  const kind = thinking?.type;
  const asked =
    body.enable_thinking ??
    reasoning?.enabled ??
    (typeof think === 'boolean' ? think : undefined) ??
    (kind === 'enabled' ? true : kind === 'disabled' ? false : undefined) ??
    (effort === 'none' ? false : undefined);
  const variables = {
    // The two names that templates use.
    ...(asked !== undefined && { enable_thinking: asked, thinking: asked }),
    ...(effort !== undefined && effort !== 'none' && { reasoning_effort: effort }),
    ...own,
  };
  return Object.keys(variables).length > 0 ? variables : undefined;
}

/** The tools that the model may call. */
function toolsOf({ tools, tool_choice: choice }: ChatRequest, info: ServedModelInfo): ChatRequest['tools'] {
  if (!tools || tools.length === 0) {
    if (choice?.mode === 'required') {
      throw invalidValue('tool_choice', "'tool_choice' needs 'tools'");
    }
    return undefined;
  }
  if (choice?.mode === 'none') return undefined;
  if (!info.tools) {
    throw new ApiError(
      400,
      'tools_not_supported',
      `${info.id} has no chat template that tells it of tools: leave 'tools' out`,
      { param: 'tools' },
    );
  }
  const unknown = choice?.names?.find((name) => !tools.some((tool) => tool.function.name === name));
  if (unknown !== undefined) {
    throw invalidValue('tool_choice', `'tool_choice' names ${unknown}, which is not among 'tools'`);
  }
  // With a required tool the prompt lists all tools; with a set of allowed tools it lists only those.
  if (choice?.mode === 'auto' && choice.names) {
    return tools.filter((tool) => choice.names!.includes(tool.function.name));
  }
  return tools;
}

function formatOf({
  response_format: format,
  format: ollama,
}: Pick<ChatRequest, 'response_format' | 'format'>): Format | undefined {
  if (!format && ollama) return ollama === 'json' ? { kind: 'json' } : { kind: 'schema', schema: ollama };
  if (!format || format.type === 'text') return undefined;
  return format.schema ? { kind: 'schema', schema: format.schema } : { kind: 'json' };
}

/** Which tools may be called, whether one must be, and whether only one may be. */
function callsOf(
  { tool_choice: choice, parallel_tool_calls: parallel }: ChatRequest,
  tools: ChatRequest['tools'],
): Calls | undefined {
  if (!tools) return undefined;
  const demanded = choice?.mode === 'required';
  const callable = tools
    .map(({ function: { name, parameters } }) => ({ name, parameters: parameters ?? { type: 'object' } }))
    .filter(({ name }) => !demanded || (choice.names?.includes(name) ?? true));
  return { tools: callable, demanded, single: parallel === false };
}
