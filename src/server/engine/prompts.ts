/** How what is asked of a model becomes tokens: texts, tokens, and conversations, behind a saved state or not. */
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
import { answerMessage, type ChatMessage, encodeApart } from '../../text/index.js';
import { ContextError } from '../errors.js';
import type { Prompt } from './protocol.js';

/** Where a prompt begins, if not at nothing. */
export interface Beginning {
  readonly record: StateRecord;
  readonly snapshot: Snapshot;
}

/** A prompt as it is read. */
export interface PreparedPrompt extends ReadableConversation {
  /** What a state after it has to know: tokens before the first message, and the messages. */
  readonly base: number;
  readonly messages: readonly ChatMessage[];
  /** The file of the image that the model reads before the tokens, of which the first stand for it. */
  readonly image?: Uint8Array;
  /** Tools that were told of. */
  readonly tools?: readonly unknown[];
}

type MessagesPrompt = Extract<Prompt, { kind: 'messages' }>;

/** Turns what requests ask into tokens of a model: by the chat template, or as a text. */
export class Prompts {
  constructor(
    private readonly language: LanguageModel,
    /** By which requests name the model. */
    private readonly id: string,
    /** Tokens that a prompt and its answer may have together. */
    private readonly context: number,
    private readonly format: MessageFormat,
  ) {}

  /**
   * The tokens of a prompt, behind a beginning. Throws `DataError` or `TokenizerError` for what the template does not take, or
   * where there is none; `ContextError` for more than the context holds, beside `uncounted` tokens of the beginning.
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

  /** How many tokens a text has, or messages with what opens the answer. Throws as `prepare` does for messages. */
  async count(prompt: Exclude<Prompt, { kind: 'tokens' }>, signal: AbortSignal): Promise<number> {
    if (prompt.kind === 'text')
      return (await encodeApart(this.language.tokenizer, prompt.text, signal)).length;
    return (await this.prepareAny(prompt, undefined, true, signal)).ids.length;
  }

  /** A prompt and its answer, as a later turn will read them. */
  async answered(prompt: PreparedPrompt, answer: string): Promise<PreparedPrompt> {
    const { ids, base, messages, thinking, tools } = prompt;
    if (messages.length === 0) {
      const all = [...ids, ...this.language.tokenizer.encode(answer)];
      return { ids: all, boundary: all.length, base: all.length, messages };
    }
    const said = answerMessage(answer, this.format.reading(thinking, tools));
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
      const more = prompt.kind === 'text' ? await encode(prompt.text) : prompt.ids;
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
   * The common beginning of conversations with these messages, where the template refuses the messages alone: many templates need a user's
   * message. Throws `refusal` where the template refuses them with one, too.
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

  /** The tokens of pieces of text. Throws `ContextError` where they are more than the context holds for certain. */
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
