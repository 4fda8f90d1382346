/**
 * Prevents prompt injection by names of control tokens, such as `<|im_end|>`: only chat templates may emit them. In user texts they are plain text;
 * otherwise a user could end the turn and continue in another role.
 *
 * A mark is inserted into each such name before the template is rendered, and the rendered text is split at the marks before it is encoded, so that
 * the tokenizer never sees the whole name.
 */
import { anyOf } from './any-of.js';
import type { ChatMessage } from './chat-template.js';
import type { Tokenizer } from './tokenizer.js';

/** Noncharacters, which Unicode reserves for internal use. The mark is one that the texts do not contain. */
const MARKS = Array.from({ length: 32 }, (_, i) => String.fromCharCode(0xfdd0 + i));

/** The input of a chat template. */
export interface PromptParts {
  readonly messages: readonly ChatMessage[];
  readonly tools?: readonly unknown[] | undefined;
}

/** Prompt parts in whose texts the names of control tokens are guarded, so that a user's text cannot forge one. */
export interface GuardedPrompt extends PromptParts {
  /** The rendered text, split where a name must not be recognized: its ids are those of the pieces, encoded separately. */
  piecesOf(text: string): string[];
  /** The ids of the rendered text. */
  encode(text: string): number[];
}

/**
 * The same parts with marks in their texts, for the template. Assistant messages are unchanged: a model generates control
 * tokens, such as those around a call, and they must be encoded as the same tokens. Arguments of its calls are marked:
 * a name in them can only be text.
 */
export function guardControlTokens(tokenizer: Tokenizer, { messages, tools }: PromptParts): GuardedPrompt {
  const plain = {
    messages,
    tools,
    piecesOf: (text: string): string[] => [text],
    encode: (text: string): number[] => tokenizer.encode(text),
  };
  const names = tokenizer.controlTokens.filter((name) => name.length > 1);
  if (names.length === 0) return plain;
  const pattern = new RegExp(anyOf(names), 'gu');
  const isGuarded = ({ role }: ChatMessage): boolean => role !== 'assistant';
  const calls = messages.map((message) => (isGuarded(message) ? undefined : message.tool_calls));
  const texts = textsIn([messages.filter(isGuarded), calls, tools]);
  const splits = splitNames(names, texts);
  if (!texts.some((text) => text.search(pattern) >= 0 || splits(text) !== undefined)) return plain;
  const mark = MARKS.find((candidate) => !texts.some((text) => text.includes(candidate))) ?? MARKS[0]!;
  const markedNames = (text: string): string =>
    text.replaceAll(pattern, (name) => {
      const [first] = name as unknown as [string];
      return `${first}${mark}${name.slice(first.length)}`;
    });
  const marked = (text: string): string => {
    const split = splits(text);
    return split === undefined
      ? markedNames(text)
      : `${markedNames(text.slice(0, split))}${mark}${text.slice(split)}`;
  };
  const markedCalls = (message: ChatMessage): ChatMessage =>
    message.tool_calls ? { ...message, tool_calls: mapTexts(message.tool_calls, marked) } : message;
  return {
    messages: messages.map((message) =>
      isGuarded(message) ? mapTexts(message, marked) : markedCalls(message),
    ),
    tools: mapTexts(tools, marked),
    piecesOf: (text) => text.split(mark),
    encode: (text) => text.split(mark).flatMap((part) => tokenizer.encode(part)),
  };
}

/**
 * A template may concatenate texts, so that a name spans their border. Returns a function that finds the position in a text at which a name is
 * interrupted that another text could complete, if there is one.
 */
function splitNames(
  names: readonly string[],
  texts: readonly string[],
): (text: string) => number | undefined {
  const beginnings = new Set(texts.map((text) => text.trimStart()[0]));
  const parts = new Set<string>();
  for (const name of names) {
    for (let i = 1; i < name.length; i++) if (beginnings.has(name[i])) parts.add(name.slice(0, i));
  }
  const longest = Math.max(0, ...Array.from(parts, (part) => part.length));
  return (text) => {
    // Templates trim texts.
    const end = text.trimEnd().length;
    for (let length = Math.min(longest, end); length > 0; length--) {
      if (parts.has(text.slice(end - length, end))) return end;
    }
    return undefined;
  };
}

function textsIn(value: unknown): string[] {
  const texts: string[] = [];
  mapTexts(value, (text) => {
    texts.push(text);
    return text;
  });
  return texts;
}

function mapTexts<T>(value: T, change: (text: string) => string): T {
  const map = (inner: unknown): unknown => {
    if (typeof inner === 'string') return change(inner);
    if (Array.isArray(inner)) return inner.map(map);
    if (typeof inner !== 'object' || inner === null) return inner;
    // `readExactJson` returns objects as maps.
    if (inner instanceof Map) return new Map(Array.from(inner, ([key, entry]) => [key, map(entry)]));
    // Other objects are not traversed.
    const prototype: unknown = Object.getPrototypeOf(inner);
    if (prototype !== Object.prototype && prototype !== null) return inner;
    return Object.fromEntries(Object.entries(inner).map(([key, entry]) => [key, map(entry)]));
  };
  return map(value) as T;
}
