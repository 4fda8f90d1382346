/** Conversations with a model that has no chat template: it goes on from what is said, line by line. */
import { DataError } from '../errors.js';
import { type ChatMessage, NO_FORM, PAIR_SEPARATOR, type Reading, type Tokenizer } from '../text/index.js';
import type { ConversationOptions, MessageFormat, ReadableConversation } from './conversation.js';

/** At which an answer of such a model ends: it would go on for ever. */
export const END_OF_PARAGRAPH = '\n\n';

/** Each message of a person begins a line, but for the first; an answer goes on behind it. */
export class LineFormat implements MessageFormat {
  readonly form = NO_FORM;

  constructor(
    private readonly tokenizer: Tokenizer,
    /** What errors call the model. */
    private readonly name = 'the model',
    /** Of a model that reads a source: what stands before the first message is the source, and what is asked ends as in its pairs. */
    private readonly isBehindSource = false,
  ) {}

  /** Messages that an answer is to follow. Throws `DataError` for one of another role than `user` and `assistant`. */
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

  /** The same: nothing is put in front of an answer. */
  alone(messages: readonly ChatMessage[], options: ConversationOptions = {}): Promise<ReadableConversation> {
    return this.withAnswer(messages, options);
  }

  /** Whatever it writes is content. */
  reading(): Reading {
    return { form: NO_FORM };
  }
}
