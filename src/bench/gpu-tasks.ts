/** The models and tasks of the GPU benchmark. */
import { hybridModel, type Model, type ModelConfig, modelConfig, preset } from '../models/index.js';
import type { TrainingTask } from './plan.js';

/** A training step that a peer runs too; `layers` has a letter per layer, as in `bench/peers/torch_gpu.py`. */
export interface RacedTask extends TrainingTask {
  readonly layers: string;
}

const HEAD_DIM = 64;

function stack(unit: string, times: number, others: Partial<ModelConfig>): ModelConfig {
  const hiddenSize = others.hiddenSize ?? 768;
  return modelConfig({
    modelType: 'heddle',
    vocabSize: 16_384,
    hiddenSize,
    pattern: `(${unit})x${times}`,
    intermediateSize: Math.round((hiddenSize * 8) / 3 / HEAD_DIM) * HEAD_DIM,
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 1024,
    mambaNumHeads: (2 * hiddenSize) / HEAD_DIM,
    mambaHeadDim: HEAD_DIM,
    ssmStateSize: 64,
    numAttentionHeads: hiddenSize / HEAD_DIM,
    numKeyValueHeads: hiddenSize / HEAD_DIM,
    headDim: HEAD_DIM,
    attentionWindow: 128,
    attentionSelected: 128,
    ...others,
  });
}

function raced(name: string, unit: string, times: number, others: Partial<ModelConfig> = {}): RacedTask {
  const config = stack(unit, times, others);
  return { name, layers: unit.repeat(times), config, batch: 16, sequence: 1024 };
}

/** Width 768, a vocabulary of 16,384, 16 sequences of 1,024 tokens: Mamba-2, the shipped design, and full attention. */
export const RACED: readonly RacedTask[] = [
  raced('(M-)x12', 'M-', 12),
  raced('(M-M-M-M-S-)x3', 'M-M-M-M-S-', 3),
  raced('(*-)x12', '*-', 12, { ropeTheta: 10_000 }),
];

function small(name: string, config: ModelConfig, batch: number): TrainingTask {
  return { name, config, batch, sequence: 256 };
}

/** Small models on sequences of 256 tokens, as in experiments. */
export const SMALL: readonly TrainingTask[] = [
  small('hybrid nano', preset('hybrid', 'nano', 1024), 16),
  small('hybrid small', preset('hybrid', 'small', 1024), 16),
  small('ssm small', preset('ssm', 'small', 1024), 64),
];

/** The shipped design with 350M parameters, whose state has a constant size. */
const HYBRID_350M: ModelConfig = stack('M-M-M-M-S-', 8, {
  maxPositionEmbeddings: 1_048_576,
  ropeTheta: null,
});

/** The step for several GPUs: 350M parameters, 32 sequences of 1,024 tokens, so that each of two GPUs has the 16 of the other benchmarks. */
export const SHARED_TASK: TrainingTask = {
  name: '(M-M-M-M-S-)x8, 350M',
  config: { ...HYBRID_350M, maxPositionEmbeddings: 1024 },
  batch: 32,
  sequence: 1024,
};

/** The model of `HYBRID_350M`. */
export function hybrid350(): Model {
  return hybridModel(HYBRID_350M);
}

/** Tiny tasks, to test the command rather than the speed. */
export const TINY: readonly RacedTask[] = [
  {
    name: 'M-S-',
    layers: 'M-S-',
    config: {
      ...stack('M-S-', 1, { hiddenSize: 64, vocabSize: 64, attentionWindow: 16, attentionSelected: 16 }),
    },
    batch: 2,
    sequence: 64,
  },
];
