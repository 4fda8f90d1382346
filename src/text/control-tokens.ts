/**
 * Keeps the names of control tokens, such as `<|im_end|>`, apart from the tokens: only a chat template may write those. What a
 * user says about one is text, or a user of a server could end his turn and go on as somebody else.
 *
 * A mark is put into each such name before the template is rendered, and the rendered text is cut at the marks before it is
 * encoded, so that no tokenizer finds the name whole.
 */
import type { ChatMessage } from './chat-template.js';
import type { Tokenizer } from './tokenizer.js';

/** Noncharacters, which Unicode keeps for such uses inside a program. One that the texts do not have is the mark. */
const MARKS = Array.from({ length: 32 }, (_, i) => String.fromCharCode(0xfdd0 + i));

/** What a chat template is given of a conversation. */
export interface PromptParts {
  readonly messages: readonly ChatMessage[];
  readonly tools?: readonly unknown[] | undefined;
}

export interface GuardedPrompt extends PromptParts {
  /** What the template made of the parts, cut where a name must not be found: its ids are those of the pieces, each by itself. */
  piecesOf(text: string): string[];
  /** The ids of what the template made of the parts. */
  encode(text: string): number[];
}

/**
 * The same parts with marks in their texts, for the template. Messages of the assistant stay as they are: a model writes
 * control tokens, such as those around a call, and what it wrote is read again as the same tokens.
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
  // Of names that begin alike the longer one is meant.
  const longestFirst = [...names].sort((a, b) => b.length - a.length).map(escaped);
  const pattern = new RegExp(longestFirst.join('|'), 'gu');
  const isGuarded = ({ role }: ChatMessage): boolean => role !== 'assistant';
  const texts = textsIn([messages.filter(isGuarded), tools]);
  if (!texts.some((text) => text.search(pattern) >= 0)) return plain;
  const mark = MARKS.find((candidate) => !texts.some((text) => text.includes(candidate))) ?? MARKS[0]!;
  const marked = (text: string): string =>
    text.replaceAll(pattern, (name) => {
      const [first] = name as unknown as [string];
      return `${first}${mark}${name.slice(first.length)}`;
    });
  return {
    messages: messages.map((message) => (isGuarded(message) ? mapTexts(message, marked) : message)),
    tools: mapTexts(tools, marked),
    piecesOf: (text) => text.split(mark),
    encode: (text) => text.split(mark).flatMap((part) => tokenizer.encode(part)),
  };
}

function escaped(name: string): string {
  return name.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
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
    // As `readExactJson` gives objects.
    if (inner instanceof Map) return new Map(Array.from(inner, ([key, entry]) => [key, map(entry)]));
    // Other objects are values of their own.
    const prototype: unknown = Object.getPrototypeOf(inner);
    if (prototype !== Object.prototype && prototype !== null) return inner;
    return Object.fromEntries(Object.entries(inner).map(([key, entry]) => [key, map(entry)]));
  };
  return map(value) as T;
}
