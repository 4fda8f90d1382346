/** What a page remembers of the worker's objects, so that it need not ask. */
import type { ChatTurn } from '../generate/index.js';
import type { Fingerprint } from '../models/index.js';
import type { ChatMessage, GenerationConfig } from '../text/index.js';

/** What a page knows of a model without asking its worker. */
export interface ModelFacts {
  /** The model's `config.json`. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly modelType: string;
  readonly pattern: string;
  readonly vocabSize: number;
  readonly maxPositionEmbeddings: number | undefined;
  /** How many there are. */
  readonly parameters: number;
  readonly fingerprint: Fingerprint;
  readonly endOfText: number | undefined;
  /** How the model says to sample, where it does. */
  readonly sampling: Pick<GenerationConfig, 'temperature' | 'topK' | 'topP' | 'repetitionPenalty'>;
}

/** What the page knows of a session in the worker. */
export interface SessionFacts {
  readonly bytes: number;
  /** The tokens from this one on. */
  readonly from: number;
  readonly tokens: readonly number[];
}

/** What the page knows of a chat in the worker. */
export interface ChatFacts extends SessionFacts {
  readonly messages: readonly ChatMessage[];
  readonly turn: ChatTurn | undefined;
}

/** What the page knows of a snapshot in the worker. */
export interface SnapshotFacts {
  readonly bytes: number;
  readonly length: number;
}

/** A state that the browser keeps, beyond the page's life. */
export interface KeptState {
  readonly id: string;
  readonly name: string | null;
  /** Seconds since 1970. */
  readonly created: number;
  /** How many it has read and written. */
  readonly tokens: number;
  /** Of its file. */
  readonly bytes: number;
  /** The state that it is a copy of, or that its conversation went on from. */
  readonly parent: string | null;
  /** The conversation that it is the state of, where there is one. */
  readonly messages: readonly ChatMessage[];
}

/** What is said of a state when it is kept. */
export type AboutState = Partial<Pick<KeptState, 'name' | 'parent' | 'messages'>>;
