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
 *   question and its answer, after the text of `system` if there is one.
 *
 * Throws `DataError`, with the place in the file, for an example in no such form, and for one without an answer.
 */
export async function readJsonExamples(path: string): Promise<JsonExamples> {
  const entries = entriesOf(path, await readTextFile(path, 'examples'));
  // A conversation may have its text beside it.
  const isText = ({ fields }: Entry): boolean => typeof fields.text === 'string' && !isConversation(fields);
  if (!isText(entries[0]!)) return { kind: 'conversations', conversations: entries.map(conversationOf) };
  const other = entries.find((entry) => !isText(entry));
  if (other) throw new DataError(`${other.place} is no text, as ${entries[0]!.place} is: expected one kind`);
  const texts = entries.map(({ fields }) => fields.text as string).filter((text) => text.trim() !== '');
  if (texts.length === 0) throw new DataError(`${path} has no text in it: all of them are blank`);
  return { kind: 'texts', texts };
}

function entriesOf(path: string, text: string): Entry[] {
  const isList = text.trimStart().startsWith('[');
  const expected = 'expected a list of objects, or one object a line';
  const parsed = (json: string, place: string): unknown => {
    try {
      return JSON.parse(json);
    } catch (error) {
      throw new DataError(`${place} is not JSON (${(error as Error).message}): ${expected}`, {
        cause: error,
      });
    }
  };
  const values = isList
    ? (parsed(text, path) as unknown[]).map((value, i) => ({ place: `${path}, entry ${i + 1}`, value }))
    : text.split(/\r\n|\n|\r/).flatMap((line, i) => {
        const place = `${path}, line ${i + 1}`;
        return line.trim() === '' ? [] : [{ place, value: parsed(line, place) }];
      });
  if (values.length === 0) throw new DataError(`${path} has no examples: ${expected}`);
  return values.map(({ place, value }) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new DataError(`${place} is no object: ${expected}`);
    return { place, fields: value as Fields };
  });
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
  const messages = said === undefined ? questionOf(place, fields) : messagesOf(place, said);
  if (!messages.some(({ role }) => role === 'assistant'))
    throw new DataError(`${place} has no message of the assistant: there is nothing to learn`);
  return { messages, ...(Array.isArray(fields.tools) && { tools: fields.tools as unknown[] }) };
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
  const side = (role: string, value: unknown): ChatMessage[] =>
    typeof value === 'string' ? [{ role, content: value }] : messagesOf(place, value);
  // Alpaca's input and Dolly's context are what an instruction is about.
  const about = asked === 'instruction' ? [fields.input ?? fields.context].filter(isSaid) : [];
  const question = [fields[asked], ...about];
  return [
    ...(isSaid(fields.system) ? side('system', fields.system) : []),
    ...side('user', question.length > 1 ? question.join('\n\n') : question[0]),
    ...side('assistant', fields[answered]),
  ];
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
};

function messagesOf(place: string, said: unknown): ChatMessage[] {
  if (!Array.isArray(said)) throw new DataError(`${place}: expected a list of messages`);
  return said.map((message: unknown, i): ChatMessage => {
    const at = `${place}, message ${i + 1}`;
    if (typeof message !== 'object' || message === null) throw new DataError(`${at} is no object`);
    const { from, value, ...own } = message as Record<string, unknown>;
    const role = own.role ?? from;
    if (typeof role !== 'string') throw new DataError(`${at} has no role: expected 'role', or 'from'`);
    const content = own.content ?? value;
    if (content === undefined && own.tool_calls === undefined)
      throw new DataError(`${at} has no content: expected 'content', or 'value'`);
    return { ...own, role: Object.hasOwn(ROLES, role) ? ROLES[role]! : role, content: content ?? '' };
  });
}
