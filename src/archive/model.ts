/** What answers questions to an archive: a model that is loaded here, or one that a server has loaded. */
import type { ChatMessage } from '../text/index.js';

/** What a model is to answer. */
export interface AnswerRequest {
  readonly messages: readonly ChatMessage[];
  /** The state of a document, which the messages come after. */
  readonly state?: string | undefined;
  readonly maxTokens: number;
  readonly signal?: AbortSignal | undefined;
}

/** What the archive needs of a model, wherever it runs. */
export interface ArchiveModel {
  readonly name: string;
  /** Tells models apart whose states are not each other's. */
  readonly key: string;
  /** Whether it has a chat template: without one it continues texts and follows no instructions. */
  readonly instructs: boolean;
  /** Tokens that a prompt and its answer may have together. */
  readonly context: number;
  /** Tokens that it was made to attend to, those of a document's state with them; absent where its memory does not grow with what it reads. */
  readonly positions?: number | undefined;
  /** The tokens of each: of a text as it is, or of messages as the template writes them, with what opens the answer. */
  count(prompts: readonly (string | readonly ChatMessage[])[]): Promise<readonly number[]>;
  /** A text as a vector of length 1. */
  embed(text: string): Promise<Float32Array>;
  /** The answer, as it is written. */
  answer(request: AnswerRequest): AsyncGenerator<string, void>;
}
