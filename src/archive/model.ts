/** What answers questions to an archive: a model that is loaded here, or one that a server has loaded. */
import type { ChatMessage } from '../text/index.js';

export interface AnswerRequest {
  readonly messages: readonly ChatMessage[];
  /** The state of a document, which the messages come after. */
  readonly state?: string | undefined;
  readonly maxTokens: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ArchiveModel {
  readonly name: string;
  /** Tells models apart whose states are not each other's. */
  readonly key: string;
  /** Whether it has a chat template: without one it continues texts and follows no instructions. */
  readonly instructs: boolean;
  /** Tokens that it can attend to together. */
  readonly context: number;
  /** Tokens of a text, or about as many. */
  tokens(text: string): number;
  /** A text as a vector of length 1. */
  embed(text: string): Promise<Float32Array>;
  /** The answer, as it is written. */
  answer(request: AnswerRequest): AsyncGenerator<string, void>;
}
