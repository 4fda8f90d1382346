/** What a training run is given, and what it tells. */
import type { Device, Weight } from '../engine/index.js';
import type { LoraConfig, Model } from '../models/index.js';
import type { Tokenizer } from '../text/index.js';
import type { DataSource } from './data.js';
import type { Evaluation } from './evaluate.js';
import type { TrainingSettings } from './settings.js';

/** What happened; the lines of `metrics.jsonl`. */
export type TrainingEvent =
  | {
      event: 'step';
      step: number;
      /** Nats a token. */
      loss: number;
      gradientNorm: number;
      learningRate: number;
      tokensPerSecond: number;
    }
  | ({ event: 'evaluation'; step: number } & Evaluation)
  | ({ event: 'sample'; step: number } & Sample)
  | { event: 'saved'; step: number };

/** What the model writes on a text. */
export interface Sample {
  prompt: string;
  text: string;
}

/** A model that a run learns from: its folder, and what it counts (`Teacher`). */
export interface TeacherInput {
  folder: string;
  weight: number;
  match: number;
}

/** All that a training run is made of (see `train`): what is trained, from what, on which device, into which folder. */
export interface TrainingInput {
  model: Model;
  /** The folder whose weights the run starts from, which are those of `model`; without one they are new. */
  from?: string;
  /** Trains adapters of this kind, and leaves the weights of `from` as they are. */
  lora?: LoraConfig;
  /** What the model learns from beside the data. */
  teacher?: TeacherInput;
  /** Written beside the model, where its tokens are those of texts. */
  tokenizer?: Tokenizer;
  data: DataSource;
  settings: TrainingSettings;
  device: Device;
  /** The run's folder. */
  folder: string;
  /** Go on from the folder's checkpoint. */
  resume?: boolean;
  /** Asked after each evaluation, with the weights of that moment: what it answers is logged. */
  sample?: (model: Model, weights: ReadonlyMap<string, Weight>) => Promise<Sample>;
  onEvent?: (event: TrainingEvent) => void;
  /** Once aborted, the run saves and returns. */
  signal?: AbortSignal;
}

/** What a run came to. */
export interface TrainingResult {
  /** Steps done: fewer than asked for after an interruption. */
  step: number;
  completed: boolean;
  /** Of the last evaluation. */
  perplexity: number | undefined;
}
