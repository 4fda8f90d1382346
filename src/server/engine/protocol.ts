/** The messages between the server's thread and the engine's. */
import type { StopReason } from '../../generate/index.js';
import type { StateRecord } from '../../generate/states/record.js';
import type { TraceOptions } from '../../inspect/index.js';
import type {
  AnswerForm,
  CallableTool,
  ChatMessage,
  TemplateVariables,
  ThoughtForm,
} from '../../text/index.js';

/** A model that the engine has loaded, as the server describes it. */
export interface ServedModelInfo {
  /** Its name in requests. */
  readonly id: string;
  /** When it was loaded, in seconds since 1970. */
  readonly created: number;
  /** Identifies its weights and config. */
  readonly fingerprint: string;
  /** Identifies its states in an archive. */
  readonly archiveKey: string;
  readonly pattern: string;
  readonly parameters: number;
  readonly hiddenSize: number;
  readonly vocabulary: number;
  /** The context length: the limit of a prompt and its answer together, in tokens. */
  readonly context: number;
  /** The positions that it was trained for, if its state grows. */
  readonly positions?: number | undefined;
  /** Whether it has a chat template; without one it continues the text of the last message. */
  readonly chat: boolean;
  /** Whether it reads an image before the text. */
  readonly images: boolean;
  /** Whether its template supports tools. */
  readonly tools: boolean;
  /** The format of its tool calls and thoughts. */
  readonly form: AnswerForm;
}

/** A prompt: messages for the chat template, a text, or tokens. */
export type Prompt =
  | {
      readonly kind: 'messages';
      readonly messages: readonly ChatMessage[];
      /** The file of the image that they are about, for a model that reads one. */
      readonly image?: Uint8Array;
      readonly tools?: readonly unknown[];
      /** The same for the template: parsed so that numbers and the order of keys are those of the request's text. */
      readonly exactTools?: readonly unknown[];
      /** Further variables of the template, such as `enable_thinking`. */
      readonly variables?: TemplateVariables;
    }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'tokens'; readonly ids: readonly number[] };

/** The format that constrains an answer. */
export type Format = { readonly kind: 'json' } | { readonly kind: 'schema'; readonly schema: unknown };

/** Tools that an answer must call (`demanded`) or may call; if `single`, it ends where a second call begins. */
export interface Calls {
  readonly tools: readonly CallableTool[];
  readonly demanded: boolean;
  readonly single: boolean;
}

/** The owner of states: the name of an API key, or one shared name without keys. */
export type Owner = string;

/** A request for answers, in the engine's terms. */
export interface GenerateRequest {
  readonly model: string;
  readonly owner: Owner;
  readonly prompt: Prompt;
  /** The saved state that the prompt continues; with `archived`, the state of an archive's document. */
  readonly state?: string;
  readonly archived?: boolean;
  /** Saves the state after the answer; only for a single answer. */
  readonly save?: { readonly name: string | null };
  /** The number of answers. */
  readonly n: number;
  /** The most tokens of each answer; by default what fits into the context, up to a limit. */
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly seed: number;
  readonly stop: readonly string[];
  /** Added to the logits of these tokens. */
  readonly bias?: readonly (readonly [id: number, bias: number])[];
  readonly frequencyPenalty?: number;
  readonly presencePenalty?: number;
  /** Returns log probabilities of each token and of this many most likely ones. */
  readonly logprobs?: number;
  /** Returns the prompt before the answer, with its log probabilities if they are requested. */
  readonly echo?: boolean;
  readonly format?: Format;
  readonly calls?: Calls;
}

/** A natural logarithm of the model's own probability, before sampling parameters. */
export interface TokenLogprob {
  readonly id: number;
  readonly token: string;
  readonly bytes: readonly number[];
  readonly logprob: number;
}

/** The log probability of a sampled token, with those of the most likely tokens at its position. */
export interface ChosenLogprob extends TokenLogprob {
  /** The most likely tokens, in descending order. */
  readonly top: readonly TokenLogprob[];
}

/** A token of an answer, with its log probability. */
export interface AnswerToken extends ChosenLogprob {
  /** The offset of its text in the answer, in characters. */
  readonly offset: number;
}

/** A token of a prompt. The first one has no log probability. */
export interface EchoedToken {
  readonly logprob: ChosenLogprob | undefined;
  readonly token: string;
  /** The offset of its text in the prompt, in characters. */
  readonly offset: number;
}

/** The events of a request for answers. */
export type GenerateEvent =
  /** The prompt of an answer, before the answer itself; `tokens` if log probabilities are requested. */
  | {
      readonly kind: 'echo';
      readonly choice: number;
      readonly text: string;
      readonly tokens?: readonly EchoedToken[];
    }
  /** The request is valid and queued; then it is admitted. */
  | { readonly kind: 'prepared' }
  | { readonly kind: 'admitted' }
  | {
      readonly kind: 'start';
      readonly promptTokens: number;
      readonly reusedTokens: number;
      readonly readTokens: number;
      /** The thought that the generation prompt opens: the answer begins inside it. */
      readonly thinking?: ThoughtForm;
    }
  | {
      readonly kind: 'piece';
      /** The index of the answer. */
      readonly choice: number;
      readonly text: string;
      /** Log probabilities of the tokens that are certain to be part of the answer with this piece. */
      readonly logprobs?: readonly AnswerToken[];
    }
  | {
      readonly kind: 'end';
      readonly choice: number;
      readonly reason: StopReason;
      readonly writtenTokens: number;
    };

/** The result, when all answers are complete. */
export interface GenerateResult {
  /** The total bytes of the states at the end. */
  readonly stateBytes: number;
  readonly state?: StateRecord;
}

/** A request to read a prompt into a saved state. */
export interface SaveRequest {
  readonly model: string;
  readonly owner: Owner;
  readonly prompt: Prompt;
  readonly state?: string;
  readonly name: string | null;
}

/** A request for a trace, as in `heddle explain`. */
export interface TraceCall {
  readonly model: string;
  readonly prompt: Prompt;
  readonly options: TraceOptions;
}

/** A request for the token counts of prompts. */
export interface CountRequest {
  readonly model: string;
  readonly prompts: readonly Exclude<Prompt, { kind: 'tokens' }>[];
}

/** A request for embeddings. */
export interface EmbedRequest {
  readonly model: string;
  readonly inputs: readonly Prompt[];
}

/** The embeddings, and the number of tokens read. */
export interface EmbedResult {
  /** [hidden] for each input, of length 1. */
  readonly vectors: readonly Float32Array[];
  readonly tokens: number;
}

/** Gauges of the engine. */
export interface EngineFigures {
  /** The sequences of running requests. */
  readonly sequences: number;
  /** Answers that are being generated, and requests in the queue. */
  readonly running: number;
  readonly waiting: number;
  /** The bytes and the number of states of the prefix caches in memory. */
  readonly cacheBytes: number;
  readonly cacheStates: number;
}

/** The calls that the engine answers, by name: request, streamed pieces, and result. */
export interface EngineCalls {
  models: { request: null; piece: never; result: readonly ServedModelInfo[] };
  generate: { request: GenerateRequest; piece: GenerateEvent; result: GenerateResult };
  save: { request: SaveRequest; piece: never; result: StateRecord };
  /** The token counts: of texts, and of messages with the generation prompt. */
  count: { request: CountRequest; piece: never; result: readonly number[] };
  embed: { request: EmbedRequest; piece: never; result: EmbedResult };
  /** A trace as JSON, serialized in the engine's thread so that the server's is not blocked. */
  trace: { request: TraceCall; piece: never; result: string };
  figures: { request: null; piece: never; result: EngineFigures };
  /** Finishes pending writes to disk and frees the models. */
  close: { request: null; piece: never; result: null };
}
