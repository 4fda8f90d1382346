/** A loaded language model: logits of whole sequences, and sessions that read and write. */
import {
  type Device,
  type DeviceOptions,
  type Executable,
  type HostTensor,
  hostZeros,
  int64,
  type Memory,
  openDevice,
} from '../engine/index.js';
import { DataError, TokenizerError } from '../errors.js';
import { gather, input, multiplyDims, reshape } from '../graph/index.js';
import {
  countParameters,
  forward,
  type HybridModel,
  hybridModel,
  logitsOf,
  type ModelConfig,
  parametersOf,
  readConfig,
  readWeights,
  stateInputs,
} from '../models/index.js';
import { carriesOf, ParameterRegistry } from '../nn/index.js';
import { Tokenizer } from '../text/index.js';
import { Session } from './session.js';

export interface LoadOptions extends DeviceOptions {
  device?: Device;
}

/** Logits in nats, up to a constant for each token. */
export interface Logits {
  readonly data: Float32Array;
  /** [batch, sequence, vocabulary] */
  readonly dims: readonly [number, number, number];
}

/** Tokens that are read at once; more would only take more memory. */
export const PREFILL_CHUNK = 256;

/**
 * Loads the model in a folder. Throws `CheckpointError`, `ConfigError` or `TokenizerError` for what is missing, damaged
 * or does not fit together.
 */
export async function loadModel(folder: string, options: LoadOptions = {}): Promise<LanguageModel> {
  const model = hybridModel(await readConfig(folder));
  const tokenizer = await Tokenizer.load(folder);
  if (tokenizer.vocabSize > model.config.vocabSize) {
    throw new TokenizerError(
      `the tokenizer of ${folder} has ${tokenizer.vocabSize} tokens, but its model has ${model.config.vocabSize}: use the one that it was trained with`,
    );
  }
  const device = options.device ?? (await openDevice('cpu', options));
  return LanguageModel.compile(model, await readWeights(folder, model), tokenizer, device);
}

export class LanguageModel {
  private constructor(
    readonly model: HybridModel,
    readonly tokenizer: Tokenizer,
    private readonly executable: Executable,
  ) {}

  /** Makes a model of layers and weights, such as new ones. */
  static async compile(
    model: HybridModel,
    weights: ReadonlyMap<string, HostTensor>,
    tokenizer: Tokenizer,
    device: Device,
  ): Promise<LanguageModel> {
    const registry = new ParameterRegistry();
    const ids = input('ids', 'int64', ['batch', 'sequence']);
    const state = stateInputs(model);
    const result = forward(model, registry, ids, input('position', 'int64', []), state);
    // Only the tokens asked for are projected onto the vocabulary, by their place in the flattened batch.
    const rows = reshape(result.hidden, [multiplyDims(['batch', 'sequence']), model.config.hiddenSize]);
    const logits = logitsOf(model, registry, gather(rows, input('places', 'int64', ['places'])));
    const carried = carriesOf(model.state, result.state);
    return new LanguageModel(
      model,
      tokenizer,
      await device.compile({ outputs: { logits }, carried, weights }),
    );
  }

  get config(): ModelConfig {
    return this.model.config;
  }

  /** The number of parameters. */
  get parameters(): number {
    return countParameters(parametersOf(this.model));
  }

  /** Logits after each token of a batch of sequences of the same length. Throws `DataError` for any other. */
  async logits(ids: readonly (readonly number[])[]): Promise<Logits> {
    const batch = ids.length;
    const sequence = ids[0]?.length ?? 0;
    if (sequence === 0) throw new DataError('there are no tokens: give at least one sequence of one token');
    if (ids.some(({ length }) => length !== sequence)) {
      throw new DataError('the sequences differ in length: give those of one length together');
    }
    const { vocabSize } = this.config;
    const dims = [batch, sequence, vocabSize] as const;
    const data = hostZeros('float32', dims).data as Float32Array;
    const memory = this.newMemory(batch);
    try {
      for (let start = 0; start < sequence; start += PREFILL_CHUNK) {
        const end = Math.min(sequence, start + PREFILL_CHUNK);
        const chunk = ids.map((row) => row.slice(start, end));
        const places = Array.from({ length: batch * (end - start) }, (_, i) => i);
        const part = await this.step(chunk, start, memory, places);
        const width = (end - start) * vocabSize;
        for (let row = 0; row < batch; row++) {
          data.set(part.subarray(row * width, (row + 1) * width), (row * sequence + start) * vocabSize);
        }
      }
    } finally {
      memory.dispose();
    }
    return { data, dims };
  }

  /** A new session: it has read nothing. */
  session(): Session {
    return new Session(this);
  }

  /** The state before the first token; or one of `length` tokens whose growing parts are zeros, to measure with. */
  newMemory(batch = 1, length = 0): Memory {
    const initial = new Map(
      this.model.state.map(({ name, dtype, shape, initial: value }) => {
        const dims = shape.map((dim) =>
          dim === 'batch' ? batch : dim === 'past' ? length : (dim as number),
        );
        const tensor = hostZeros(dtype, dims);
        if (value !== 0) (tensor.data as Float32Array).fill(value);
        return [name, tensor];
      }),
    );
    return this.executable.allocate(initial, length);
  }

  /**
   * Reads ids [batch][sequence], which come after `position` others, and moves the memory on. Returns the logits
   * [places, vocabulary] at the given places of the flattened batch.
   */
  async step(
    ids: readonly (readonly number[])[],
    position: number,
    memory: Memory,
    places: readonly number[],
  ): Promise<Float32Array> {
    for (const row of ids) this.check(row);
    const feeds: Record<string, HostTensor> = {
      ids: int64(ids.flat(), [ids.length, ids[0]!.length]),
      places: int64(places, [places.length]),
    };
    if (this.executable.inputs.has('position')) feeds.position = int64([position], []);
    const { logits } = await this.executable.run(feeds, memory);
    return logits!.data as Float32Array;
  }

  /** Throws `DataError` for what is not a token of this model. */
  check(ids: readonly number[]): void {
    const { vocabSize } = this.config;
    const wrong = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
    if (wrong !== undefined) throw new DataError(`the token ${wrong} is not one of the model's ${vocabSize}`);
  }

  async dispose(): Promise<void> {
    await this.executable.dispose();
  }
}
