/** An answer as a message of the conversation that it belongs to. */
import type { ChatMessage } from '../chat-template.js';
import { type AnswerPart, AnswerReader, type Reading } from './reader.js';

/** A call of a tool; the arguments are JSON text, as the model wrote it. */
export interface WrittenCall {
  readonly id: string;
  readonly name: string;
  readonly arguments: string;
}

/** A whole answer: its content, its thoughts and its calls, each concatenated from its pieces. */
export interface JoinedAnswer {
  readonly content: string;
  readonly thought: string;
  readonly calls: readonly WrittenCall[];
}

/** Combines the parts of an answer. */
export function joinedParts(parts: Iterable<AnswerPart>): JoinedAnswer {
  let content = '';
  let thought = '';
  const calls: { id: string; name: string; arguments: string }[] = [];
  for (const part of parts) {
    if (part.kind === 'content') content += part.text;
    else if (part.kind === 'thought') thought += part.text;
    else if (part.kind === 'call') calls[part.index] = { id: part.id, name: part.name, arguments: '' };
    else calls[part.index]!.arguments += part.text;
  }
  return { content, thought, calls };
}

/** An answer as a message for templates, with separate thought and calls. */
export function answerMessage(text: string, reading: Reading): ChatMessage {
  const reader = new AnswerReader(reading);
  return messageOf(joinedParts([...reader.push(text), ...reader.end()]));
}

/** The same for a parsed answer. */
export function messageOf({ content, thought, calls }: JoinedAnswer): ChatMessage {
  return {
    role: 'assistant',
    content,
    ...(thought !== '' && { reasoning_content: thought }),
    ...(calls.length > 0 && {
      tool_calls: calls.map(({ id, ...called }) => ({ id, type: 'function', function: called })),
    }),
  };
}
