/**
 * A causal language model: an embedding, layers, a final norm, and the projection onto the vocabulary. Families differ in their layers and in
 * the data below. A layer is a mixer that returns the whole residual stream, including its norms and residual connections.
 */
import { ConfigError } from '../errors.js';
import {
  add,
  addDims,
  concat,
  type Dim,
  input,
  multiply,
  scalar,
  slice,
  type Tensor,
} from '../graph/index.js';
import {
  type Adapters,
  type CacheForm,
  constantly,
  embedding,
  embeddingTable,
  linear,
  type Mixer,
  type MixerContext,
  type NormOptions,
  normalizeBy,
  ParameterRegistry,
  type ParameterSpec,
  type Parameters,
  project,
  type Sight,
  SOURCE,
  type StateSpec,
  withCache,
} from '../nn/index.js';
import type { ForeignQuantization } from './foreign-weights.js';
import { ENCODER_LAYERS } from './layer-letters.js';
import { wrongKind } from './modalities/kind.js';
import type { Entering, Modality } from './modalities/modality.js';
import { foldPattern } from './pattern.js';
import type { Quantization } from './quantization.js';

/** One layer: its mixer returns the whole residual stream, including norms and residual connections. */
export interface Layer {
  /** Its pattern letters (pattern.ts). */
  readonly letters: string;
  readonly mixer: Mixer;
}

/** The source of a language model: the input before its text (source.ts). */
export interface Source {
  readonly modality: Entering;
  /** The layers of the encoder, at `encoder.layers.N`. */
  readonly layers: readonly Layer[];
  readonly positions: number;
  /** Whether layers of the text have cross-attention over it; otherwise source and text are one sequence. */
  readonly isAttended: boolean;
}

/** The definition of a model by its family: everything that its graph and checkpoints need. */
export interface ModelParts {
  /** `model_type` in config.json. */
  readonly modelType: string;
  /** The contents of its config.json, for writing it back. */
  readonly json: Readonly<Record<string, unknown>>;
  /** 0 for a model of other data than text. */
  readonly vocabSize: number;
  /** The modality, for a model of other data than text. */
  readonly modality?: Modality | undefined;
  /** The source, if it has one. */
  readonly source?: Source | undefined;
  /** Whether its layers are not causal: it reads whole inputs and has no state. */
  readonly looksAhead?: boolean;
  readonly hiddenSize: number;
  /** The context length of training, if the config has it. */
  readonly maxPositionEmbeddings?: number | undefined;
  /** Tokens that end a text. */
  readonly eosTokenIds: readonly number[];
  /** Paths of the parameters; layer N is at `layers.N`. */
  readonly names: {
    readonly embeddings: string;
    readonly layers: string;
    readonly finalNorm: string;
    readonly head: string;
  };
  readonly layers: readonly Layer[];
  /** The pattern of all layers; by default with repetitions folded. */
  readonly pattern?: string;
  readonly finalNorm: NormOptions;
  readonly tieWordEmbeddings: boolean;
  /** A factor of the embeddings. */
  readonly embeddingFactor?: number;
  /** A transformation of the embeddings, with parameters named from the root. */
  readonly finishEmbeddings?: (parameters: Parameters, embeddings: Tensor) => Tensor;
  /** Whether the projection onto the vocabulary has a bias. */
  readonly headBias?: boolean;
  /** A transformation of the logits. */
  readonly finishLogits?: (logits: Tensor) => Tensor;
  /** Differences between the names of parameters and those in checkpoints. */
  readonly stored?: StoredNames;
}

/** Differences between the names of parameters and those in checkpoints. */
export interface StoredNames {
  /** Alternative names of a parameter. */
  readonly aliases?: (name: string) => readonly string[];
  /** Further tensors that a checkpoint may have, which are ignored. */
  readonly ignored?: readonly RegExp[];
  /** What transformers calls a parameter or a module that it has loaded, where it renames it: adapters go by these names. */
  readonly loaded?: (name: string) => string;
}

/** A model without weights: its parts, and what follows from them. */
export interface Model extends ModelParts {
  readonly pattern: string;
  /** How its stored weights are quantized. */
  readonly quantization?: Quantization;
  /** How others have quantized its stored weights (foreign-weights.ts). */
  readonly foreign?: ForeignQuantization;
  /** The format of the KV cache, if it is not float32. */
  readonly cache?: CacheForm;
  /** The state of all layers; names are prefixed by `layers.N.`. */
  readonly state: readonly StateSpec[];
  /** The adapters of its linear layers (lora.ts). */
  readonly adapters?: Adapters;
}

/** A model of these parts, without weights. */
export function defineModel(parts: ModelParts): Model {
  const state = [
    ...(parts.modality?.state ?? []).map((spec) => ({ ...spec, name: modalityState(spec.name) })),
    ...parts.layers.flatMap(({ mixer }, i) =>
      mixer.state.map((spec) => ({ ...spec, name: stateName(i, spec.name) })),
    ),
  ];
  const pattern = parts.pattern ?? foldPattern(parts.layers.map(({ letters }) => letters));
  return { ...parts, pattern, state };
}

/** The same model, with a KV cache in fewer bits. */
export function withModelCache(model: Model, form: CacheForm): Model {
  const layers = model.layers.map((layer) => ({ ...layer, mixer: withCache(layer.mixer, form) }));
  return { ...defineModel({ ...model, layers }), cache: form };
}

function stateName(layer: number, name: string): string {
  return `layers.${layer}.${name}`;
}

function modalityState(name: string): string {
  return `input.${name}`;
}

/** The result of a model's layers. */
export interface ForwardResult {
  /** [batch, sequence, hidden], after the final norm. */
  readonly hidden: Tensor;
  /** The residual stream: the embeddings, then what each layer leaves. */
  readonly residuals: readonly Tensor[];
  /** By the names of `Model.state`; empty without a state given. */
  readonly state: Readonly<Record<string, Tensor>>;
}

/** The inputs of a model's layers beside the tokens. */
export interface ForwardContext extends Pick<MixerContext, 'lengths' | 'documents'> {
  /** The state after earlier tokens, by the names of `Model.state`. */
  readonly state?: Readonly<Record<string, Tensor>> | undefined;
  /** Shown what each layer does inside. */
  readonly observe?: ((layer: number, sight: Sight) => void) | undefined;
}

/** The layers applied to int64 ids [batch, sequence], before which there were `position` tokens (int64 [] or [batch]). */
export function forward(
  model: Model,
  registry: ParameterRegistry,
  ids: Tensor,
  position: Tensor,
  context: ForwardContext = {},
): ForwardResult {
  return throughLayers(model, registry, embeddingsOf(model, registry, ids), position, context);
}

/**
 * The outputs of a model of something other than text for `inputs` ([batch, ...shape] by the names of its modality), which follow
 * `position` positions; and its state, as `forward` returns it.
 */
export function perceive(
  model: Model,
  registry: ParameterRegistry,
  inputs: Readonly<Record<string, Tensor>>,
  position: Tensor,
  context: ForwardContext = {},
): ForwardResult & { readonly said: Readonly<Record<string, Tensor>> } {
  const { modality } = model;
  if (!modality) throw new ConfigError('this is a model of text: it reads token ids');
  const root = registry.root(model.adapters);
  const { state } = context;
  const own =
    state && Object.fromEntries(modality.state.map(({ name }) => [name, state[modalityState(name)]!]));
  const entered = modality.enter(root, inputs, own);
  const result = throughLayers(model, registry, entered.stream, position, context);
  const next = Object.entries(entered.state).map(([name, value]) => [modalityState(name), value]);
  return {
    ...result,
    state: { ...Object.fromEntries(next), ...result.state },
    said: modality.leave(root, result.hidden, entered.kept),
  };
}

/**
 * The layers applied to int64 ids [batch, sequence] behind a source, whose inputs are [batch, ...shape] by name. `hidden` and
 * `residuals` are those of the ids; the state is as if nothing was read before. `entered` is the source as its layers first see it: [batch,
 * positions, hidden].
 */
export function forwardAfter(
  model: Model,
  registry: ParameterRegistry,
  inputs: Readonly<Record<string, Tensor>>,
  ids: Tensor,
  context: ForwardContext = {},
): ForwardResult & { readonly entered: Tensor } {
  const { source } = model;
  if (!source) throw new ConfigError('this model reads no source');
  const embeddings = embeddingsOf(model, registry, ids);
  const position = scalar(0, 'int64');
  const { stream: entered, hidden: read, kept } = encode(model, registry, source, inputs);
  const carried = new Map(Object.entries(kept));
  if (source.isAttended) {
    carried.set(SOURCE, read);
    return { ...throughLayers(model, registry, embeddings, position, context, carried), entered };
  }
  const whole = concat([read, embeddings], 1);
  const result = throughLayers(model, registry, whole, position, context, carried);
  const { positions } = source;
  const ofIds = (x: Tensor): Tensor => slice(x, 1, positions, addDims(positions, ids.shape[1]!));
  return { ...result, hidden: ofIds(result.hidden), residuals: result.residuals.map(ofIds), entered };
}

/** Encodes a source: [batch, positions, hidden]. */
function encode(
  model: Model,
  registry: ParameterRegistry,
  { modality, layers }: Source,
  inputs: Readonly<Record<string, Tensor>>,
): { stream: Tensor; hidden: Tensor; kept: Readonly<Record<string, Tensor>> } {
  const root = registry.root(model.adapters);
  const { stream, kept } = modality.enter(root, inputs);
  const position = scalar(0, 'int64');
  const carried = new Map(Object.entries(kept));
  const mixed = layers.reduce(
    (x, { mixer }, i) =>
      root.at(`${ENCODER_LAYERS}.${i}`, (layer) => mixer.forward(layer, x, { position, carried })).output,
    stream,
  );
  const hidden = root.at('encoder.norm_f', (p) => normalizeBy(p, mixed, model.finalNorm));
  return { stream, hidden, kept };
}

function throughLayers(
  model: Model,
  registry: ParameterRegistry,
  embeddings: Tensor,
  position: Tensor,
  { state, observe, ...context }: ForwardContext,
  carried = new Map<string, Tensor>(),
): ForwardResult {
  const root = registry.root(model.adapters);
  const residuals = [embeddings];
  const next: Record<string, Tensor> = {};
  for (const [i, { mixer }] of model.layers.entries()) {
    const own =
      state && Object.fromEntries(mixer.state.map(({ name }) => [name, state[stateName(i, name)]!]));
    const result = root.at(`${model.names.layers}.${i}`, (layer) =>
      mixer.forward(layer, residuals.at(-1)!, {
        ...context,
        position,
        embeddings,
        carried,
        state: own,
        observe: observe && ((sight: Sight) => observe(i, sight)),
      }),
    );
    residuals.push(result.output);
    if (!state) continue;
    for (const [name, value] of Object.entries(result.state)) next[stateName(i, name)] = value;
  }
  return { hidden: hiddenOf(model, registry, residuals.at(-1)!), residuals, state: next };
}

/** int64 ids [batch, sequence] -> [batch, sequence, hidden], where the residual stream begins. */
function embeddingsOf(model: Model, registry: ParameterRegistry, ids: Tensor): Tensor {
  const { vocabSize, hiddenSize, names, modality, embeddingFactor = 1 } = model;
  if (modality) throw wrongKind(modality.kind, ['text']);
  const root = registry.root(model.adapters);
  const rows = root.at(names.embeddings, (p) => embedding(p, ids, vocabSize, hiddenSize));
  const scaled = embeddingFactor === 1 ? rows : multiply(rows, embeddingFactor);
  return model.finishEmbeddings?.(root, scaled) ?? scaled;
}

/** The final norm of a residual stream [..., hidden]. */
export function hiddenOf(model: Model, registry: ParameterRegistry, stream: Tensor): Tensor {
  return registry.root().at(model.names.finalNorm, (p) => normalizeBy(p, stream, model.finalNorm));
}

/** hidden [..., hidden] -> logits [..., vocabulary]. */
export function logitsOf(model: Model, registry: ParameterRegistry, hidden: Tensor): Tensor {
  const { vocabSize, hiddenSize, names, headBias = false } = model;
  const root = registry.root();
  const logits = model.tieWordEmbeddings
    ? withBias(
        project(
          hidden,
          root.at(names.embeddings, (p) => embeddingTable(p, vocabSize, hiddenSize)),
        ),
      )
    : root.at(names.head, (p) => linear(p, hidden, vocabSize, { bias: headBias }));
  return model.finishLogits?.(logits) ?? logits;

  function withBias(x: Tensor): Tensor {
    const bias = (p: Parameters): Tensor => p.get('bias', [vocabSize], constantly(0));
    return headBias ? add(x, root.at(names.head, bias)) : x;
  }
}

/** Graph inputs for what a model of something other than text reads, by name. */
export function modalityInputs({ inputs }: Entering, batch: Dim = 'batch'): Record<string, Tensor> {
  return Object.fromEntries(
    inputs.map(({ name, dtype, shape }) => [name, input(name, dtype, [batch, ...shape])]),
  );
}

/** Graph inputs for a model's state, by name. */
export function stateInputs(model: Model, batch: Dim = 'batch'): Record<string, Tensor> {
  return Object.fromEntries(
    model.state.map(({ name, dtype, shape }) => {
      const dims = shape.map((dim) => (dim === 'batch' ? batch : dim === 'past' ? 'room' : dim));
      return [name, input(name, dtype, dims)];
    }),
  );
}

/**
 * `forward` of a text from its beginning, behind a source where the model reads one: its inputs, [1, ...] by name, are then to be
 * fed, too.
 */
export function forwardWhole(
  model: Model,
  registry: ParameterRegistry,
  ids: Tensor,
  context: ForwardContext = {},
): ForwardResult & { readonly entered?: Tensor; readonly sourceInputs: readonly Tensor[] } {
  const { source } = model;
  if (!source) return { ...forward(model, registry, ids, scalar(0, 'int64'), context), sourceInputs: [] };
  const inputs = modalityInputs(source.modality, 1);
  return { ...forwardAfter(model, registry, inputs, ids, context), sourceInputs: Object.values(inputs) };
}

/** The outputs of a model for a whole example: its inputs are `ids` [batch, sequence], those of its modality, or those of its source and `ids`. */
export function wholeOf(model: Model, registry: ParameterRegistry): Tensor[] {
  const position = scalar(0, 'int64');
  if (model.modality) {
    return Object.values(perceive(model, registry, modalityInputs(model.modality), position).said);
  }
  const ids = input('ids', 'int64', ['batch', 'sequence']);
  if (model.source) {
    const inputs = modalityInputs(model.source.modality);
    return [logitsOf(model, registry, forwardAfter(model, registry, inputs, ids).hidden)];
  }
  return [logitsOf(model, registry, forward(model, registry, ids, position).hidden)];
}

/** The parameters of a model, in the order of its layers. */
export function parametersOf(model: Model): ParameterSpec[] {
  const registry = new ParameterRegistry();
  wholeOf(model, registry);
  return [...registry.specs.values()];
}

/** The number of elements of all parameters. */
export function countParameters(specs: readonly ParameterSpec[]): number {
  return specs.reduce((total, { shape }) => total + shape.reduce((a, b) => a * b, 1), 0);
}
