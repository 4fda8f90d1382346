/** A loaded language model: logits of whole sequences, and sessions that read and write. */
import {
  type Device,
  type DeviceName,
  type DeviceOptions,
  float32,
  type HostTensor,
  hostZeros,
  int64,
  openDevice,
  type Weight,
} from '../engine/index.js';
import { type Executable, loopDevice, type Memory } from '../engine/loop/index.js';
import { CheckpointError, DataError, TokenizerError } from '../errors.js';
import { Inspector, type Trace, type TraceOptions } from '../inspect/index.js';
import {
  checkpointFolder,
  countParameters,
  type Fingerprint,
  fingerprintOf,
  type Model,
  modelFolder,
  openModel,
  parametersOf,
  type Quantization,
} from '../models/index.js';
import { loadTokenizerOrIds, type Tokenizer } from '../text/index.js';
import { type Choosing, checkChoice, choiceFeeds, choiceProgram, LIKELIEST } from './choice.js';
import { Embedder } from './embedder.js';
import { generationProgram, readingProgram } from './program.js';
import { Session, type SessionOptions } from './session.js';

export interface LoadOptions extends DeviceOptions {
  /** `cpu` by default. */
  device?: Device | DeviceName;
  /** The folder of an adapter (LoRA) that was trained on the model, or of the training run that made it. */
  adapter?: string;
  /** Quantizes the weights while they are read: as `int4` or `int8`, or as said. */
  quantize?: 'int4' | 'int8' | Quantization;
}

/** What the names stand for. */
export const QUANTIZATIONS: Readonly<Record<'int4' | 'int8', Quantization>> = {
  int4: { bits: 4, block: 64 },
  int8: { bits: 8, block: 64 },
};

/** Logits in nats, up to a constant for each token. */
export interface Logits {
  readonly data: Float32Array;
  /** [batch, sequence, vocabulary] */
  readonly dims: readonly [number, number, number];
}

/** How one sequence goes on. */
export interface Continuation {
  /** The last token, which is read first. */
  readonly last: number;
  /** How many tokens came before it. */
  readonly position: number;
  /** A uniform number in [0, 1) for each token to write. */
  readonly random: readonly number[];
  /** The first of them, where they are known. */
  readonly prescribed: readonly number[];
  readonly choosing: Choosing;
}

export interface Written {
  /** Those that were chosen, fewer than were asked for at the end of the sequence; the last one was not read. */
  readonly tokens: readonly number[];
  /** [vocabulary]: those that it was chosen from. */
  readonly logits: Float32Array;
}

/** Tokens that are read at once; more would only take more memory. */
export const PREFILL_CHUNK = 256;

/**
 * Loads a model: of a folder, of a training run by the run's folder, or the shipped one by its name, `sotu-hybrid`. Throws `CheckpointError`, `ConfigError` or `TokenizerError` for what is missing, damaged
 * or does not fit together.
 */
export async function loadModel(name: string, options: LoadOptions = {}): Promise<LanguageModel> {
  const folder = modelFolder(name);
  const { quantize, device: asked = 'cpu' } = options;
  const adapter = options.adapter === undefined ? undefined : checkpointFolder(options.adapter);
  const device = typeof asked === 'string' ? await openDevice(asked, options) : asked;
  const quantization = typeof quantize === 'string' ? QUANTIZATIONS[quantize] : quantize;
  const { model, weights } = await openModel(folder, adapter, quantization);
  const tokenizer = await loadTokenizerOrIds(folder, model.vocabSize);
  if (tokenizer.vocabSize > model.vocabSize) {
    throw new TokenizerError(
      `the tokenizer of ${folder} has ${tokenizer.vocabSize} tokens, but its model has ${model.vocabSize}: use the one that it was trained with`,
    );
  }
  // What is quantized while it is read is not held twice.
  const reopen = async () => (await openModel(folder, adapter, quantization)).weights;
  return LanguageModel.compile(model, weights, tokenizer, device, reopen);
}

export class LanguageModel {
  private inspector: Inspector | undefined;
  private embedding: Promise<Embedder> | undefined;
  /** Ends with the last run that was asked for. */
  private turn: Promise<unknown> = Promise.resolve();

  private constructor(
    readonly model: Model,
    readonly tokenizer: Tokenizer,
    private readonly executable: Executable,
    private readonly chooser: Executable,
    /** What tells it from other models. */
    readonly fingerprint: Fingerprint,
    private readonly device: Device,
    private readonly reopen: () => Promise<ReadonlyMap<string, Weight>>,
  ) {}

  /**
   * Makes a model of layers and weights, such as new ones. `reopen` gives the weights again when somebody looks inside; by
   * default they are held.
   */
  static async compile(
    model: Model,
    weights: ReadonlyMap<string, Weight>,
    tokenizer: Tokenizer,
    device: Device,
    reopen: () => Promise<ReadonlyMap<string, Weight>> = async () => weights,
  ): Promise<LanguageModel> {
    const program = device.name === 'cpu' ? generationProgram : readingProgram;
    const executable = await loopDevice(device).compile(program(model, weights));
    // Logits come back to JavaScript: to choose among them elsewhere would send them there again.
    const chooserDevice = device.name === 'cpu' ? device : await openDevice('cpu');
    const chooser = await loopDevice(chooserDevice).compile(choiceProgram(model.vocabSize));
    const fingerprint = fingerprintOf(model, weights);
    return new LanguageModel(model, tokenizer, executable, chooser, fingerprint, device, reopen);
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
        const part = await this.readAt(
          chunk,
          ids.map(() => start),
          places,
          memory,
        );
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
  session(options: SessionOptions = {}): Session {
    return new Session(this, options);
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

  /** A memory of these values by the names of `Model.state`, after `position` tokens. It takes them over. */
  memoryOf(values: ReadonlyMap<string, HostTensor>, position: number): Memory {
    const grows = this.model.state.some((spec) => spec.grows !== undefined);
    return this.executable.allocate(values, grows ? position : 0);
  }

  /**
   * Reads ids [batch][sequence], which come after `position` others, and moves the memory on. Returns the logits
   * [batch, vocabulary] after the last tokens.
   */
  async read(ids: readonly (readonly number[])[], position: number, memory: Memory): Promise<Float32Array> {
    return this.readAt(
      ids,
      ids.map(() => position),
      endsOf(ids),
      memory,
    );
  }

  /** The same for one sequence, with the logits [sequence, vocabulary] after each of its tokens. */
  async readEach(ids: readonly number[], position: number, memory: Memory): Promise<Float32Array> {
    return this.readAt(
      [ids],
      [position],
      ids.map((_, i) => i),
      memory,
    );
  }

  /**
   * Writes on, each sequence of a batch as is said for it; the memory moves on by as many steps as the longest takes. A shorter
   * one has then written more than was asked for.
   */
  async write(rows: readonly Continuation[], memory: Memory): Promise<Written[]> {
    if (this.device.name !== 'cpu') return this.writeByReading(rows, memory);
    const { vocabSize } = this.model;
    const batch = rows.length;
    const steps = stepsOf(rows);
    const ends = longest(rows.map(({ choosing }) => choosing.ends.length));
    const choices = rows.map(({ choosing }) => choosing);
    const at = <T>(count: number, pick: (row: Continuation, i: number) => T): T[] =>
      Array.from({ length: count }, (_, i) => rows.map((row) => pick(row, i))).flat();
    const last = rows.map((row) => row.last);
    this.check(last);
    const { tokens, logits } = await this.run(
      {
        reading: hostZeros('float32', [0]),
        ids: int64([], [batch, 0]),
        places: hostZeros('int64', [0]),
        last: int64(last, [batch, 1]),
        random: float32(
          at(steps, ({ random }, i) => random[i] ?? 0),
          [steps, batch],
        ),
        prescribed: int64(
          at(steps, ({ prescribed }, i) => prescribed[i] ?? -1),
          [steps, batch],
        ),
        ends: int64(
          choices.flatMap((choosing) => Array.from({ length: ends }, (_, i) => choosing.ends[i] ?? -1)),
          [batch, ends],
        ),
        ...this.whereItStands(
          rows.map(({ position }) => position),
          memory,
        ),
        ...choiceFeeds(choices, vocabSize),
      },
      memory,
    );
    const chosen = Array.from(tokens!.data, Number);
    const scores = logits!.data as Float32Array;
    return rows.map((_, row) => ({
      tokens: chosen.filter((_, i) => i % batch === row),
      logits: scores.slice(row * vocabSize, (row + 1) * vocabSize),
    }));
  }

  /** The same, a token in a run; where one fails, the memory is as before the first. */
  private async writeByReading(rows: readonly Continuation[], memory: Memory): Promise<Written[]> {
    const before = memory.hold();
    try {
      return await this.writeEach(rows, memory);
    } catch (error) {
      memory.restore(before);
      throw error;
    } finally {
      before.dispose();
    }
  }

  private async writeEach(rows: readonly Continuation[], memory: Memory): Promise<Written[]> {
    const { vocabSize } = this.model;
    const written = rows.map(() => [] as number[]);
    const hasEnded = ({ choosing }: Continuation, i: number): boolean =>
      written[i]!.some((token) => choosing.ends.includes(token));
    let logits: Float32Array = new Float32Array();
    for (let step = 0; step < stepsOf(rows) && (step === 0 || !rows.every(hasEnded)); step++) {
      const last = rows.map((row, i) => [written[i]!.at(-1) ?? row.last]);
      const positions = rows.map(({ position }) => position + step);
      logits = await this.readAt(last, positions, endsOf(last), memory);
      const numbers = rows.map(({ random }) => random[step] ?? 0);
      const choices = rows.map(({ choosing }, i) => {
        return { ...choosing, occurred: both(choosing.occurred, written[i]!) };
      });
      const chosen = await this.chooseEach(logits, numbers, choices);
      for (const [i, { prescribed }] of rows.entries()) written[i]!.push(prescribed[step] ?? chosen[i]!);
    }
    return rows.map((_, row) => ({
      tokens: written[row]!,
      logits: logits.slice(row * vocabSize, (row + 1) * vocabSize),
    }));
  }

  /** The token that follows logits [vocabulary]. Throws `DataError` for logits that are no numbers. */
  async choose(logits: Float32Array, random: number, choosing: Choosing): Promise<number> {
    const [token] = (await this.chooseEach(logits, [random], [choosing])) as [number];
    checkChoice(token, logits);
    return token;
  }

  /** Those that follow logits [batch, vocabulary], each chosen in its own way. */
  private async chooseEach(
    logits: Float32Array,
    random: readonly number[],
    choosing: readonly Choosing[],
  ): Promise<number[]> {
    const { vocabSize } = this.model;
    const { tokens } = await this.chooser.run({
      logits: float32(logits, [random.length, vocabSize]),
      random: float32(random, [random.length]),
      ...choiceFeeds(choosing, vocabSize),
    });
    return Array.from(tokens!.data, Number);
  }

  /** Reads ids; returns the logits behind the given places in the flattened ids. */
  private async readAt(
    ids: readonly (readonly number[])[],
    positions: readonly number[],
    places: readonly number[],
    memory: Memory,
  ): Promise<Float32Array> {
    for (const row of ids) this.check(row);
    const batch = ids.length;
    const asked = {
      ids: int64(ids.flat(), [batch, ids[0]!.length]),
      places: int64(places, [places.length]),
      ...this.whereItStands(positions, memory),
    };
    if (this.device.name !== 'cpu') return (await this.run(asked, memory)).logits!.data as Float32Array;
    const likeliest = ids.map(() => LIKELIEST);
    const { logits } = await this.run(
      {
        ...asked,
        reading: hostZeros('float32', [1]),
        last: hostZeros('int64', [batch, 1]),
        random: hostZeros('float32', [0, batch]),
        prescribed: hostZeros('int64', [0, batch]),
        ends: hostZeros('int64', [batch, 0]),
        ...choiceFeeds(likeliest, this.model.vocabSize),
      },
      memory,
      'reading',
    );
    return logits!.data as Float32Array;
  }

  /** One run at a time, in the order in which they were asked for: runs side by side would take each other's threads. */
  private run(
    feeds: Record<string, HostTensor>,
    memory: Memory,
    other?: 'reading',
  ): Promise<Record<string, HostTensor>> {
    const result = this.turn.then(() => this.executable.run(feeds, memory, other));
    this.turn = result.catch(() => undefined);
    return result;
  }

  /** What the program is told of where it reads and writes, as far as anything in it asks. */
  private whereItStands(positions: readonly number[], memory: Memory): Record<string, HostTensor> {
    const feeds = { position: int64(positions, [positions.length]), held: int64([memory.length], []) };
    return Object.fromEntries(Object.entries(feeds).filter(([name]) => this.executable.inputs.has(name)));
  }

  /** Throws `DataError` for what is not a token of this model. */
  check(ids: readonly number[]): void {
    const { vocabSize } = this.model;
    const wrong = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
    if (wrong !== undefined) throw new DataError(`the token ${wrong} is not one of the model's ${vocabSize}`);
  }

  /**
   * What happens inside while the model reads `ids`: see `Trace` for what it holds. It runs on the CPU, on programs of its own,
   * which take the weights' memory again until the model is disposed of. Throws `DataError` for no tokens or unknown ones, `InspectError`
   * for layers, heads or places that there are not, for a trace that would take more than `maxBytes`, and where the sources
   * of a token are asked for of a quantized model; `CheckpointError` where the model's files have changed since.
   */
  async trace(ids: readonly number[], options: TraceOptions = {}): Promise<Trace> {
    this.check(ids);
    this.inspector ??= new Inspector({
      model: this.model,
      // WebGPU computes nothing of no elements, such as the matrices of layers that are not looked into.
      device: async () => (this.device.name === 'cpu' ? this.device : openDevice('cpu')),
      weights: () => this.sameWeights(),
      read: (rows) => this.readWhole(rows),
      textOf: (id) => this.textOf(id),
    });
    return this.inspector.trace(ids, options);
  }

  /** The weights again. Throws `CheckpointError` where they are others by now. */
  private async sameWeights(): Promise<ReadonlyMap<string, Weight>> {
    const weights = await this.reopen();
    if (fingerprintOf(this.model, weights).hash === this.fingerprint.hash) return weights;
    throw new CheckpointError("the model's files have changed since it was loaded: load it again");
  }

  /**
   * A text, or tokens, as a vector [hidden]: the mean of the hidden states after the final norm, at unit length, so that the product of
   * two is the cosine of their angle. Throws `DataError` for no tokens or unknown ones.
   */
  async embed(prompt: string | readonly number[]): Promise<Float32Array> {
    const ids = typeof prompt === 'string' ? this.tokenizer.encode(prompt) : prompt;
    if (ids.length === 0) throw new DataError('there are no tokens: give some text to embed');
    this.check(ids);
    const text = (await this.embedder()).begin();
    try {
      for (let start = 0; start < ids.length; start += PREFILL_CHUNK) {
        await text.read(ids.slice(start, start + PREFILL_CHUNK));
      }
      return text.vector();
    } finally {
      text.dispose();
    }
  }

  /** What embeds texts, made when it is first asked for: it takes the weights' memory again until the model is disposed of. */
  embedder(): Promise<Embedder> {
    this.embedding ??= this.sameWeights()
      .then((weights) => Embedder.compile(this.model, weights, this.device))
      .catch((error: unknown) => {
        this.embedding = undefined;
        throw error;
      });
    return this.embedding;
  }

  /** Logits [batch, vocabulary] after the last tokens of ids [batch][tokens], all of one length. */
  private async readWhole(ids: readonly (readonly number[])[]): Promise<Float32Array> {
    const memory = this.newMemory(ids.length);
    try {
      for (let start = 0; ; start += PREFILL_CHUNK) {
        const chunk = ids.map((row) => row.slice(start, start + PREFILL_CHUNK));
        const logits = await this.read(chunk, start, memory);
        if (start + PREFILL_CHUNK >= ids[0]!.length) return logits;
      }
    } finally {
      memory.dispose();
    }
  }

  /** What a token stands for after others: where a tokenizer drops the space before a first word, it is not the first. */
  private textOf(id: number): string {
    const others = this.tokenizer.encode('.');
    return this.tokenizer.decode([...others, id]).slice(this.tokenizer.decode(others).length);
  }

  async dispose(): Promise<void> {
    await this.inspector?.dispose();
    await (await this.embedding?.catch(() => undefined))?.dispose();
    await this.executable.dispose();
    await this.chooser.dispose();
  }
}

function longest(lengths: readonly number[]): number {
  return lengths.reduce((a, b) => Math.max(a, b), 0);
}

/** How many tokens are written for the row that asks for most. */
function stepsOf(rows: readonly Continuation[]): number {
  return longest(rows.map(({ random }) => random.length));
}

function* both<T>(first: Iterable<T>, second: Iterable<T>): Generator<T> {
  yield* first;
  yield* second;
}

/** Where each row of ids [batch][sequence] ends. */
function endsOf(ids: readonly (readonly number[])[]): number[] {
  return ids.map((row, i) => (i + 1) * row.length - 1);
}
