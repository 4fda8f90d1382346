/** Adapts messages of earlier turns to a template. */
import type { ChatMessage } from '../chat-template.js';
import { type AnswerForm, type CallIds, namedId } from './form.js';

interface Call {
  readonly id?: unknown;
  readonly function?: { readonly name?: unknown; readonly arguments?: unknown } | null;
}

/**
 * The same messages with ids in the template's form, thoughts under the name that it uses, and only JSON arguments if it requires
 * them. Conversations may come from other servers and other models.
 */
export function historyMessages(
  messages: readonly ChatMessage[],
  { history }: AnswerForm,
): readonly ChatMessage[] {
  const idOf = idsFor(messages, history.ids);
  return messages.map((message) => {
    const { reasoning_content: thought, tool_calls: calls, tool_call_id: id } = message;
    return {
      ...message,
      ...(thought !== undefined && { [history.thoughtKey]: thought }),
      ...(typeof id === 'string' && { tool_call_id: idOf(id) }),
      ...(Array.isArray(calls) && {
        tool_calls: calls.map((call: Call | null) => callOf(call, history.takesText, idOf)),
      }),
    };
  });
}

/** The replacement of each id of a conversation. */
function idsFor(messages: readonly ChatMessage[], ids: CallIds): (id: string) => string {
  if (ids !== 'named') return ids === 'short' ? shortId : (id) => id;
  const calls = messages.flatMap(({ tool_calls: own }) => (Array.isArray(own) ? (own as Call[]) : []));
  const named = new Map<string, string>();
  for (const [index, call] of calls.entries()) {
    const name = call?.function?.name;
    if (typeof call?.id !== 'string' || typeof name !== 'string') continue;
    // An id that has this form already keeps its number.
    const isNamed = call.id.startsWith(namedId(name, 0).slice(0, -1)) && /:\d+$/.test(call.id);
    named.set(call.id, isNamed ? call.id : namedId(name, index));
  }
  return (id) => named.get(id) ?? id;
}

function callOf(call: Call | null, takesText: boolean, idOf: (id: string) => string): Call | null {
  if (!call) return call;
  const given = call.function?.arguments;
  const isUnread = !takesText && typeof given === 'string' && !isObject(given);
  return {
    ...call,
    ...(typeof call.id === 'string' && { id: idOf(call.id) }),
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

/** A hash of an id in nine letters and digits (FNV-1a, Fowler, Noll and Vo); an id of that form is unchanged. */
function shortId(id: string): string {
  if (/^[A-Za-z0-9]{9}$/.test(id)) return id;
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(id)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  return hash.toString(36).padStart(9, '0').slice(-9);
}
