/** The types of the studio's own API, which its pages use. */

/** The answer of `GET /studio/api/models/:model`. */
export interface ServedFiles {
  /** The URL of the files. It changes with the weights, the tokenizer and the template, so that browser caches stay valid. */
  readonly folder: string;
  /** The size of each in bytes. */
  readonly files: Readonly<Record<string, number>>;
}

/** A summary of a run. */
export interface TrainingRun {
  /** An id that depends on the folder. */
  readonly id: string;
  /** Its folder, relative to the folder that was searched. */
  readonly name: string;
  /** Layers and parameters; absent before its first checkpoint, and for an adapter. */
  readonly pattern?: string;
  readonly parameters?: number;
  /** When its log was last written, in milliseconds since 1970. */
  readonly updated: number;
  /** Whether its log was written in the last two minutes. */
  readonly live: boolean;
}

/** The answer of `GET /studio/api/runs`. */
export interface TrainingRuns {
  readonly data: readonly TrainingRun[];
  /** The shell command that starts another run. */
  readonly begin: string;
}

/** The next lines of a run's log, as columns. */
export interface RunLog {
  /** The position to continue from. */
  readonly next: string;
  /** Whether more is available now. */
  readonly more: boolean;
  /** Whether the log was restarted since `from`, so that everything read before is obsolete. */
  readonly anew: boolean;
  readonly steps: {
    readonly step: number[];
    /** Nats a token. */
    readonly loss: number[];
    readonly learningRate: number[];
    readonly tokensPerSecond: number[];
  };
  readonly evaluations: { step: number; loss: number; perplexity?: number | undefined }[];
  readonly samples: { step: number; prompt: string; text: string }[];
}

/** The body of `POST /studio/api/trace`, whose answer is the trace as JSON. */
export interface TraceRequest {
  readonly model: string;
  /** Either a text or tokens. */
  readonly text?: string;
  readonly messages?: readonly { readonly role: string; readonly content: string }[];
  /** As `TraceOptions` of `model.trace`. */
  readonly options: {
    readonly layers?: readonly number[];
    readonly heads?: readonly number[];
    readonly matrices?: boolean;
    readonly lens?: number;
    readonly attribute?: readonly number[];
  };
}
