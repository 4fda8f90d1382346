/**
 * The hybrid language model: an embedding, residual blocks x + mixer(norm(x)) in the order of the pattern, a final norm,
 * and the projection onto the vocabulary, by default the embedding again. Tensor names:
 * `backbone.{embeddings, layers.N.{norm, mixer}, norm_f}` and `lm_head`.
 */
import { add, type Dim, input, type Tensor } from '../graph/index.js';
import {
  attention,
  embedding,
  embeddingTable,
  INITIAL_DEVIATION,
  linear,
  type Mixer,
  type MixerContext,
  mamba2,
  mlp,
  normal,
  type ParameterRegistry,
  project,
  rmsNorm,
  type StateSpec,
  selectiveAttention,
  slidingWindowAttention,
} from '../nn/index.js';
import type { ModelConfig } from './config.js';
import { type BlockLetter, parsePattern } from './pattern.js';

/** The model's layers, without weights. */
export interface HybridModel {
  readonly config: ModelConfig;
  readonly mixers: readonly Mixer[];
  /** Of all layers; names are prefixed by `layers.N.`. */
  readonly state: readonly StateSpec[];
}

export function hybridModel(config: ModelConfig): HybridModel {
  const letters = parsePattern(config.pattern);
  const mixers = letters.map((letter) => mixerOf(letter, config, letters.length));
  const state = mixers.flatMap((mixer, i) =>
    mixer.state.map((spec) => ({ ...spec, name: stateName(i, spec.name) })),
  );
  return { config, mixers, state };
}

function stateName(layer: number, name: string): string {
  return `layers.${layer}.${name}`;
}

function mixerOf(letter: BlockLetter, config: ModelConfig, numBlocks: number): Mixer {
  const { hiddenSize } = config;
  // Every block adds to the residual stream; their outputs start out small enough for the sum to stay in scale.
  const outputDeviation = INITIAL_DEVIATION / Math.sqrt(numBlocks);
  const attentionConfig = {
    hiddenSize,
    numHeads: config.numAttentionHeads,
    numKeyValueHeads: config.numKeyValueHeads,
    headDim: config.headDim,
    rope: config.ropeTheta === null ? undefined : { theta: config.ropeTheta },
    outputDeviation,
  };
  switch (letter) {
    case 'M':
      return mamba2({
        hiddenSize,
        numHeads: config.mambaNumHeads,
        headDim: config.mambaHeadDim,
        stateSize: config.ssmStateSize,
        numGroups: config.nGroups,
        convKernel: config.convKernel,
        convBias: config.useConvBias,
        projectionBias: false,
        timeStepLimit: [config.timeStepLimit[0], config.timeStepLimit[1] ?? Number.POSITIVE_INFINITY],
        normGroups: 1,
        normEpsilon: config.normEpsilon,
        outputDeviation,
      });
    case '*':
      return attention(attentionConfig);
    case 'W':
      return slidingWindowAttention({ ...attentionConfig, window: config.attentionWindow });
    case 'S':
      return selectiveAttention({
        ...attentionConfig,
        window: config.attentionWindow,
        selected: config.attentionSelected,
      });
    case '-':
      return mlp({ hiddenSize, intermediateSize: config.intermediateSize, outputDeviation });
  }
}

export interface ForwardResult {
  /** [batch, sequence, hidden], after the final norm. */
  readonly hidden: Tensor;
  /** By the names of `HybridModel.state`; empty without a state given. */
  readonly state: Readonly<Record<string, Tensor>>;
}

/** The layers applied to int64 ids [batch, sequence]. `state` holds what was kept from earlier tokens. */
export function forward(
  model: HybridModel,
  registry: ParameterRegistry,
  ids: Tensor,
  position: Tensor,
  state?: Readonly<Record<string, Tensor>>,
): ForwardResult {
  const { vocabSize, hiddenSize, normEpsilon } = model.config;
  const newState: Record<string, Tensor> = {};
  const hidden = registry.root().within('backbone', (backbone) => {
    let x = backbone.within('embeddings', (p) => embedding(p, ids, vocabSize, hiddenSize));
    backbone.within('layers', (layers) => {
      for (const [i, mixer] of model.mixers.entries()) {
        layers.within(String(i), (layer) => {
          const normalized = layer.within('norm', (p) => rmsNorm(p, x, { epsilon: normEpsilon }));
          const context: MixerContext = {
            position,
            state:
              state && Object.fromEntries(mixer.state.map(({ name }) => [name, state[stateName(i, name)]!])),
          };
          const result = layer.within('mixer', (p) => mixer.forward(p, normalized, context));
          x = add(x, result.output);
          if (state) for (const { name } of mixer.state) newState[stateName(i, name)] = result.state[name]!;
        });
      }
    });
    return backbone.within('norm_f', (p) => rmsNorm(p, x, { epsilon: normEpsilon }));
  });
  return { hidden, state: newState };
}

/** hidden [..., hidden] -> logits [..., vocabulary]. */
export function logitsOf(model: HybridModel, registry: ParameterRegistry, hidden: Tensor): Tensor {
  const { vocabSize, hiddenSize, tieWordEmbeddings } = model.config;
  const root = registry.root();
  if (!tieWordEmbeddings) {
    return root.within('lm_head', (p) =>
      linear(p, hidden, vocabSize, { initialize: normal(INITIAL_DEVIATION) }),
    );
  }
  const table = root.within('backbone', (p) =>
    p.within('embeddings', (e) => embeddingTable(e, vocabSize, hiddenSize)),
  );
  return project(hidden, table);
}

/** Graph inputs for a model's state, by name. */
export function stateInputs(model: HybridModel, batch: Dim = 'batch'): Record<string, Tensor> {
  return Object.fromEntries(
    model.state.map(({ name, dtype, shape }) => {
      const dims = shape.map((dim) => (dim === 'batch' ? batch : dim === 'past' ? 'room' : dim));
      return [name, input(name, dtype, dims)];
    }),
  );
}
