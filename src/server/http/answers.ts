/** Converts the engine's events to chat and text completions, streamed or whole. */
import { randomBytes } from 'node:crypto';
import type { z } from 'zod';
import type { StateRecord } from '../../generate/states/record.js';
import { type AnswerPart, AnswerReader, type Reading, type ThoughtForm } from '../../text/index.js';
import { countCharacters } from '../engine/held-tokens.js';
import type {
  AnswerToken,
  ChosenLogprob,
  EchoedToken,
  GenerateEvent,
  GenerateResult,
  ServedModelInfo,
  TokenLogprob,
} from '../engine/protocol.js';
import type {
  ChatChunk,
  ChatCompletion,
  FinishReason,
  HeddleUsage,
  State,
  TextCompletion,
  TextLogprobs,
  Usage,
} from './schemas.js';

/** The fields that all chunks of an answer share. */
export interface Heading {
  readonly id: string;
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
}

/** The shared fields of an answer, with a random id. */
export function headingOf({ id, fingerprint }: ServedModelInfo, kind: 'chatcmpl' | 'cmpl'): Heading {
  return {
    id: `${kind}-${randomBytes(12).toString('hex')}`,
    created: Math.floor(Date.now() / 1000),
    model: id,
    system_fingerprint: fingerprint,
  };
}

/** The usage of a request, over all of its prompts. */
export class Tally {
  promptTokens = 0;
  reusedTokens = 0;
  readTokens = 0;
  writtenTokens = 0;
  /** The completion tokens of thoughts. */
  thoughtTokens = 0;
  private stateBytes = 0;
  private state: StateRecord | undefined;

  add(event: GenerateEvent): void {
    if (event.kind === 'start') {
      this.promptTokens += event.promptTokens;
      this.reusedTokens += event.reusedTokens;
      this.readTokens += event.readTokens;
    } else if (event.kind === 'end') this.writtenTokens += event.writtenTokens;
  }

  end({ stateBytes, state }: GenerateResult): void {
    this.stateBytes += stateBytes;
    this.state = state;
  }

  get usage(): Usage {
    return {
      prompt_tokens: this.promptTokens,
      completion_tokens: this.writtenTokens,
      total_tokens: this.promptTokens + this.writtenTokens,
      prompt_tokens_details: { cached_tokens: this.reusedTokens },
      completion_tokens_details: { reasoning_tokens: this.thoughtTokens },
    };
  }

  get heddle(): HeddleUsage {
    return {
      reused_tokens: this.reusedTokens,
      read_tokens: this.readTokens,
      state_bytes: this.stateBytes,
      ...(this.state && { state: publicState(this.state) }),
    };
  }
}

/** A state's record without its messages. */
export function publicState({ base: _, messages: __, ...state }: StateRecord): z.infer<typeof State> {
  return state;
}

/** The events of one prompt, or of several with consecutive indices of answers. */
export type Events = AsyncGenerator<GenerateEvent, void>;

/** The chunks of a chat completion, without usage. */
export async function* chatChunks(
  events: Events,
  heading: Heading,
  reading: Omit<Reading, 'thinking'>,
  tally: Tally,
): AsyncGenerator<ChatChunk> {
  const readers = new Map<number, AnswerReader>();
  const called = new Set<number>();
  const begun = new Set<number>();
  let thinking: ThoughtForm | undefined;
  const chunk = (
    index: number,
    delta: ChatChunk['choices'][0]['delta'],
    more: { logprobs?: readonly AnswerToken[] | undefined; finish?: FinishReason } = {},
  ): ChatChunk => {
    const first = begun.has(index) ? {} : { role: 'assistant' as const, content: '' };
    begun.add(index);
    const logprobs = more.logprobs ? chatLogprobs(more.logprobs) : null;
    const choice = { index, delta: { ...first, ...delta }, logprobs, finish_reason: more.finish ?? null };
    return { ...heading, object: 'chat.completion.chunk', choices: [choice] };
  };
  for await (const event of events) {
    if (event.kind === 'start') ({ thinking } = event);
    if (!('choice' in event) || event.kind === 'echo') continue;
    const { choice } = event;
    const reader = readers.get(choice) ?? new AnswerReader({ ...reading, thinking });
    readers.set(choice, reader);
    const isEnd = event.kind === 'end';
    const parts = isEnd ? reader.end() : reader.push(event.text);
    let logprobs = isEnd ? undefined : event.logprobs;
    if (!isEnd && parts.length > 0 && parts.every(({ kind }) => kind === 'thought')) tally.thoughtTokens++;
    for (const part of parts) {
      if (part.kind === 'call') called.add(choice);
      yield chunk(choice, deltaOf(part), { logprobs });
      logprobs = undefined;
    }
    // Log probabilities may come before their text.
    if (logprobs) yield chunk(choice, { content: '' }, { logprobs });
    if (isEnd) yield chunk(choice, {}, { finish: finishReason(event.reason, called.has(choice)) });
  }
}

function deltaOf(part: AnswerPart): ChatChunk['choices'][0]['delta'] {
  switch (part.kind) {
    case 'content':
      return { content: part.text };
    case 'thought':
      return { reasoning_content: part.text };
    case 'call': {
      const { index, id, name } = part;
      return { tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] };
    }
    case 'arguments':
      return { tool_calls: [{ index: part.index, function: { arguments: part.text } }] };
  }
}

/** Assembles the chunks of one choice. */
class GatheredChoice {
  content = '';
  reasoning: string | undefined;
  finish: FinishReason = 'length';
  readonly logprobs: ChatLogprobs[] = [];
  private readonly calls: { id: string; name: string; arguments: string }[] = [];

  add({ delta, logprobs, finish_reason: finish }: ChatChunk['choices'][0]): void {
    this.content += delta.content ?? '';
    if (delta.reasoning_content !== undefined) {
      this.reasoning = (this.reasoning ?? '') + delta.reasoning_content;
    }
    for (const { index, id = '', function: called } of delta.tool_calls ?? []) {
      this.calls[index] ??= { id, name: called.name ?? '', arguments: '' };
      this.calls[index].arguments += called.arguments;
    }
    if (logprobs) this.logprobs.push(logprobs);
    if (finish) this.finish = finish;
  }

  /** The choice of a whole completion. */
  choice(index: number): ChatCompletion['choices'][0] {
    const { content, reasoning, calls, logprobs, finish } = this;
    const tool_calls = calls.map(({ id, ...called }) => ({
      id,
      type: 'function' as const,
      function: called,
    }));
    return {
      index,
      message: {
        role: 'assistant',
        content: content === '' && calls.length > 0 ? null : content,
        refusal: null,
        ...(reasoning !== undefined && { reasoning_content: reasoning }),
        ...(calls.length > 0 && { tool_calls }),
      },
      logprobs:
        logprobs.length > 0 ? { content: logprobs.flatMap((part) => part.content), refusal: null } : null,
      finish_reason: finish,
    };
  }
}

/** A whole chat completion. */
export async function chatCompletion(
  chunks: AsyncGenerator<ChatChunk>,
  heading: Heading,
  tally: Tally,
): Promise<ChatCompletion> {
  const choices: GatheredChoice[] = [];
  for await (const { choices: parts } of chunks) {
    for (const part of parts) {
      choices[part.index] ??= new GatheredChoice();
      choices[part.index]!.add(part);
    }
  }
  return {
    ...heading,
    object: 'chat.completion',
    choices: choices.map((choice, index) => choice.choice(index)),
    usage: tally.usage,
    heddle: tally.heddle,
  };
}

/** The chunks of a text completion, without usage. */
export async function* textChunks(events: Events, heading: Heading): AsyncGenerator<TextCompletion> {
  // The offsets of answers after echoed prompts.
  const offsets = new Map<number, number>();
  for await (const event of events) {
    if (!('choice' in event)) continue;
    const { choice } = event;
    const isEnd = event.kind === 'end';
    if (event.kind === 'echo') {
      const { text, tokens } = event;
      offsets.set(choice, countCharacters(text));
      const logprobs = tokens ? echoedLogprobs(tokens) : null;
      yield {
        ...heading,
        object: 'text_completion',
        choices: [{ index: choice, text, logprobs, finish_reason: null }],
      };
      continue;
    }
    if (!isEnd && event.text === '' && !event.logprobs) continue;
    const offset = offsets.get(choice) ?? 0;
    const text = isEnd ? '' : event.text;
    const logprobs = !isEnd && event.logprobs ? textLogprobs(event.logprobs, offset) : null;
    const finish = isEnd ? finishReason(event.reason, false) : null;
    yield {
      ...heading,
      object: 'text_completion',
      choices: [{ index: choice, text, logprobs, finish_reason: finish }],
    };
  }
}

/** A whole text completion. */
export async function textCompletion(
  chunks: AsyncGenerator<TextCompletion>,
  heading: Heading,
  tally: Tally,
): Promise<TextCompletion> {
  const choices: TextCompletion['choices'] = [];
  for await (const { choices: parts } of chunks) {
    for (const part of parts) {
      const { index, text, logprobs, finish_reason: finish } = part;
      choices[index] ??= { index, text: '', logprobs: null, finish_reason: null };
      const choice = choices[index];
      choice.text += text;
      choice.finish_reason = finish ?? choice.finish_reason;
      choice.logprobs = joinedLogprobs(choice.logprobs, logprobs);
    }
  }
  return { ...heading, object: 'text_completion', choices, usage: tally.usage, heddle: tally.heddle };
}

function finishReason(reason: 'token' | 'string' | 'length', called: boolean): FinishReason {
  if (called && reason !== 'length') return 'tool_calls';
  return reason === 'length' ? 'length' : 'stop';
}

type ChatLogprobs = NonNullable<ChatChunk['choices'][0]['logprobs']>;

/** In chats the text of a partial character is its bytes, `\\xe9`; in text completions it has the prefix `bytes:`. */
function chatLogprobs(tokens: readonly AnswerToken[]): ChatLogprobs {
  const told = ({ token, bytes, logprob }: TokenLogprob) => ({
    token: token.replace(/^bytes:(?=(?:\\x[0-9a-f]{2})+$)/, ''),
    bytes: [...bytes],
    logprob,
  });
  return {
    content: tokens.map((token) => ({ ...told(token), top_logprobs: token.top.map(told) })),
    refusal: null,
  };
}

/** `offset` is the offset of the answer. */
function textLogprobs(tokens: readonly AnswerToken[], offset: number): TextLogprobs {
  return {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(byText),
    text_offset: tokens.map((token) => offset + token.offset),
  };
}

/** The most likely tokens by their texts. Of several tokens with the same text, the most likely one has it, and the others are listed by id. */
function byText({ top }: ChosenLogprob): Record<string, number> {
  const found = new Map<string, number>();
  for (const { id, token, logprob } of top) found.set(found.has(token) ? `token_id:${id}` : token, logprob);
  return Object.fromEntries(found);
}

function echoedLogprobs(tokens: readonly EchoedToken[]): TextLogprobs {
  return {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob }) => logprob?.logprob ?? null),
    top_logprobs: tokens.map(({ logprob }) => (logprob ? byText(logprob) : null)),
    text_offset: tokens.map(({ offset }) => offset),
  };
}

function joinedLogprobs(a: TextLogprobs | null, b: TextLogprobs | null): TextLogprobs | null {
  if (!a || !b) return a ?? b;
  return {
    tokens: [...a.tokens, ...b.tokens],
    token_logprobs: [...a.token_logprobs, ...b.token_logprobs],
    top_logprobs: [...a.top_logprobs, ...b.top_logprobs],
    text_offset: [...a.text_offset, ...b.text_offset],
  };
}
