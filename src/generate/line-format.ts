/** Conversations with a model that has no chat template: it goes on from what is said, line by line. */
import { DataError } from '../errors.js';
import { type ChatMessage, NO_FORM, type Reading, type Tokenizer } from '../text/index.js';
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
  ) {}

  /** Messages that an answer is to follow. Throws `DataError` for one of another role than `user` and `assistant`. */
  async withAnswer(
    messages: readonly ChatMessage[],
    { before = [], encode = async ([line]) => this.tokenizer.encode(line!) }: ConversationOptions = {},
  ): Promise<ReadableConversation> {
    const ids = [...before];
    for (const [i, { role, content }] of messages.entries()) {
      if (role !== 'user' && role !== 'assistant') {
        throw new DataError(
          `${this.name} has no chat template, so it knows no messages of the role ${role}: it goes on from what is said; write that as the first user message`,
        );
      }
      const isFirst = i === 0 && before.length === 0;
      const own: readonly number[] = await encode([
        `${role === 'user' && !isFirst ? '\n' : ''}${String(content)}`,
      ]);
      ids.push(...(isFirst ? this.tokenizer.fromStart([...own]) : own));
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
