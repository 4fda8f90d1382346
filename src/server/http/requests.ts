/** What clients ask for, as the engine is asked. */
import type { ChatMessage } from '../../text/index.js';
import type { Format, GenerateRequest, Owner, Prompt, ServedModelInfo } from '../engine/protocol.js';
import { ApiError } from './api-error.js';
import type { ChatRequest, CompletionRequest, Message } from './schemas.js';

/** An entry for each value that is there. */
type Given<T> = { [Key in keyof T]?: Exclude<T[Key], undefined> };

function given<T extends object>(values: T): Given<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Given<T>;
}

/** 0 means the likeliest token alone. */
const NARROWEST = 1e-9;

function common(body: ChatRequest | CompletionRequest, owner: Owner) {
  const bias = Object.entries(body.logit_bias ?? {}).map(([id, amount]) => [Number(id), amount] as const);
  const topP = body.top_p === undefined ? undefined : Math.max(NARROWEST, body.top_p);
  const n = body.n ?? 1;
  if (body.save_state && n > 1) {
    throw new ApiError(400, 'invalid_value', "'save_state' is for one answer: leave out 'n'", { param: 'n' });
  }
  return {
    owner,
    model: body.model,
    n,
    seed: body.seed ?? Math.floor(Math.random() * 2 ** 31),
    stop: body.stop,
    ...given({
      state: body.state,
      save: body.save_state ? { name: body.state_name ?? null } : undefined,
      temperature: body.temperature,
      topP,
      topK: body.top_k,
      repetitionPenalty: body.repetition_penalty,
      frequencyPenalty: body.frequency_penalty,
      presencePenalty: body.presence_penalty,
      bias: bias.length > 0 ? bias : undefined,
    }),
  };
}

export function chatRequest(body: ChatRequest, info: ServedModelInfo, owner: Owner): GenerateRequest {
  if (body.top_logprobs !== undefined && !body.logprobs) {
    throw new ApiError(400, 'invalid_value', "'top_logprobs' needs 'logprobs': true", {
      param: 'top_logprobs',
    });
  }
  const tools = toolsOf(body, info);
  const format = formatOf(body, tools);
  return {
    ...common(body, owner),
    prompt: {
      kind: 'messages',
      messages: body.messages.map(templateMessage),
      ...(tools && { tools }),
    },
    ...given({
      maxTokens: body.max_completion_tokens ?? body.max_tokens,
      logprobs: body.logprobs ? (body.top_logprobs ?? 0) : undefined,
      format,
    }),
  };
}

/** One for each prompt. */
export function completionRequests(body: CompletionRequest, owner: Owner): GenerateRequest[] {
  const prompts = promptsOf(body.prompt);
  if (body.save_state && prompts.length > 1) {
    throw new ApiError(400, 'invalid_value', "'save_state' is for one prompt", { param: 'prompt' });
  }
  const shared = {
    ...common(body, owner),
    ...given({ maxTokens: body.max_tokens ?? DEFAULT_COMPLETION, logprobs: body.logprobs }),
  };
  return prompts.map((prompt) => ({ ...shared, prompt }));
}

/** As OpenAI's. */
const DEFAULT_COMPLETION = 16;

function promptsOf(prompt: CompletionRequest['prompt']): Prompt[] {
  const one = (single: string | number[]): Prompt =>
    typeof single === 'string' ? { kind: 'text', text: single } : { kind: 'tokens', ids: single };
  if (typeof prompt === 'string' || typeof prompt[0] === 'number') return [one(prompt as string | number[])];
  return (prompt as (string | number[])[]).map(one);
}

/** A message as templates know it. */
export function templateMessage(message: Message): ChatMessage {
  switch (message.role) {
    case 'developer':
      return { role: 'system', content: message.content };
    case 'assistant':
      return {
        role: 'assistant',
        content: message.content ?? '',
        ...(message.tool_calls?.length && { tool_calls: message.tool_calls.map(templateCall) }),
      };
    case 'tool':
      return { role: 'tool', content: message.content, tool_call_id: message.tool_call_id };
    default:
      return { role: message.role, content: message.content };
  }
}

/** Templates write arguments as JSON, so they get what that JSON says. */
function templateCall(call: { id: string; type: string; function: { name: string; arguments: string } }) {
  let parsed: unknown;
  try {
    parsed = JSON.parse(call.function.arguments);
  } catch {
    throw new ApiError(400, 'invalid_value', `the arguments of the tool call ${call.id} are no JSON`, {
      param: 'messages',
    });
  }
  return { ...call, function: { name: call.function.name, arguments: parsed } };
}

/** Those that the model may call. */
function toolsOf({ tools, tool_choice }: ChatRequest, info: ServedModelInfo): ChatRequest['tools'] {
  if (!tools || tools.length === 0) {
    if (tool_choice !== undefined && tool_choice !== 'none' && tool_choice !== 'auto') {
      throw new ApiError(400, 'invalid_value', "'tool_choice' needs 'tools'", { param: 'tool_choice' });
    }
    return undefined;
  }
  if (tool_choice === 'none') return undefined;
  if (!info.tools) {
    throw new ApiError(
      400,
      'tools_not_supported',
      `${info.id} has no chat template that tells it of tools in a form that is understood here: leave 'tools' out`,
      { param: 'tools' },
    );
  }
  return tools;
}

function formatOf(body: ChatRequest, tools: ChatRequest['tools']): Format | undefined {
  const { response_format: format, tool_choice: choice } = body;
  if (tools && choice !== undefined && choice !== 'auto') {
    const name = typeof choice === 'object' ? choice.function.name : undefined;
    const chosen = tools
      .map((tool) => ({
        name: tool.function.name,
        parameters: tool.function.parameters ?? { type: 'object' },
      }))
      .filter((tool) => name === undefined || tool.name === name);
    if (chosen.length > 0) return { kind: 'call', tools: chosen };
    throw new ApiError(400, 'invalid_value', `'tool_choice' names ${name}, which is not among 'tools'`, {
      param: 'tool_choice',
    });
  }
  if (!format || format.type === 'text') return undefined;
  if (tools) {
    throw new ApiError(400, 'invalid_value', "'response_format' and 'tools' exclude each other: choose one", {
      param: 'response_format',
    });
  }
  if (format.type === 'json_object') return { kind: 'json' };
  return { kind: 'schema', schema: format.json_schema.schema };
}
