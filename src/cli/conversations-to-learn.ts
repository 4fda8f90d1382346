/** Conversations for `heddle train`: the answers are learned, as the chat template writes them. */
import { ConfigError, DataError, TokenizerError } from '../errors.js';
import { ConversationFormat, type LearnableConversation } from '../generate/index.js';
import {
  ChatTemplate,
  type Conversation,
  conversationTemplate,
  TEMPLATE_FILE,
  type Tokenizer,
} from '../text/index.js';
import { type EncodedPair, examplesRead, pairData } from '../train/index.js';
import { formatCount } from './format.js';
import { type CorpusOptions, splitPairs, type TextToLearn } from './text-to-learn.js';

/** Holds out a random share of the conversations, determined by the seed. Throws `ConfigError` for other arrangements of documents, `DataError` for one alone. */
export function conversationsToLearn(
  path: string,
  conversations: readonly Conversation[],
  options: CorpusOptions,
): TextToLearn {
  if (options.documents !== 'join')
    throw new ConfigError(`--documents cuts a corpus, and ${path} has conversations: leave it out`);
  if (conversations.length < 2)
    throw new DataError(`${path} has 1 conversation: expected two at least, to learn from and to hold out`);
  const textsOf = ({ messages, tools }: Conversation): string[] => [JSON.stringify([messages, tools])];
  const { training, validation } = splitPairs(path, conversations, textsOf, options, 'conversations');
  return {
    documents: training.flatMap(({ messages }) =>
      messages.map(({ role, content }) => ({
        text: `${role}\n${typeof content === 'string' ? content : ''}`,
      })),
    ),
    chatTemplate: conversationTemplate,
    isConversation: true,
    async encode(tokenizer, _, own) {
      const template = own ?? templateOf(tokenizer);
      const format = await ConversationFormat.learn(template, tokenizer);
      const encode = async (all: readonly Conversation[]): Promise<EncodedPair[]> => {
        const encoded: EncodedPair[] = [];
        for (const { messages, tools, place } of all) {
          const learned = await format.toLearn(messages, tools && { tools }).catch((error: Error) => {
            if (!(error instanceof TokenizerError)) throw error;
            throw new TokenizerError(`${place}: ${error.message}`, { cause: error });
          });
          for (const one of learned) encoded.push({ ...encodedPair(one), place });
        }
        return encoded;
      };
      const [learned, heldOut] = [await encode(training), await encode(validation)];
      const longest = [...learned, ...heldOut].reduce((most, { tokens }) => Math.max(most, tokens.length), 0);
      const { tokens, prefix } = heldOut[0]!;
      return {
        data: pairData(learned, heldOut),
        about: `${path}: ${formatCount(training.length)} conversations to learn from, ${formatCount(validation.length)} held out; the longest has ${formatCount(longest)} tokens`,
        sequence: () => longest - 1,
        epochs: (settings) => examplesRead(settings) / learned.length,
        // A session reads one token at least.
        prompt: [...tokens.subarray(0, Math.max(1, prefix))],
        example: '',
      };
    },
  };
}

/** The template of a model that has none. */
function templateOf(tokenizer: Tokenizer): ChatTemplate {
  return new ChatTemplate({ sources: { default: conversationTemplate(tokenizer) }, origin: TEMPLATE_FILE });
}

function encodedPair({ ids, answers }: LearnableConversation): EncodedPair {
  return { tokens: Int32Array.from(ids), prefix: answers[0]![0], learned: answers };
}
