/** Tokenizes the prompts of requests: texts, tokens and conversations, optionally after a saved state. */
import { DataError, TokenizerError } from '../../errors.js';
import {
  type LanguageModel,
  type MessageFormat,
  type ReadableConversation,
  type Snapshot,
  sharedLength,
  sourceTokens,
} from '../../generate/index.js';
import type { StateRecord } from '../../generate/states/record.js';
import {
  answerMessage,
  asPairSource,
  type ChatMessage,
  type ChatTemplate,
  encodeApart,
} from '../../text/index.js';
import { ContextError } from '../errors.js';
import type { Calls, Prompt } from './protocol.js';

/** The saved state that a prompt continues. */
export interface Beginning {
  readonly record: StateRecord;
  readonly snapshot: Snapshot;
}

/** A tokenized prompt. */
export interface PreparedPrompt extends ReadableConversation {
  /** For the record of a state after it: the number of tokens before the first message, and the messages. */
  readonly base: number;
  readonly messages: readonly ChatMessage[];
  /** The file of the image before the text. The first tokens are placeholders for it. */
  readonly image?: Uint8Array;
  /** The tools that the prompt declares. */
  readonly tools?: readonly unknown[];
}

type MessagesPrompt = Extract<Prompt, { kind: 'messages' }>;

/** Tokenizes prompts for one model. */
export class Prompts {
  constructor(
    private readonly language: LanguageModel,
    /** The model's name in requests. */
    private readonly id: string,
    /** The context length in tokens. */
    private readonly context: number,
    private readonly format: MessageFormat,
    private readonly template: ChatTemplate | undefined,
  ) {}

  /**
   * Tokenizes a prompt, after a saved state if there is one. Throws `DataError` or `TokenizerError` for messages that the template refuses, or
   * if there is no template; `ContextError` for a prompt longer than the context, not counting `uncounted` tokens of the saved state.
   */
  async prepare(
    prompt: Prompt,
    beginning: Beginning | undefined,
    { answers, signal, uncounted = 0 }: { answers: boolean; signal?: AbortSignal; uncounted?: number },
  ): Promise<PreparedPrompt> {
    const prepared = await this.prepareAny(prompt, beginning, answers, signal);
    const { context } = this;
    const counted = prepared.ids.length - uncounted;
    if (counted > context) {
      throw new ContextError(
        `the prompt has ${counted} tokens, and the context of ${this.id} holds ${context}: shorten it`,
      );
    }
    if (prepared.ids.length === 0) throw new DataError('the prompt has no tokens: give some text to read');
    this.language.check(prepared.ids);
    return prepared;
  }

  /** The number of tokens of a text, or of messages with the generation prompt. Throws as `prepare` does for messages. */
  async count(prompt: Exclude<Prompt, { kind: 'tokens' }>, signal: AbortSignal): Promise<number> {
    if (prompt.kind === 'text')
      return (await encodeApart(this.language.tokenizer, prompt.text, signal)).length;
    return (await this.prepareAny(prompt, undefined, true, signal)).ids.length;
  }

  /** Tokenizes a prompt and its answer as a later turn will. */
  async answered(prompt: PreparedPrompt, answer: string, calls: Calls | undefined): Promise<PreparedPrompt> {
    const { ids, base, messages, thinking, tools } = prompt;
    if (messages.length === 0) {
      const all = [...ids, ...this.language.tokenizer.encode(answer)];
      return { ids: all, boundary: all.length, base: all.length, messages };
    }
    const reading = this.format.reading(thinking, tools);
    const said = answerMessage(answer, { ...reading, single: calls?.single === true });
    return this.written(ids.slice(0, base), [...messages, said], {}, false);
  }

  /** The text of a prompt that is not a conversation. */
  textOf(prompt: Prompt): string {
    if (prompt.kind === 'text') return prompt.text;
    return prompt.kind === 'tokens' ? this.language.tokenizer.decode(prompt.ids) : '';
  }

  private async prepareAny(
    prompt: Prompt,
    beginning: Beginning | undefined,
    answers: boolean,
    signal: AbortSignal | undefined,
  ): Promise<PreparedPrompt> {
    const { model } = this.language;
    if (model.source) {
      if (prompt.kind !== 'messages' || !prompt.image)
        throw new DataError(
          `${this.id} reads an image before it writes: ask it with /v1/chat/completions and an image_url part`,
        );
      const written = await this.written(sourceTokens(model), prompt.messages, prompt, answers, signal);
      return { ...written, image: prompt.image };
    }
    if (prompt.kind !== 'messages') {
      const encode = async (text: string): Promise<number[]> => {
        const ids = await this.encoded([text], signal);
        return beginning ? ids : this.language.tokenizer.fromStart(ids);
      };
      // What is saved, or goes on from a state, is as it was written.
      const isWhole = answers && !beginning;
      const asked = (text: string): string => (isWhole ? asPairSource(this.template, text) : text);
      const more = prompt.kind === 'text' ? await encode(asked(prompt.text)) : prompt.ids;
      const ids = [...(beginning?.snapshot.tokens ?? []), ...more];
      return { ids, boundary: ids.length, base: ids.length, messages: [] };
    }
    const base = beginning?.record.base ?? 0;
    const before = beginning?.snapshot.tokens.slice(0, base) ?? [];
    const messages = [...(beginning?.record.messages ?? []), ...prompt.messages];
    try {
      return await this.written(before, messages, prompt, answers, signal);
    } catch (error) {
      if (answers || !(error instanceof TokenizerError)) throw error;
      return this.instructed(before, messages, prompt, error, signal);
    }
  }

  /**
   * The common prefix of conversations that begin with these messages, if the template refuses the messages alone (many need a user message).
   * Throws `refusal` if the template refuses them with a user message, too.
   */
  private async instructed(
    before: readonly number[],
    messages: readonly ChatMessage[],
    prompt: MessagesPrompt,
    refusal: TokenizerError,
    signal: AbortSignal | undefined,
  ): Promise<PreparedPrompt> {
    const asked = (content: string): Promise<PreparedPrompt> =>
      this.written(before, [...messages, { role: 'user', content }], prompt, false, signal);
    const [one, other] = await Promise.all(['one', '2'].map(asked)).catch(() => {
      throw refusal;
    });
    const shared = sharedLength(one!.ids, other!.ids);
    if (shared <= before.length) throw refusal;
    return { ids: one!.ids.slice(0, shared), boundary: shared, base: before.length, messages };
  }

  private async written(
    before: readonly number[],
    messages: readonly ChatMessage[],
    { tools, exactTools = tools, variables }: Pick<MessagesPrompt, 'tools' | 'exactTools' | 'variables'>,
    answers: boolean,
    signal?: AbortSignal,
  ): Promise<PreparedPrompt> {
    const options = {
      before,
      encode: (pieces: readonly string[]) => this.encoded(pieces, signal),
      ...(exactTools && { tools: exactTools }),
      ...(variables && { variables }),
    };
    const conversation = answers
      ? await this.format.withAnswer(messages, options)
      : await this.format.alone(messages, options);
    return { ...conversation, base: before.length, messages, ...(answers && tools && { tools }) };
  }

  /** Tokenizes pieces of text. Throws `ContextError` early if they certainly exceed the context. */
  private async encoded(pieces: readonly string[], signal: AbortSignal | undefined): Promise<number[]> {
    const { tokenizer } = this.language;
    const least = pieces.reduce((sum, piece) => sum + tokenizer.leastTokens(piece), 0);
    if (least > this.context) {
      throw new ContextError(
        `the prompt has at least ${least} tokens, and the context of ${this.id} holds ${this.context}: shorten it`,
      );
    }
    const ids: number[][] = [];
    for (const piece of pieces) ids.push(await encodeApart(tokenizer, piece, signal));
    return ids.length === 1 ? ids[0]! : ids.flat();
  }
}
