/** The inputs, events and results of a training run. */
import type { Device, Weight } from '../engine/index.js';
import type { LoraConfig, Model } from '../models/index.js';
import type { Tokenizer } from '../text/index.js';
import type { DataSource } from './data.js';
import type { StepEvaluation } from './evaluate.js';
import type { TrainingSettings } from './settings.js';

/** An event of a run, which is a line of `metrics.jsonl`. */
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
  | ({ event: 'evaluation' } & StepEvaluation)
  | ({ event: 'sample'; step: number } & Sample)
  /** `of` is the step that has the weights of the checkpoint, if that is an earlier one. */
  | { event: 'saved'; step: number; of?: number };

/** A sample of generated text. */
export interface Sample {
  prompt: string;
  text: string;
}

/** The teacher of distillation: its folder, and its weights in the loss (`Teacher`). */
export interface TeacherInput {
  folder: string;
  weight: number;
  match: number;
}

/** The input of `train`: the model, the data, the device, and the run's folder. */
export interface TrainingInput {
  model: Model;
  /** The folder of the initial weights of `model`; without one they are initialized randomly. */
  from?: string;
  /** Trains adapters of this kind, with the weights of `from` frozen. */
  lora?: LoraConfig;
  /** The teacher, for distillation. */
  teacher?: TeacherInput;
  /** The tokenizer, which is saved with the model, for models of text. */
  tokenizer?: Tokenizer;
  /** The source of a chat template, in Jinja, which is saved with the model or the adapter in the place of that of `from`; null for none, even if `from` has one. */
  chatTemplate?: string | null;
  data: DataSource;
  settings: TrainingSettings;
  device: Device;
  /** The run's folder. */
  folder: string;
  /** Whether to continue from the folder's checkpoint. */
  resume?: boolean;
  /** Called after each evaluation with the present weights; its result is logged. */
  sample?: (model: Model, weights: ReadonlyMap<string, Weight>) => Promise<Sample>;
  onEvent?: (event: TrainingEvent) => void;
  /** Once aborted, the run saves and returns. */
  signal?: AbortSignal;
}

/** The result of a run. */
export interface TrainingResult {
  /** The number of steps, which is smaller after an interruption. */
  step: number;
  completed: boolean;
  /** Of the weights that the run leaves, for a model of text. */
  perplexity: number | undefined;
  /** The evaluation of the weights that the run leaves, with its step, where it keeps the best ones. */
  best?: StepEvaluation;
}
