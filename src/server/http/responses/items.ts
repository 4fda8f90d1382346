/**
 * The items of /v1/responses: messages, tool calls, tool results and thoughts, in order. Clients send them back, or refer to them by id.
 */
import { z } from 'zod';
import { Arguments, apart, Content, type Message, optional, SaidContent } from '../messages.js';
import { given } from '../requests.js';

const id = optional(z.string());
const Texts = z.array(z.looseObject({ text: z.string() })).nullish();

/** Adds a missing type of an item if the other keys determine it. */
function withType(item: unknown): unknown {
  if (typeof item !== 'object' || item === null || Array.isArray(item)) return item;
  const { type, role } = item as { type?: unknown; role?: unknown };
  if (type !== undefined && type !== null) return item;
  return { ...item, type: role === undefined ? 'item_reference' : 'message' };
}

/** An item of the input of a response; a message may lack its `type`. */
export const InputItem = z.preprocess(
  withType,
  z.discriminatedUnion(
    'type',
    [
      z
        .looseObject({
          type: z.literal('message'),
          role: z.enum(['system', 'developer', 'user', 'assistant']),
          content: SaidContent,
          id,
        })
        .refine(({ role, content }) => role === 'user' || content.images.length === 0, {
          path: ['content'],
          message: 'it has an image, which only a message of the role user may have',
        })
        .transform(({ type, role, content, id }) => ({ type, role, id, ...apart(content) })),
      z.looseObject({
        type: z.literal('function_call'),
        call_id: z.string(),
        name: z.string(),
        arguments: Arguments,
        id,
      }),
      z.looseObject({ type: z.literal('function_call_output'), call_id: z.string(), output: Content, id }),
      z.looseObject({ type: z.literal('reasoning'), summary: Texts, content: Texts, id }),
      z.looseObject({ type: z.literal('item_reference'), id: z.string() }),
    ],
    {
      error: ({ input }) =>
        typeof input !== 'object' || input === null
          ? 'expected an item, such as {"role": "user", "content": "..."}'
          : `it is of the type '${(input as { type?: unknown }).type}', and the models here know messages, function calls and their outputs, and reasoning alone`,
    },
  ),
);
/** An item of the input of a response: a message, a call, the result of one, a thought, or a reference to an earlier item. */
export type InputItem = z.infer<typeof InputItem>;
/** An item itself, not a reference to one. */
export type Item = Exclude<InputItem, { type: 'item_reference' }>;

const Logprob = z.object({ token: z.string(), bytes: z.array(z.int()), logprob: z.number() });

const Status = z.enum(['in_progress', 'completed', 'incomplete']);
const OutputText = z.object({
  type: z.literal('output_text'),
  text: z.string(),
  annotations: z.array(z.never()),
  logprobs: z.array(Logprob.extend({ top_logprobs: z.array(Logprob) })),
});
/** A part of an output message. */
export type OutputText = z.infer<typeof OutputText>;

/** An output item: a message, a tool call, or thoughts. */
export const OutputItem = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('message'),
    id: z.string(),
    role: z.literal('assistant'),
    status: Status,
    content: z.array(OutputText),
  }),
  z.object({
    type: z.literal('function_call'),
    id: z.string(),
    call_id: z.string(),
    name: z.string(),
    arguments: z.string(),
    status: Status,
  }),
  z.object({
    type: z.literal('reasoning'),
    id: z.string(),
    summary: z.array(z.object({ type: z.literal('summary_text'), text: z.string() })),
    content: z.array(z.object({ type: z.literal('reasoning_text'), text: z.string() })),
    status: Status,
  }),
]);
/** An item that a response writes: a message, a thought, or a call. */
export type OutputItem = z.infer<typeof OutputItem>;

type AssistantMessage = Extract<Message, { role: 'assistant' }>;

/** Items as chat messages: an answer with its thoughts and calls is one message. */
export function messagesOf(items: readonly Item[], instructions?: string): Message[] {
  const messages: Message[] = [];
  const names = new Map<string, string>();
  let thoughts: string | undefined;
  /** The assistant message that following calls belong to. */
  let answer: AssistantMessage | undefined;
  const answered = (content: string): AssistantMessage => {
    const message = {
      role: 'assistant' as const,
      content,
      ...given({ reasoning_content: thoughts }),
    } as AssistantMessage;
    thoughts = undefined;
    messages.push(message);
    return message;
  };
  for (const item of items) {
    switch (item.type) {
      case 'reasoning':
        thoughts = textOf(item.content) ?? textOf(item.summary);
        answer = undefined;
        break;
      case 'function_call': {
        answer ??= answered('');
        names.set(item.call_id, item.name);
        answer.tool_calls = [
          ...(answer.tool_calls ?? []),
          { id: item.call_id, type: 'function', function: { name: item.name, arguments: item.arguments } },
        ];
        break;
      }
      case 'function_call_output':
        answer = undefined;
        messages.push({
          role: 'tool',
          content: item.output,
          tool_call_id: item.call_id,
          name: names.get(item.call_id),
        });
        break;
      default:
        answer = undefined;
        if (item.role === 'assistant') answer = answered(item.content);
        else {
          const { role, content, images } = item;
          messages.push({ role, content, name: undefined, ...(images && { images }) } as Message);
        }
    }
  }
  if (instructions === undefined) return messages;
  // Many chat templates accept only one system message.
  const [first, ...rest] = messages;
  const isSystem = first?.role === 'system' || first?.role === 'developer';
  const content = isSystem ? `${instructions}\n\n${first.content}` : instructions;
  return [{ role: 'system', content, name: undefined }, ...(isSystem ? rest : messages)];
}

function textOf(parts: z.infer<typeof Texts>): string | undefined {
  const text = (parts ?? []).map((part) => part.text).join('\n');
  return text === '' ? undefined : text;
}
