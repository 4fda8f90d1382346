/**
 * Examples in JSON, a list of objects or one object a line, in the forms that data sets of language models have: texts, prompts with their
 * completions, instructions, and conversations.
 */
import { DataError } from '../errors.js';
import { readTextFile } from '../platform/text-file.js';
import type { ChatMessage } from './chat-template.js';

/** A conversation, and the tools that its calls name. */
export interface Conversation {
  readonly messages: readonly ChatMessage[];
  readonly tools?: readonly unknown[];
  /** Where it is in the file, for error messages. */
  readonly place: string;
}

/** The examples of a file, all of one kind. */
export type JsonExamples =
  | { readonly kind: 'texts'; readonly texts: readonly string[] }
  | { readonly kind: 'conversations'; readonly conversations: readonly Conversation[] };

/** Whether a file's name says that it has examples in JSON. */
export function isJsonFile(path: string): boolean {
  return /\.(?:jsonl|ndjson|json)$/i.test(path);
}

type Fields = Readonly<Record<string, unknown>>;

/** An object of a file, and where it is. */
interface Entry {
  readonly place: string;
  readonly fields: Fields;
}

/**
 * Reads a file of examples:
 *
 * - `{"text"}` is a text;
 * - `{"messages": [{"role", "content"}]}` is a conversation, with `tools` if it has some, and `{"conversations": [{"from", "value"}]}` (ShareGPT);
 * - `{"prompt", "completion"}`, `{"question", "answer"}` and their kin, and `{"instruction", "input", "output"}` (Alpaca) are conversations of a
 *   question and its answer, with its `context` and after its `history` if it has them.
 *
 * A text in `system` comes before all messages. Throws `DataError`, with the place in the file, for an example in no such form, and for one without
 * an answer that is learned.
 */
export async function readJsonExamples(path: string): Promise<JsonExamples> {
  const entries = entriesOf(path, await readTextFile(path, 'examples'));
  // A conversation may have its text beside it.
  const isText = ({ fields }: Entry): boolean => typeof fields.text === 'string' && !isConversation(fields);
  const [first] = entries as [Entry];
  const other = entries.find((entry) => isText(entry) !== isText(first));
  if (other) {
    const [text, none] = isText(first) ? [first, other] : [other, first];
    throw new DataError(`${none.place} is no text, as ${text.place} is: expected one kind`);
  }
  if (!isText(first)) return { kind: 'conversations', conversations: entries.map(conversationOf) };
  const texts = entries.map(({ fields }) => fields.text as string).filter((text) => text.trim() !== '');
  if (texts.length === 0) throw new DataError(`${path} has no text in it: all of them are blank`);
  return { kind: 'texts', texts };
}

function entriesOf(path: string, text: string): Entry[] {
  const isList = text.trimStart().startsWith('[');
  const expected = 'a list of objects, or one object a line';
  const values = isList
    ? (parsed(text, path, expected) as unknown[]).map((value, i) => ({
        place: `${path}, entry ${i + 1}`,
        value,
      }))
    : text.split(/\r\n|\n|\r/).flatMap((line, i) => {
        const place = `${path}, line ${i + 1}`;
        return line.trim() === '' ? [] : [{ place, value: parsed(line, place, expected) }];
      });
  if (values.length === 0) throw new DataError(`${path} has no examples: expected ${expected}`);
  return values.map(({ place, value }) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new DataError(`${place} is no object: expected ${expected}`);
    return { place, fields: value as Fields };
  });
}

function parsed(json: string, place: string, expected: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    throw new DataError(`${place} is not JSON (${(error as Error).message}): expected ${expected}`, {
      cause: error,
    });
  }
}

/** Keys of a question and of its answer. */
const QUESTIONS = ['prompt', 'question', 'query', 'instruction', 'input', 'source'] as const;
const ANSWERS = ['completion', 'response', 'answer', 'output', 'target'] as const;

function isConversation(fields: Fields): boolean {
  return saidIn(fields) !== undefined || [QUESTIONS, ANSWERS].every((keys) => saidKey(fields, keys));
}

function saidIn(fields: Fields): unknown {
  return fields.messages ?? fields.conversations ?? fields.conversation;
}

/** The first of these keys that has a text, or a list of messages. */
function saidKey<Key extends string>(fields: Fields, keys: readonly Key[]): Key | undefined {
  return keys.find((key) => isSaid(fields[key]));
}

function conversationOf({ place, fields }: Entry): Conversation {
  const said = saidIn(fields);
  const own = said === undefined ? questionOf(place, fields) : messagesOf(place, said);
  const system = own[0]?.role === 'system' ? undefined : [fields.system, fields.system_prompt].find(isSaid);
  const messages = system === undefined ? own : [...side(place, 'system', system), ...own];
  if (!messages.some(({ role, weight }) => role === 'assistant' && weight !== 0))
    throw new DataError(`${place} has no message of the assistant that is learned: leave it out`);
  const tools = toolsOf(place, fields);
  return { place, messages, ...(tools && { tools }) };
}

/** A question and its answer, each a text or a list of messages. */
function questionOf(place: string, fields: Fields): ChatMessage[] {
  const asked = saidKey(fields, QUESTIONS);
  const answered = saidKey(fields, ANSWERS);
  if (asked === undefined || answered === undefined) {
    const keys = Object.keys(fields).map((key) => `'${key}'`);
    throw new DataError(
      `${place} has ${keys.length === 0 ? 'no keys' : `the keys ${keys.join(', ')}`}: expected 'text', 'messages', 'conversations', or a question and its answer, such as 'prompt' and 'completion' (to learn the JSON itself, name the file .txt)`,
    );
  }
  const question = fields[asked];
  // Alpaca's input and Dolly's context are what a question is about.
  const about = [asked === 'instruction' ? fields.input : undefined, fields.context].filter(isSaid);
  if (typeof question !== 'string' && about.length > 0)
    throw new DataError(
      `${place} has messages in '${asked}' and a text beside them: put it into the messages`,
    );
  return [
    ...historyOf(place, fields.history),
    // What a prompt answers itself is an example in it.
    ...side(place, 'user', typeof question === 'string' ? [question, ...about].join('\n\n') : question).map(
      (message) => (message.role === 'assistant' ? { ...message, weight: 0 } : message),
    ),
    ...side(place, 'assistant', fields[answered]),
  ];
}

/** A text of a role, or a list of messages. */
function side(place: string, role: string, value: unknown): ChatMessage[] {
  return typeof value === 'string' ? [{ role, content: value }] : messagesOf(place, value);
}

/** Earlier questions and their answers, as pairs. */
function historyOf(place: string, history: unknown): ChatMessage[] {
  if (!isSaid(history)) return [];
  const isPair = (turn: unknown): turn is [string, string] =>
    Array.isArray(turn) && turn.length === 2 && turn.every((text) => typeof text === 'string');
  if (!Array.isArray(history) || !history.every(isPair))
    throw new DataError(`${place}: expected a history of pairs of a question and its answer`);
  return history.flatMap(([question, answer]) => [
    { role: 'user', content: question },
    { role: 'assistant', content: answer },
  ]);
}

/** The tools of an example: a list, or its JSON text. */
function toolsOf(place: string, { tools: given, functions }: Fields): unknown[] | undefined {
  const tools = isSaid(given) || !Array.isArray(functions) ? given : functions.map(asFunction);
  if (tools === undefined || tools === null || tools === '') return undefined;
  const read: unknown =
    typeof tools === 'string' ? parsed(tools, `${place}: 'tools'`, 'a list of tools') : tools;
  if (Array.isArray(read)) return read;
  throw new DataError(`${place}: expected a list of tools, or its JSON text`);
}

function asFunction(declared: unknown): object {
  return { type: 'function', function: declared };
}

function isSaid(value: unknown): boolean {
  return (typeof value === 'string' && value.trim() !== '') || (Array.isArray(value) && value.length > 0);
}

/** Names of roles in ShareGPT's form. */
const ROLES: Readonly<Record<string, string>> = {
  human: 'user',
  gpt: 'assistant',
  chatgpt: 'assistant',
  bot: 'assistant',
  model: 'assistant',
  observation: 'tool',
  function: 'tool',
};

function messagesOf(place: string, said: unknown): ChatMessage[] {
  if (!Array.isArray(said)) throw new DataError(`${place}: expected a list of messages`);
  return said.map((message: unknown, i): ChatMessage => {
    const at = `${place}, message ${i + 1}`;
    if (typeof message !== 'object' || message === null) throw new DataError(`${at} is no object`);
    const { from, value, function_call: call, ...own } = message as Record<string, unknown>;
    const role = own.role ?? from;
    if (typeof role !== 'string') throw new DataError(`${at} has no role: expected 'role', or 'from'`);
    if (role === 'function_call')
      throw new DataError(`${at} is a call: expected it in the 'tool_calls' of a message of the assistant`);
    const content = own.content ?? value;
    const calls = own.tool_calls ?? (call ? [asFunction(call)] : undefined);
    if (content === undefined && calls === undefined)
      throw new DataError(`${at} has no content: expected 'content', or 'value'`);
    if (![undefined, null, 0, 1].includes(own.weight as number))
      throw new DataError(`${at} has the weight ${JSON.stringify(own.weight)}: expected 0 or 1`);
    return {
      ...own,
      role: Object.hasOwn(ROLES, role) ? ROLES[role]! : role,
      content: textOf(at, content ?? ''),
      ...(calls !== undefined && { tool_calls: calls }),
    };
  });
}

/** The text of a content: parts of text are joined. */
function textOf(at: string, content: unknown): string {
  const parts: readonly unknown[] = Array.isArray(content) ? content : [content];
  const texts = parts.map((part) => {
    const text = typeof part === 'object' && part !== null ? (part as { text?: unknown }).text : part;
    if (typeof text !== 'string') throw new DataError(`${at} has a content that is no text`);
    return text;
  });
  return texts.join('');
}
