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
  const reading = new Reading(file, path, model, config);
  for (const tensor of file.tensors.keys()) await reading.add(tensor);
  return reading.parts();
}

/** The parts of an adapter that have been read so far. */
class Reading {
  private readonly adapters = new Map<string, LowRank>();
  private readonly halves = new Map<string, HostTensor>();
  private readonly magnitudes = new Map<string, HostTensor>();
  private readonly whole = new Map<string, HostTensor>();
  private readonly changes: { embeddings?: Partial<MatrixChange>; head?: Partial<MatrixChange> } = {};
  private tokenRows: AdapterParts['tokenRows'];
  /** The names of the file's adapters; '' for one without a name. */
  private readonly names = new Set<string>();

  private readonly layers: ReadonlyMap<string, LinearLayer>;
  private readonly parameters: ReturnType<typeof parametersByName>;
  private readonly embeddingNames: readonly string[];
  private readonly headNames: readonly string[];

  constructor(
    private readonly file: SafetensorsFile,
    private readonly path: string,
    private readonly model: Model,
    private readonly config: AdapterConfig,
  ) {
    this.layers = layersByName(model);
    this.parameters = parametersByName(model);
    this.embeddingNames = namesOf(model, model.names.embeddings);
    this.headNames = namesOf(model, model.names.head);
  }

  /** Reads a tensor, by its name in the file. */
  async add(tensor: string): Promise<void> {
    const part = adapterTensor(tensor);
    if (part.kind === 'unchanged') return;
    if (part.kind === 'whole') {
      const spec = this.parameters.get(part.parameter);
      if (!spec) throw foreign(this.path, tensor, this.model, undefined);
      this.whole.set(spec.name, await this.read(tensor, spec.shape));
      return;
    }
    this.names.add(part.adapter ?? '');
    if (this.names.size > 1) {
      throw new CheckpointError(
        `${this.path} holds several adapters, ${[...this.names].map((name) => name || 'one without a name').join(' and ')}: save one in a file of its own`,
      );
    }
    const { kind, module } = part;
    if (kind === 'token rows' && this.embeddingNames.includes(module)) {
      await this.addTokenRows(tensor, module);
    } else await this.addToModule(tensor, kind, module);
  }

  private async addTokenRows(tensor: string, module: string): Promise<void> {
    const { vocabSize, hiddenSize } = this.model;
    const indices = this.config.tokenRowsOf(module);
    if (!indices || indices.some((index) => index < 0 || index >= vocabSize)) {
      throw new CheckpointError(
        `${this.path} has the tensor ${tensor}, but the trainable_token_indices of its ${ADAPTER_CONFIG_FILE} do not say which tokens these are: save the adapter again`,
      );
    }
    this.tokenRows = { indices, values: await this.read(tensor, [indices.length, hiddenSize]) };
  }

  private async addToModule(tensor: string, kind: AdapterTensor['kind'], module: string): Promise<void> {
    const expected = this.shapesOf(module)[kind];
    if (!expected) throw foreign(this.path, tensor, this.model, module);
    if (!this.config.has(module)) {
      throw new CheckpointError(
        `${this.path} has the tensor ${tensor}, but the target_modules of its ${ADAPTER_CONFIG_FILE} do not name that module: they are not of one adapter`,
      );
    }
    const value = await this.read(tensor, expected);
    const [scale, rank] = [this.config.scaleOf(module), this.config.rankOf(module)];
    const { changes } = this;
    if (this.headNames.includes(module)) {
      changes.head = { ...changes.head, [kind]: value, scale };
      return;
    }
    if (kind === 'embedding A' || kind === 'embedding B') {
      // The embedding is [vocabulary, hidden]; its change is the transpose of B A with A [rank, vocabulary].
      const half = kind === 'embedding A' ? 'B' : 'A';
      changes.embeddings = { ...changes.embeddings, [half]: transposed(value), scale };
      return;
    }
    const layer = this.layers.get(module)!.module;
    if (kind === 'magnitudes') {
      this.magnitudes.set(layer, value);
      return;
    }
    const { a, b } = adapterNames(layer);
    this.halves.set(kind === 'A' ? a : b, value);
    this.adapters.set(layer, { rank, scale });
  }

  /** The shapes of the tensors that a module may have. */
  private shapesOf(module: string): Partial<Record<AdapterTensor['kind'], readonly number[]>> {
    const { vocabSize, hiddenSize } = this.model;
    const rank = this.config.rankOf(module);
    const layer = this.layers.get(module);
    return {
      ...(this.headNames.includes(module) && { A: [rank, hiddenSize], B: [vocabSize, rank] }),
      ...(this.embeddingNames.includes(module) && {
        'embedding A': [rank, vocabSize],
        'embedding B': [hiddenSize, rank],
      }),
      ...(layer && { A: [rank, layer.inputs], B: [layer.outputs, rank], magnitudes: [layer.outputs] }),
    };
  }

  private async read(tensor: string, expected: readonly number[]): Promise<HostTensor> {
    const { shape } = this.file.tensors.get(tensor)!;
    if (shape.join() !== expected.join()) {
      throw new CheckpointError(
        `${this.path}: the tensor ${tensor} is [${shape}], but the model and ${ADAPTER_CONFIG_FILE} make it [${expected}]: use the model that it was trained on`,
      );
    }
    return float32(await this.file.readFloat32(tensor), shape);
  }

  /** All parts. Throws `CheckpointError` if one is missing. */
  parts(): AdapterParts {
    this.expectComplete();
    const { adapters, halves, magnitudes, whole, changes, tokenRows, config, model } = this;
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

  private expectComplete(): void {
    const { adapters, halves, magnitudes, whole, changes, tokenRows, config, path } = this;
    for (const module of new Set([...adapters.keys(), ...magnitudes.keys()])) {
      const { a, b } = adapterNames(module);
      const lacks = (what: string): CheckpointError =>
        new CheckpointError(`${path} ${what} of ${module}: save the adapter again`);
      if (!halves.has(a) || !halves.has(b)) throw lacks('has only one of the two halves');
      if (config.usesDora !== magnitudes.has(module)) {
        throw lacks(
          config.usesDora
            ? 'lacks the lora_magnitude_vector'
            : 'has a lora_magnitude_vector, but no use_dora,',
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
      const lost = [...this.parameters].find(([parameter, spec]) => {
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
  }
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
