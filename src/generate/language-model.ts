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
  type StoredTensor,
} from '../engine/index.js';
import { DataError, TokenizerError } from '../errors.js';
import {
  countParameters,
  type Model,
  openModel,
  parametersOf,
  stateInputs,
  stepOf,
} from '../models/index.js';
import { carriesOf } from '../nn/index.js';
import { Tokenizer } from '../text/index.js';
import { Session } from './session.js';

export interface LoadOptions extends DeviceOptions {
  device?: Device;
  /** The folder of an adapter (LoRA) that was trained on the model. */
  adapter?: string;
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
  const { model, weights } = await openModel(folder, options.adapter);
  const tokenizer = await Tokenizer.load(folder);
  if (tokenizer.vocabSize > model.vocabSize) {
    throw new TokenizerError(
      `the tokenizer of ${folder} has ${tokenizer.vocabSize} tokens, but its model has ${model.vocabSize}: use the one that it was trained with`,
    );
  }
  const device = options.device ?? (await openDevice('cpu', options));
  return LanguageModel.compile(model, weights, tokenizer, device);
}

export class LanguageModel {
  private constructor(
    readonly model: Model,
    readonly tokenizer: Tokenizer,
    private readonly executable: Executable,
  ) {}

  /** Makes a model of layers and weights, such as new ones. */
  static async compile(
    model: Model,
    weights: ReadonlyMap<string, HostTensor | StoredTensor>,
    tokenizer: Tokenizer,
    device: Device,
  ): Promise<LanguageModel> {
    const { logits, state } = stepOf(model, stateInputs(model));
    const carried = carriesOf(model.state, state);
    return new LanguageModel(
      model,
      tokenizer,
      await device.compile({ outputs: { logits }, carried, weights }),
    );
  }

  /** The number of parameters. */
  get parameters(): number {
    return countParameters(parametersOf(this.model));
  }

  /**
   * Logits after each token of a batch of sequences, [batch, longest, vocabulary]; behind the end of a shorter one they
   * are zeros. Throws `DataError` for one without tokens.
   */
  async logits(ids: readonly (readonly number[])[]): Promise<Logits> {
    const batch = ids.length;
    const lengths = ids.map(({ length }) => length);
    if (batch === 0 || lengths.includes(0)) {
      throw new DataError('there are no tokens: give at least one sequence, and one token in each');
    }
    const sequence = lengths.reduce((a, b) => Math.max(a, b));
    const { vocabSize } = this.model;
    const dims = [batch, sequence, vocabSize] as const;
    const data = hostZeros('float32', dims).data as Float32Array;
    const memory = this.newMemory(batch);
    try {
      for (let start = 0; start < sequence; start += PREFILL_CHUNK) {
        const end = Math.min(sequence, start + PREFILL_CHUNK);
        // What stands behind a sequence's end does not reach back into it.
        const chunk = ids.map((row) => Array.from({ length: end - start }, (_, i) => row[start + i] ?? 0));
        const held = lengths.map((length) => Math.max(0, Math.min(end, length) - start));
        const places = held.flatMap((count, row) =>
          Array.from({ length: count }, (_, i) => row * (end - start) + i),
        );
        const part = await this.step(chunk, start, memory, places);
        let at = 0;
        for (const [row, count] of held.entries()) {
          const rows = part.subarray(at * vocabSize, (at + count) * vocabSize);
          data.set(rows, (row * sequence + start) * vocabSize);
          at += count;
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
    const { vocabSize } = this.model;
    const wrong = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
    if (wrong !== undefined) throw new DataError(`the token ${wrong} is not one of the model's ${vocabSize}`);
  }

  async dispose(): Promise<void> {
    await this.executable.dispose();
  }
}
