/**
 * Tokenizes conversations: renders messages with the chat template, and finds where the answer begins and how it is parsed. Names of control
 * tokens in the messages themselves are tokenized as plain text.
 */
import { TokenizerError } from '../errors.js';
import {
  type AnswerForm,
  type ChatMessage,
  type ChatRenderOptions,
  type ChatTemplate,
  callableTool,
  generationPromptOf,
  guardControlTokens,
  historyMessages,
  learnAnswerForm,
  openThought,
  type Reading,
  type ThoughtForm,
  type Tokenizer,
} from '../text/index.js';
import { sharedLength } from './shared-length.js';

/** How messages become tokens. */
export interface ConversationOptions extends Omit<ChatRenderOptions, 'addGenerationPrompt'> {
  /** Tokens before the first message. */
  readonly before?: readonly number[];
  /** Tokenizes texts, each separately; by default with the tokenizer. */
  readonly encode?: (pieces: readonly string[]) => Promise<readonly number[]>;
}

/** A tokenized conversation. */
export interface ReadableConversation {
  readonly ids: readonly number[];
  /** The position before the generation prompt, where a snapshot of the state is useful. */
  readonly boundary: number;
  /** The generation prompt: the template's text in front of an answer; absent if no answer follows. */
  readonly generationPrompt?: string;
  /** The format of the thought that the generation prompt opens, if it opens one. */
  readonly thinking?: ThoughtForm;
}

/** The tokens of a conversation to learn from, and the ranges of its answers, each up to the mark that ends it. */
export interface LearnableConversation {
  readonly ids: readonly number[];
  readonly answers: readonly (readonly [from: number, to: number])[];
}

/** Tokenizes conversations with one model, and parses its answers. */
export type MessageFormat = Pick<ConversationFormat, 'form' | 'withAnswer' | 'alone' | 'reading'>;

/** The message format of a model with a chat template. */
export class ConversationFormat {
  private constructor(
    private readonly template: ChatTemplate,
    private readonly tokenizer: Tokenizer,
    /** The template's format of thoughts and tool calls. */
    readonly form: AnswerForm,
  ) {}

  /** Infers the format of answers from the template. */
  static async learn(template: ChatTemplate, tokenizer: Tokenizer): Promise<ConversationFormat> {
    const form = await learnAnswerForm(template, (name) => tokenizer.tokenToId(name) !== undefined);
    return new ConversationFormat(template, tokenizer, form);
  }

  /** Tokenizes messages that an answer follows. Throws `TokenizerError` for messages that the template refuses. */
  async withAnswer(
    messages: readonly ChatMessage[],
    options: ConversationOptions = {},
  ): Promise<ReadableConversation> {
    const write = this.writer(messages, options);
    const said = await write(false);
    const prompt = await write(true);
    const generationPrompt = generationPromptOf(said.text, prompt.text);
    const thinking = openThought(generationPrompt, this.form);
    return {
      ids: prompt.ids,
      boundary: sharedLength(said.ids, prompt.ids),
      generationPrompt,
      ...(thinking && { thinking }),
    };
  }

  /** Tokenizes messages without a generation prompt. Throws as `withAnswer` does. */
  async alone(
    messages: readonly ChatMessage[],
    options: ConversationOptions = {},
  ): Promise<ReadableConversation> {
    const { ids } = await this.writer(messages, options)(false);
    return { ids, boundary: ids.length };
  }

  /**
   * Tokenizes a conversation so that its answers can be learned: what precedes each of them is what `withAnswer` gives. Answers share their tokens where
   * the template writes the later messages behind the earlier ones; where it writes earlier ones otherwise (without their thoughts), each has a text of
   * its own. An answer with the `weight` 0 is not learned. Throws as `withAnswer` does, and for calls that the template does not write.
   */
  async toLearn(
    messages: readonly ChatMessage[],
    { tools }: Pick<ConversationOptions, 'tools'> = {},
  ): Promise<LearnableConversation[]> {
    const guarded = guardControlTokens(this.tokenizer, {
      messages: historyMessages(messages, this.form),
      tools,
    });
    const write = (some: readonly ChatMessage[], addGenerationPrompt: boolean): Promise<string> =>
      this.template.render(some, { addGenerationPrompt, ...(guarded.tools && { tools: guarded.tools }) });
    const render = (count: number, addGenerationPrompt: boolean): Promise<string> =>
      write(guarded.messages.slice(0, count), addGenerationPrompt);
    const texts: { text: string; answers: [from: number, to: number][] }[] = [];
    for (const [i, { role, weight }] of messages.entries()) {
      if (role !== 'assistant' || weight === 0) continue;
      const [asked, text] = [await render(i, true), await render(i + 1, false)];
      const { tool_calls: calls, ...withoutCalls } = guarded.messages[i]!;
      if (Array.isArray(calls) && calls.length > 0) {
        const plain = write([...guarded.messages.slice(0, i), withoutCalls], false);
        if ((await plain.catch(() => undefined)) === text)
          throw new TokenizerError(
            `the chat template ${this.template.origin} writes no tool calls, and message ${i + 1} has some: they cannot be learned`,
          );
      }
      const start = text.startsWith(asked)
        ? asked.length
        : startBehindThought(await render(i, false), asked, text);
      const range: [number, number] = [start, text.trimEnd().length];
      const last = texts.at(-1);
      if (last && text.startsWith(last.text))
        texts[texts.length - 1] = { text, answers: [...last.answers, range] };
      else texts.push({ text, answers: [range] });
    }
    return texts.map(({ text, answers }) => tokenized(text, answers, guarded.encode));
  }

  /** How an answer that may call these tools is parsed. */
  reading(thinking: ThoughtForm | undefined, tools: readonly unknown[] | undefined): Reading {
    const callable = tools?.flatMap((tool) => callableTool(tool) ?? []);
    return { form: this.form, thinking, ...(callable && { tools: callable }) };
  }

  private writer(messages: readonly ChatMessage[], options: ConversationOptions) {
    const { before = [], encode = this.encode, tools, ...context } = options;
    const history = historyMessages(messages, this.form);
    const guarded = guardControlTokens(this.tokenizer, { messages: history, tools });
    return async (addGenerationPrompt: boolean): Promise<{ text: string; ids: readonly number[] }> => {
      const text = await this.template.render(guarded.messages, {
        ...context,
        addGenerationPrompt,
        ...(guarded.tools && { tools: guarded.tools }),
      });
      return { text, ids: [...before, ...(await encode(guarded.piecesOf(text)))] };
    };
  }

  private readonly encode = async (pieces: readonly string[]): Promise<readonly number[]> =>
    pieces.flatMap((piece) => this.tokenizer.encode(piece));
}

/**
 * Where the answer begins in a text that lacks the thought which the generation prompt opens: behind the last line that the text and the prompt
 * share, and behind the messages before it.
 */
function startBehindThought(said: string, asked: string, text: string): number {
  let shared = 0;
  while (shared < text.length && text[shared] === asked[shared]) shared++;
  return Math.max(Math.min(said.length, shared), text.lastIndexOf('\n', shared - 1) + 1);
}

/**
 * The tokens of a text up to the end of its last answer, and the ranges of the answers. An answer begins behind the tokens of the text before it, as
 * where it is generated.
 */
function tokenized(
  text: string,
  answers: readonly (readonly [from: number, to: number])[],
  encode: (text: string) => readonly number[],
): LearnableConversation {
  const borders = [0, ...answers.flat()];
  const parts = borders.slice(1).map((border, i) => encode(text.slice(borders[i], border)));
  const pieces = parts.flat();
  let length = 0;
  const ends = parts.map((part) => {
    length += part.length;
    return length;
  });
  const ranges = answers.map((_, i) => [ends[2 * i]!, ends[2 * i + 1]!] as const);
  const whole = encode(text.slice(0, answers.at(-1)![1]));
  if (sharedLength(whole, pieces) === Math.max(whole.length, pieces.length))
    return { ids: whole, answers: ranges };
  // Some tokenizers prepend a space to every text that they encode: then the parts have spaces that the whole text lacks.
  const lengthAt = (end: number): number | undefined => {
    const ids = encode(text.slice(0, end));
    return sharedLength(whole, ids) === ids.length ? ids.length : undefined;
  };
  const own = answers.map(([from, to]) => [lengthAt(from), lengthAt(to)] as const);
  const isApart = own.every(([start, end]) => start !== undefined && end !== undefined);
  return isApart ? { ids: whole, answers: own as [number, number][] } : { ids: pieces, answers: ranges };
}
