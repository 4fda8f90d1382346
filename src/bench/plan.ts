/** The plan of a benchmark run: shapes and repetitions. */
import {
  type Design,
  hybridModel,
  type Model,
  type ModelConfig,
  modelConfig,
  preset,
  type Size,
} from '../models/index.js';
import { GRANITE_1B, graniteModel } from './shapes.js';

/** The sections of `npm run bench`. */
export const SECTIONS = ['peak', 'train', 'prefill', 'decode', 'load'] as const;
/** One of them. */
export type Section = (typeof SECTIONS)[number];

/** A training step: one batch of random tokens through loss, gradient and update. */
export interface TrainingTask {
  name: string;
  config: ModelConfig;
  /** Sequences in a batch. */
  batch: number;
  /** Tokens in a sequence. */
  sequence: number;
}

/** The plan of a benchmark run. */
export interface Plan {
  /** Sizes n of the square matrices of the reference speed. */
  peak: readonly number[];
  training: TrainingTask;
  /** Rounds of steps, alternating with a peer. */
  rounds: number;
  /** A larger step, whose preparation is timed. */
  preparation: TrainingTask;
  /** The presets that are prefilled and decoded. */
  generation: { size: Size; vocabSize: number; prefill: readonly number[]; contexts: readonly number[] };
  /** The checkpoint of random weights that is loaded. */
  load: { name: string; model: () => Model };
}

/** A stack of Mamba-2 and SwiGLU layers, the same as in `bench/peers/torch_train.py`. */
function stack(hiddenSize: number, layers: number, vocabSize: number): ModelConfig {
  const headDim = 64;
  return modelConfig({
    modelType: 'heddle',
    vocabSize,
    hiddenSize,
    pattern: `(M-)x${layers}`,
    intermediateSize: Math.round((hiddenSize * 8) / 3 / 64) * 64,
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 256,
    mambaNumHeads: (2 * hiddenSize) / headDim,
    mambaHeadDim: headDim,
    ssmStateSize: 64,
  });
}

function presetTask(design: Design, size: Size, vocabSize: number): TrainingTask {
  const config = preset(design, size, vocabSize);
  return { name: `${design} ${size}`, config, batch: 4, sequence: config.maxPositionEmbeddings };
}

/** The plan that measures the speed of a machine. */
export const FULL: Plan = {
  peak: [1024, 2048],
  training: { name: 'Mamba-2 + SwiGLU, 6 layers', config: stack(384, 6, 4096), batch: 4, sequence: 256 },
  rounds: 5,
  preparation: presetTask('hybrid', 'base', 4096),
  generation: { size: 'small', vocabSize: 4096, prefill: [512, 2048], contexts: [128, 4096, 65_536] },
  load: { name: 'the shape of Granite 4.0-H 1B', model: () => graniteModel(GRANITE_1B) },
};

/** A small plan, to test the command rather than the speed. */
export const QUICK: Plan = {
  peak: [64, 128],
  training: { name: 'Mamba-2 + SwiGLU, 1 layer', config: stack(64, 1, 256), batch: 2, sequence: 16 },
  rounds: 1,
  preparation: presetTask('hybrid', 'nano', 256),
  generation: { size: 'nano', vocabSize: 256, prefill: [32, 64], contexts: [16, 64] },
  load: { name: 'a nano hybrid', model: () => hybridModel(preset('hybrid', 'nano', 256)) },
};
