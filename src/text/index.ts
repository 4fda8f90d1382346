/** Text and ids: corpora, trained vocabularies, and tokenizers in Hugging Face's formats. */
export * from './answer/index.js';
export { type BpeOptions, END_OF_TEXT, type TrainedBpe, trainBpe } from './bpe.js';
export {
  type ChatMessage,
  type ChatRenderOptions,
  ChatTemplate,
  type ChatTemplateParts,
  expectMessages,
  TEMPLATE_FILE,
} from './chat-template.js';
export { type GuardedPrompt, guardControlTokens, type PromptParts } from './control-tokens.js';
export { conversationTemplate } from './conversation-template.js';
export {
  type Corpus,
  type CorpusDocument,
  type CorpusSplit,
  encodeCorpus,
  encodeDocuments,
  loadCorpus,
  splitCorpus,
} from './corpus.js';
export { type ExactJson, readExactJson } from './exact-json.js';
export { endOfTurnIds, type GenerationConfig, readGenerationConfig } from './generation-config.js';
export { findTokenizer, idTokenizer, loadTokenizerOrIds } from './id-tokenizer.js';
export { ID_FORMS, type IdCorpus, type IdForm, type IdSplit, isOfIds, readIds, splitIds } from './ids.js';
export { TEMPLATE_LIMITS, type TemplateLimits, type Variables as TemplateVariables } from './jinja/index.js';
export { type Conversation, isJsonFile, type JsonExamples, readJsonExamples } from './json-examples.js';
export { encodeApart } from './long-texts.js';
export {
  asPairSource,
  expectSeveralPairs,
  isPairTemplate,
  PAIR_SEPARATOR,
  type PairLine,
  pairTemplate,
  readPairLines,
  readPairs,
  type TextPair,
} from './pairs.js';
export type { TokenStream } from './token-stream.js';
export { TokenThread } from './token-thread.js';
export { Tokenizer } from './tokenizer.js';
export { type TokenizerFiles, tokenizerFiles } from './tokenizer-json.js';
export { Vocabulary } from './vocabulary.js';
export { isVocabularyFile, VOCABULARY_FILES } from './vocabulary-files.js';
