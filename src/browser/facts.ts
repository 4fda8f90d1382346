/** The properties of the worker's objects that the page caches. */
import type { ChatTurn } from '../generate/index.js';
import type { Fingerprint } from '../models/index.js';
import type { ChatMessage, GenerationConfig } from '../text/index.js';

/** The cached properties of a model. */
export interface ModelFacts {
  /** The model's `config.json`. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly modelType: string;
  readonly pattern: string;
  readonly vocabSize: number;
  readonly maxPositionEmbeddings: number | undefined;
  /** Number of parameters. */
  readonly parameters: number;
  readonly fingerprint: Fingerprint;
  readonly endOfText: number | undefined;
  /** The sampling settings of the model's generation config. */
  readonly sampling: Pick<GenerationConfig, 'temperature' | 'topK' | 'topP' | 'repetitionPenalty'>;
}

/** The cached properties of a session. */
export interface SessionFacts {
  readonly bytes: number;
  /** The position of the first of `tokens`. */
  readonly from: number;
  readonly tokens: readonly number[];
}

/** The cached properties of a conversation. */
export interface ChatFacts extends SessionFacts {
  readonly messages: readonly ChatMessage[];
  readonly turn: ChatTurn | undefined;
}

/** The cached properties of a snapshot. */
export interface SnapshotFacts {
  readonly bytes: number;
  readonly length: number;
}

/** A state stored in the browser. */
export interface KeptState {
  readonly id: string;
  readonly name: string | null;
  /** Seconds since 1970. */
  readonly created: number;
  /** Number of tokens read and written. */
  readonly tokens: number;
  /** Size of its file. */
  readonly bytes: number;
  /** The state that it was copied from, or that its conversation continued from. */
  readonly parent: string | null;
  /** The messages of its conversation; empty if it has none. */
  readonly messages: readonly ChatMessage[];
}

/** Metadata to store with a state. */
export type AboutState = Partial<Pick<KeptState, 'name' | 'parent' | 'messages'>>;
