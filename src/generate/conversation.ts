/**
 * Conversations as tokens: what a chat template makes of messages, where the answer begins, and how the answer is to be read. What people say
 * about control tokens is text.
 */
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
  /** Tokens that come before the first message. */
  readonly before?: readonly number[];
  /** The tokens of texts, each by itself; by default what the tokenizer makes of them. */
  readonly encode?: (pieces: readonly string[]) => Promise<readonly number[]>;
}

/** A conversation, as a model reads it. */
export interface ReadableConversation {
  readonly ids: readonly number[];
  /** Where the answer begins, before whatever the template puts in front of answers: the state there is worth keeping. */
  readonly boundary: number;
  /** What the template puts in front of an answer; absent where none is to follow. */
  readonly generationPrompt?: string;
  /** The thought that it opens. */
  readonly thinking?: ThoughtForm;
}

/** What makes tokens of conversations with one model, and tells how its answers are read. */
export type MessageFormat = Pick<ConversationFormat, 'form' | 'withAnswer' | 'alone' | 'reading'>;

/** That of a model with a chat template. */
export class ConversationFormat {
  private constructor(
    private readonly template: ChatTemplate,
    private readonly tokenizer: Tokenizer,
    /** How the template writes thoughts and calls. */
    readonly form: AnswerForm,
  ) {}

  /** Learns from the template how answers look. */
  static async learn(template: ChatTemplate, tokenizer: Tokenizer): Promise<ConversationFormat> {
    const form = await learnAnswerForm(template, (name) => tokenizer.tokenToId(name) !== undefined);
    return new ConversationFormat(template, tokenizer, form);
  }

  /** Messages that an answer is to follow. Throws `TokenizerError` for what the template does not take. */
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

  /** Messages alone. Throws as `withAnswer`. */
  async alone(
    messages: readonly ChatMessage[],
    options: ConversationOptions = {},
  ): Promise<ReadableConversation> {
    const { ids } = await this.writer(messages, options)(false);
    return { ids, boundary: ids.length };
  }

  /** How an answer is to be read that may call these tools. */
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
