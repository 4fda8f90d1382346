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

/** What the server tells of a model that the engine has loaded. */
export interface ServedModelInfo {
  /** By which requests name it. */
  readonly id: string;
  /** Seconds since 1970: when it was loaded. */
  readonly created: number;
  /** Identifies its weights and config. */
  readonly fingerprint: string;
  /** Names its states in an archive. */
  readonly archiveKey: string;
  readonly pattern: string;
  readonly parameters: number;
  readonly vocabulary: number;
  /** Tokens that a prompt and its answer may have together. */
  readonly context: number;
  /** Tokens that it was made to attend to, where its memory grows with what it reads. */
  readonly positions?: number | undefined;
  /** Whether it has a chat template; without one it continues the text of the last message. */
  readonly chat: boolean;
  /** Whether it reads an image before it writes. */
  readonly images: boolean;
  /** Whether its template takes tools. */
  readonly tools: boolean;
  /** How it writes calls and thoughts. */
  readonly form: AnswerForm;
}

/** What a request is to be answered from: messages through the chat template, a text, or tokens. */
export type Prompt =
  | {
      readonly kind: 'messages';
      readonly messages: readonly ChatMessage[];
      /** The image that they are about, as a file has it, for a model that reads one. */
      readonly image?: Uint8Array;
      readonly tools?: readonly unknown[];
      /** The same for the template, with parameters whose numbers and order of keys are those of the request's text. */
      readonly exactTools?: readonly unknown[];
      /** What the template knows besides, such as `enable_thinking`. */
      readonly variables?: TemplateVariables;
    }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'tokens'; readonly ids: readonly number[] };

/** What the text that is written must be. */
export type Format = { readonly kind: 'json' } | { readonly kind: 'schema'; readonly schema: unknown };

/** A call of one of these tools, which an answer must be; or may be where it must else have a format. */
export interface Calls {
  readonly tools: readonly CallableTool[];
  readonly demanded: boolean;
}

/** The owner of states: the name of an API key, or one for everybody where there are no keys. */
export type Owner = string;

/** What is to be written, in the engine's terms. */
export interface GenerateRequest {
  readonly model: string;
  readonly owner: Owner;
  readonly prompt: Prompt;
  /** A state that the prompt comes after; of a document, where it is one of the archive's. */
  readonly state?: string;
  readonly archived?: boolean;
  /** Keeps the state at the end; only where there is one answer. */
  readonly save?: { readonly name: string | null };
  /** How many answers. */
  readonly n: number;
  /** Tokens of each answer; by default what the context has room for, up to a limit. */
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
  /** Gives log probabilities of each token and of so many of the likeliest. */
  readonly logprobs?: number;
  /** Gives the prompt before the answer, with its log probabilities where those are asked for. */
  readonly echo?: boolean;
  readonly format?: Format;
  readonly calls?: Calls;
}

/** Natural logarithms, of the model's own probabilities. */
export interface TokenLogprob {
  readonly id: number;
  readonly token: string;
  readonly bytes: readonly number[];
  readonly logprob: number;
}

/** The log probability of a token that was written, with those of the likeliest ones in its place. */
export interface ChosenLogprob extends TokenLogprob {
  /** The likeliest tokens, likeliest first. */
  readonly top: readonly TokenLogprob[];
}

/** A token of an answer. */
export interface ToldToken extends ChosenLogprob {
  /** Characters of the answer before its text. */
  readonly offset: number;
}

/** A token of a prompt; nothing is known of the first, which nothing came before. */
export interface EchoedToken {
  readonly logprob: ChosenLogprob | undefined;
  readonly token: string;
  /** Where its text begins in the prompt's. */
  readonly offset: number;
}

/** What is reported while answers are written. */
export type GenerateEvent =
  /** The prompt of an answer, before the answer itself; `tokens` where log probabilities are asked for. */
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
      /** The thought that the prompt opened: the answer begins within it. */
      readonly thinking?: ThoughtForm;
    }
  | {
      readonly kind: 'piece';
      /** Of which answer, counted from 0. */
      readonly choice: number;
      readonly text: string;
      /** Of the tokens that are certain to be in the answer with this piece. */
      readonly logprobs?: readonly ToldToken[];
    }
  | {
      readonly kind: 'end';
      readonly choice: number;
      readonly reason: StopReason;
      readonly writtenTokens: number;
    };

/** What is known when all answers are written. */
export interface GenerateResult {
  /** Bytes of the states at the end, together. */
  readonly stateBytes: number;
  readonly state?: StateRecord;
}

/** A prompt to be read into a state that is kept. */
export interface SaveRequest {
  readonly model: string;
  readonly owner: Owner;
  readonly prompt: Prompt;
  readonly state?: string;
  readonly name: string | null;
}

/** A prompt to be looked into, as `heddle explain` does. */
export interface TraceCall {
  readonly model: string;
  readonly prompt: Prompt;
  readonly options: TraceOptions;
}

/** Prompts whose tokens are to be counted. */
export interface CountRequest {
  readonly model: string;
  readonly prompts: readonly Exclude<Prompt, { kind: 'tokens' }>[];
}

/** Texts to be made vectors. */
export interface EmbedRequest {
  readonly model: string;
  readonly inputs: readonly Prompt[];
}

/** The vectors, and how many tokens were read. */
export interface EmbedResult {
  /** [hidden] for each input, of length 1. */
  readonly vectors: readonly Float32Array[];
  readonly tokens: number;
}

/** Gauges of the engine. */
export interface EngineFigures {
  /** Sequences that are held for requests. */
  readonly sequences: number;
  /** Answers that are being written, and requests that wait for that. */
  readonly running: number;
  readonly waiting: number;
  /** Bytes that the prefix caches hold in memory, and how many states those are. */
  readonly cacheBytes: number;
  readonly cacheStates: number;
}

/** The calls that the engine answers, by name: what is asked, the pieces that come meanwhile, and the result. */
export interface EngineCalls {
  models: { request: null; piece: never; result: readonly ServedModelInfo[] };
  generate: { request: GenerateRequest; piece: GenerateEvent; result: GenerateResult };
  save: { request: SaveRequest; piece: never; result: StateRecord };
  /** The tokens of each: of a text as it is, of messages with what opens the answer. */
  count: { request: CountRequest; piece: never; result: readonly number[] };
  embed: { request: EmbedRequest; piece: never; result: EmbedResult };
  /** A trace as JSON text, serialized in the engine's thread so that the server's is not blocked. */
  trace: { request: TraceCall; piece: never; result: string };
  figures: { request: null; piece: never; result: EngineFigures };
  /** Finishes what is being written to the disk, and frees the models. */
  close: { request: null; piece: never; result: null };
}
