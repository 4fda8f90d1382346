/** Messages of earlier turns, as a template takes them. */
import type { ChatMessage } from '../chat-template.js';
import type { AnswerForm } from './form.js';

interface Call {
  readonly id?: unknown;
  readonly function?: { readonly arguments?: unknown } | null;
}

/**
 * The same messages, with ids that the template takes, thoughts under the name that it looks for, and no arguments that are no JSON
 * where it takes none. Conversations come from other servers and other models, too.
 */
export function historyMessages(
  messages: readonly ChatMessage[],
  { history }: AnswerForm,
): readonly ChatMessage[] {
  return messages.map((message) => {
    const { reasoning_content: thought, tool_calls: calls, tool_call_id: id } = message;
    return {
      ...message,
      ...(thought !== undefined && { [history.thoughtKey]: thought }),
      ...(history.shortIds && typeof id === 'string' && { tool_call_id: shortId(id) }),
      ...(Array.isArray(calls) && { tool_calls: calls.map((call: Call | null) => callOf(call, history)) }),
    };
  });
}

function callOf(call: Call | null, { shortIds, takesText }: AnswerForm['history']): Call | null {
  if (!call) return call;
  const given = call.function?.arguments;
  const isUnread = !takesText && typeof given === 'string' && !isObject(given);
  return {
    ...call,
    ...(shortIds && typeof call.id === 'string' && { id: shortId(call.id) }),
    ...(isUnread && { function: { ...call.function, arguments: '{}' } }),
  };
}

function isObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null;
  } catch {
    return false;
  }
}

/** Nine letters and digits that stand for an id; itself where it is that (FNV-1a, Fowler, Noll and Vo). */
function shortId(id: string): string {
  if (/^[A-Za-z0-9]{9}$/.test(id)) return id;
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(id)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  return hash.toString(36).padStart(9, '0').slice(-9);
}
