/** What the studio's own API answers; the pages read it as it stands here. */

/** What `GET /studio/api/models/:model` answers. */
export interface ServedFiles {
  /** Where the files lie: another address for other weights, another tokenizer or template, so that what a browser has kept is still right. */
  readonly folder: string;
  /** The size of each in bytes. */
  readonly files: Readonly<Record<string, number>>;
}

/** A run in brief. */
export interface TrainingRun {
  /** Stays the same as long as the folder does. */
  readonly id: string;
  /** Its folder, seen from where it was looked for. */
  readonly name: string;
  /** Layers and parameters; absent before its first checkpoint, and for an adapter. */
  readonly pattern?: string;
  readonly parameters?: number;
  /** When its log last grew, in milliseconds since 1970. */
  readonly updated: number;
  /** Whether its log grew in the last two minutes. */
  readonly live: boolean;
}

/** What `GET /studio/api/runs` answers. */
export interface TrainingRuns {
  readonly data: readonly TrainingRun[];
  /** A command that begins another run, as it is called where the server was started. */
  readonly begin: string;
}

/** The next lines of a run's log, as columns. */
export interface RunLog {
  /** Where to go on reading. */
  readonly next: string;
  /** Whether there is more to read at once. */
  readonly more: boolean;
  /** The log was begun anew since `from`: what was read of it before is void. */
  readonly anew: boolean;
  readonly steps: {
    readonly step: number[];
    /** Nats a token. */
    readonly loss: number[];
    readonly learningRate: number[];
    readonly tokensPerSecond: number[];
  };
  readonly evaluations: { step: number; loss: number; perplexity: number }[];
  readonly samples: { step: number; prompt: string; text: string }[];
}

/** What `POST /studio/api/trace` takes. It answers with the trace as JSON. */
export interface TraceRequest {
  readonly model: string;
  /** One of the two. */
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
