/** Assigns the tensors of an adapter's file to the parts of the model. */
import type { SafetensorsFile } from '../checkpoint/index.js';
import { float32, type HostTensor } from '../engine/index.js';
import { CheckpointError } from '../errors.js';
import type { LowRank } from '../nn/index.js';
import { adapterNames, type LinearLayer, linearLayers } from './lora.js';
import { type AdapterConfig, endsWith, peftName } from './lora-config.js';
import { type AdapterTensor, adapterTensor } from './lora-tensors.js';
import { type Model, parametersOf } from './model.js';
import { ADAPTER_CONFIG_FILE } from './names.js';

/** A change W + scale B A of a matrix [rows, columns] without an adapter in the graph: the embedding or the head. */
export interface MatrixChange {
  readonly A: HostTensor;
  readonly B: HostTensor;
  readonly scale: number;
}

/** The tensors of an adapter, in the names and shapes of the model's parameters. */
export interface AdapterParts {
  /** Of each linear layer. */
  readonly adapters: ReadonlyMap<string, LowRank>;
  /** The matrices A and B of the linear layers' adapters, by parameter name. */
  readonly halves: ReadonlyMap<string, HostTensor>;
  /** The magnitudes of rows (DoRA), float32 [outputs], by linear layer. */
  readonly magnitudes: ReadonlyMap<string, HostTensor>;
  /** Parameters that were trained fully, by name. */
  readonly whole: ReadonlyMap<string, HostTensor>;
  /** Changes of the embedding and of the head. */
  readonly changes: { readonly embeddings?: MatrixChange; readonly head?: MatrixChange };
  /** Rows of the embedding that were trained: [indices, hidden]. */
  readonly tokenRows?: { readonly indices: readonly number[]; readonly values: HostTensor };
  /** Whether the embedding was trained separately from a tied head. */
  readonly leavesTiedHead: boolean;
}

/**
 * Reads all tensors of an adapter's file. Throws `CheckpointError` for tensors that do not belong to the model or are incomplete.
 */
export async function readParts(
  file: SafetensorsFile,
  path: string,
  model: Model,
  config: AdapterConfig,
): Promise<AdapterParts> {
  const layers = layersByName(model);
  const parameters = parametersByName(model);
  const [embeddingNames, headNames] = [model.names.embeddings, model.names.head].map((module) =>
    namesOf(model, module),
  ) as [string[], string[]];
  const halves = new Map<string, HostTensor>();
  const adapters = new Map<string, LowRank>();
  const magnitudes = new Map<string, HostTensor>();
  const whole = new Map<string, HostTensor>();
  const changes: { embeddings?: Partial<MatrixChange>; head?: Partial<MatrixChange> } = {};
  let tokenRows: AdapterParts['tokenRows'];
  const own = new Set<string>();

  const read = async (tensor: string, expected: readonly number[]): Promise<HostTensor> => {
    const { shape } = file.tensors.get(tensor)!;
    if (shape.join() !== expected.join()) {
      throw new CheckpointError(
        `${path}: the tensor ${tensor} is [${shape}], but the model and ${ADAPTER_CONFIG_FILE} make it [${expected}]: use the model that it was trained on`,
      );
    }
    return float32(await file.readFloat32(tensor), shape);
  };

  for (const tensor of file.tensors.keys()) {
    const part = adapterTensor(tensor);
    if (part.kind === 'unchanged') continue;
    if (part.kind !== 'whole') own.add(part.adapter ?? '');
    if (own.size > 1) {
      throw new CheckpointError(
        `${path} holds several adapters, ${[...own].map((name) => name || 'one without a name').join(' and ')}: save one in a file of its own`,
      );
    }
    if (part.kind === 'whole') {
      const spec = parameters.get(part.parameter);
      if (!spec) throw foreign(path, tensor, model, undefined);
      whole.set(spec.name, await read(tensor, spec.shape));
      continue;
    }
    const { kind, module } = part;
    const isEmbedding = embeddingNames.includes(module);
    const isHead = headNames.includes(module);
    const { vocabSize, hiddenSize } = model;
    const rank = config.rankOf(module);
    if (kind === 'token rows' && isEmbedding) {
      const indices = config.tokenRowsOf(module);
      if (!indices || indices.some((index) => index < 0 || index >= vocabSize)) {
        throw new CheckpointError(
          `${path} has the tensor ${tensor}, but the trainable_token_indices of its ${ADAPTER_CONFIG_FILE} do not say which tokens these are: save the adapter again`,
        );
      }
      tokenRows = { indices, values: await read(tensor, [indices.length, hiddenSize]) };
      continue;
    }
    // The embedding is [vocabulary, hidden]; its change is the transpose of B A with A [rank, vocabulary].
    const shapes: Partial<Record<AdapterTensor['kind'], readonly number[]>> = isHead
      ? { A: [rank, hiddenSize], B: [vocabSize, rank] }
      : isEmbedding
        ? { 'embedding A': [rank, vocabSize], 'embedding B': [hiddenSize, rank] }
        : {};
    const layer = layers.get(module);
    if (layer)
      Object.assign(shapes, {
        A: [rank, layer.inputs],
        B: [layer.outputs, rank],
        magnitudes: [layer.outputs],
      });
    const expected = shapes[kind];
    if (!expected) throw foreign(path, tensor, model, module);
    if (!config.has(module)) {
      throw new CheckpointError(
        `${path} has the tensor ${tensor}, but the target_modules of its ${ADAPTER_CONFIG_FILE} do not name that module: they are not of one adapter`,
      );
    }
    const value = await read(tensor, expected);
    const scale = config.scaleOf(module);
    if (isHead) changes.head = { ...changes.head, [kind]: value, scale };
    else if (kind === 'embedding A')
      changes.embeddings = { ...changes.embeddings, B: transposed(value), scale };
    else if (kind === 'embedding B')
      changes.embeddings = { ...changes.embeddings, A: transposed(value), scale };
    else if (kind === 'magnitudes') magnitudes.set(layer!.module, value);
    else {
      const { a, b } = adapterNames(layer!.module);
      halves.set(kind === 'A' ? a : b, value);
      adapters.set(layer!.module, { rank, scale });
    }
  }

  for (const module of new Set([...adapters.keys(), ...magnitudes.keys()])) {
    const { a, b } = adapterNames(module);
    const lacks = (what: string): CheckpointError =>
      new CheckpointError(`${path} ${what} of ${module}: save the adapter again`);
    if (!halves.has(a) || !halves.has(b)) throw lacks('has only one of the two halves');
    if (config.usesDora !== magnitudes.has(module)) {
      throw lacks(
        config.usesDora ? 'lacks the lora_magnitude_vector' : 'has a lora_magnitude_vector, but no use_dora,',
      );
    }
  }
  for (const [name, change] of Object.entries(changes)) {
    if (!change.A || !change.B) {
      throw new CheckpointError(
        `${path} has only one of the two halves of the ${name}: save the adapter again`,
      );
    }
  }
  for (const name of config.wholeModules) {
    const lost = [...parameters].find(([parameter, spec]) => {
      return endsWith(parameter.replace(/\.[^.]*$/, ''), name) && !whole.has(spec.name);
    });
    if (lost) {
      throw new CheckpointError(
        `${path} lacks ${lost[0]}, which the modules_to_save of its ${ADAPTER_CONFIG_FILE} name: save the adapter again`,
      );
    }
  }
  if (adapters.size === 0 && whole.size === 0 && Object.keys(changes).length === 0 && !tokenRows) {
    throw new CheckpointError(`${path} is empty: save the adapter again`);
  }
  const leavesTiedHead =
    changes.embeddings !== undefined ||
    config.wholeModules.some((name) => endsWith(model.names.embeddings, name));
  return {
    adapters,
    halves,
    magnitudes,
    whole,
    changes: changes as AdapterParts['changes'],
    ...(tokenRows && { tokenRows }),
    leavesTiedHead: leavesTiedHead && !config.keepsTies,
  };
}

function transposed({ dims, data }: HostTensor): HostTensor {
  const [rows, columns] = dims as [number, number];
  const values = data as Float32Array;
  return float32(
    Float32Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!),
    [columns, rows],
  );
}

/** The names that PEFT may use for a module or parameter: those of transformers, and those of checkpoints. */
function namesOf(model: Model, name: string): string[] {
  return [...new Set([name, peftName(model, name)])];
}

/** Linear layers by their names in PEFT. */
function layersByName(model: Model): Map<string, LinearLayer> {
  const layers = new Map<string, LinearLayer>();
  for (const layer of linearLayers(model)) {
    const weight = `${layer.module}.weight`;
    const stored = (model.stored?.aliases?.(weight) ?? []).filter((name) => name.endsWith('.weight'));
    for (const name of stored) layers.set(name.slice(0, -'.weight'.length), layer);
    for (const name of namesOf(model, layer.module)) layers.set(name, layer);
  }
  return layers;
}

/** Parameters that an adapter may replace, by their names in PEFT, including a tied head. */
function parametersByName(model: Model) {
  const parameters = new Map<string, { readonly name: string; readonly shape: readonly number[] }>();
  const { names, vocabSize, hiddenSize } = model;
  const head = { name: `${names.head}.weight`, shape: [vocabSize, hiddenSize] };
  for (const spec of [...parametersOf({ ...model, adapters: () => undefined }), head]) {
    for (const name of model.stored?.aliases?.(spec.name) ?? []) parameters.set(name, spec);
    for (const name of namesOf(model, spec.name)) parameters.set(name, spec);
  }
  return parameters;
}

function foreign(path: string, tensor: string, model: Model, module: string | undefined): CheckpointError {
  const what =
    module === undefined
      ? `which is neither half of a low-rank adapter nor a parameter of this ${model.modelType} model. Merge it into its model where it was made`
      : `but ${module} is no linear layer of this ${model.modelType} model: use the model that it was trained on, or merge it where it was made`;
  return new CheckpointError(`${path} has the tensor ${tensor}, ${what}`);
}
