/** Conversations with a model without a chat template: messages become plain lines, which the model continues. */
import { DataError } from '../errors.js';
import { type ChatMessage, NO_FORM, PAIR_SEPARATOR, type Reading, type Tokenizer } from '../text/index.js';
import type { ConversationOptions, MessageFormat, ReadableConversation } from './conversation.js';

/** The stop string of such models, which would not stop otherwise. */
export const END_OF_PARAGRAPH = '\n\n';

/** Each user message starts a new line; the answer continues it. */
export class LineFormat implements MessageFormat {
  readonly form = NO_FORM;

  constructor(
    private readonly tokenizer: Tokenizer,
    /** The model's name in errors. */
    private readonly name = 'the model',
    /** For a model with a source: the source precedes the first message, and a question ends as in the training pairs. */
    private readonly isBehindSource = false,
  ) {}

  /** Tokenizes messages that an answer follows. Throws `DataError` for a role other than `user` and `assistant`. */
  async withAnswer(
    messages: readonly ChatMessage[],
    { before = [], encode = async ([line]) => this.tokenizer.encode(line!) }: ConversationOptions = {},
  ): Promise<ReadableConversation> {
    const ids = [...before];
    const { isBehindSource } = this;
    for (const [i, { role, content }] of messages.entries()) {
      if (role !== 'user' && role !== 'assistant') {
        throw new DataError(
          `${this.name} has no chat template, so it knows no messages of the role ${role}: it goes on from what is said; write that as the first user message`,
        );
      }
      const isFirst = i === 0 && (isBehindSource || before.length === 0);
      const said = String(content);
      const asked = isBehindSource && role === 'user' && said !== '' ? `${said}${PAIR_SEPARATOR}` : said;
      const line = role === 'user' && !isFirst ? `\n${asked}` : asked;
      if (isBehindSource && line === '') continue;
      const own: readonly number[] = await encode([line]);
      ids.push(...(isFirst && !isBehindSource ? this.tokenizer.fromStart([...own]) : own));
    }
    return { ids, boundary: ids.length };
  }

  /** The same, since there is no generation prompt. */
  alone(messages: readonly ChatMessage[], options: ConversationOptions = {}): Promise<ReadableConversation> {
    return this.withAnswer(messages, options);
  }

  /** All generated text is content. */
  reading(): Reading {
    return { form: NO_FORM };
  }
}
