/** A loaded language model: logits of whole sequences, and sessions that read and write. */
import {
  type Device,
  type HostTensor,
  hostZeros,
  openDevice,
  type State,
  type Weight,
  type WritingRow,
  type WrittenRow,
} from '../engine/index.js';
import { CheckpointError, DataError, TokenizerError } from '../errors.js';
import { Inspector, type ReadSourceInputs, type Trace, type TraceOptions } from '../inspect/index.js';
import {
  countParameters,
  type Fingerprint,
  fingerprintOf,
  type Model,
  parametersOf,
  type SourceGiven,
  sourceConfigOf,
  sourcePlaces,
  withModelCache,
} from '../models/index.js';
import type { CacheForm } from '../nn/index.js';
import { loadTokenizerOrIds, type Tokenizer } from '../text/index.js';
import { Embedder } from './embedder.js';
import { type LoadOptions, loadFrom, type OpenedModel } from './loading.js';
import { decoderPrograms } from './program.js';
import { type Row, Runner } from './runner.js';
import { Session, type SessionOptions } from './session.js';
import { type SourceRead, sourceFeeds, sourceReader } from './source-reader.js';
import { StateRoom } from './state-room.js';

/** Logits in nats, up to a constant for each token. */
export interface Logits {
  readonly data: Float32Array;
  /** [batch, sequence, vocabulary] */
  readonly dims: readonly [number, number, number];
}

/** `loadModel` of a model of text, for the very folder of its files, and of an adapter's. */
export async function loadFolder(folder: string, options: LoadOptions = {}): Promise<LanguageModel> {
  return loadFrom(folder, options, languageModel);
}

/** A model of text, of its files. Throws `TokenizerError` where there is no tokenizer, or one with more tokens than the model has. */
export async function languageModel({
  folder,
  model,
  weights,
  device,
  ...options
}: OpenedModel): Promise<LanguageModel> {
  const tokenizer = await loadTokenizerOrIds(folder, model.vocabSize);
  if (tokenizer.vocabSize > model.vocabSize) {
    throw new TokenizerError(
      `the tokenizer of ${folder} has ${tokenizer.vocabSize} tokens, but its model has ${model.vocabSize}: use the one that it was trained with`,
    );
  }
  return LanguageModel.compile(model, weights, tokenizer, device, options);
}

/** A language model that is loaded (see `loadModel`): it makes sessions, and is looked into. */
export class LanguageModel {
  readonly kind = 'text';
  private inspector: Inspector | undefined;
  private embedding: Promise<Embedder> | undefined;
  private sources: ReturnType<typeof sourceReader> | undefined;

  private constructor(
    readonly model: Model,
    /** The model with a cache of 32 bits: rounding has no gradients. */
    private readonly inspected: Model,
    readonly tokenizer: Tokenizer,
    private readonly runner: Runner,
    /** What tells it from other models. */
    readonly fingerprint: Fingerprint,
    private readonly device: Device,
    private readonly reopen: () => Promise<ReadonlyMap<string, Weight>>,
    private readonly ownsDevice: boolean,
    private readonly room: StateRoom,
  ) {}

  /**
   * Makes a model of layers and weights, such as new ones. `reopen` gives the weights again when somebody looks inside; by
   * default they are held. With `ownsDevice` the device is disposed of with the model. `cache` is `LoadOptions.cache`.
   */
  static async compile(
    model: Model,
    weights: ReadonlyMap<string, Weight>,
    tokenizer: Tokenizer,
    device: Device,
    {
      reopen = async () => weights,
      ownsDevice = false,
      cache,
    }: {
      reopen?: () => Promise<ReadonlyMap<string, Weight>>;
      ownsDevice?: boolean;
      cache?: CacheForm;
    } = {},
  ): Promise<LanguageModel> {
    const kept = cache ? withModelCache(model, cache) : model;
    const fingerprint = await fingerprintOf(kept, weights);
    const decoder = await device.compileDecoder(decoderPrograms(kept, weights));
    const runner = new Runner(decoder, model.vocabSize);
    const room = new StateRoom(kept, device, weights);
    return new LanguageModel(kept, model, tokenizer, runner, fingerprint, device, reopen, ownsDevice, room);
  }

  /** Tokens of a long text that are read at once. */
  get chunk(): number {
    return this.runner.chunk;
  }

  /** What `ReadsTogether.piece` says of the device, where it reads texts of several lengths side by side. */
  get pieceOf(): ((batch: number) => number) | undefined {
    const { together } = this.runner;
    return together && ((batch) => together.piece(batch));
  }

  /** What the device writes by itself, if it does: see `Runner.ahead`. */
  get ahead(): Runner['ahead'] {
    return this.runner.ahead;
  }

  /** Writes several tokens of one sequence where the device chooses them: see `WritesAhead`. */
  async write(row: WritingRow): Promise<WrittenRow> {
    this.expectRoom(row.position + 1);
    return this.runner.write(row);
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
    for (const row of ids) this.check(row);
    const { vocabSize } = this.model;
    const dims = [batch, sequence, vocabSize] as const;
    const data = hostZeros('float32', dims).data as Float32Array;
    const states = ids.map(() => this.newState());
    try {
      for (let start = 0; start < sequence; start += this.chunk) {
        const end = Math.min(sequence, start + this.chunk);
        // Padding is after a sequence's end, so causal layers do not see it.
        const chunk = ids.map((row) => Array.from({ length: end - start }, (_, i) => row[start + i] ?? 0));
        const held = lengths.map((length) => Math.max(0, Math.min(end, length) - start));
        const places = held.flatMap((count, row) =>
          Array.from({ length: count }, (_, i) => row * (end - start) + i),
        );
        const rows = chunk.map((row, i) => ({ ids: row, position: start, state: states[i]! }));
        const part = await this.runner.readBatch(rows, places);
        let at = 0;
        for (const [row, count] of held.entries()) {
          const rows = part.subarray(at * vocabSize, (at + count) * vocabSize);
          data.set(rows, (row * sequence + start) * vocabSize);
          at += count;
        }
      }
    } finally {
      for (const state of states) state.dispose();
    }
    return { data, dims };
  }

  /**
   * Reads what stands before a text, where the model reads something (`source` in its config): a text, an image or a sound.
   * Throws `ConfigError` for another model, `DataError` for what it cannot read.
   */
  async readSource(given: SourceGiven): Promise<SourceRead> {
    this.sources ??= this.sameWeights()
      .then((weights) => sourceReader(this.model, weights, this.tokenizer, this.device))
      .catch((error: unknown) => {
        this.sources = undefined;
        throw error;
      });
    return (await this.sources).read(given);
  }

  /** A new session: it has read nothing. */
  session(options: SessionOptions = {}): Session {
    return new Session(this, options);
  }

  /**
   * The state before the first token, or one of these values by the names of `Model.state` after `length` tokens, which it takes over;
   * what is not given has its initial value.
   */
  newState(values?: ReadonlyMap<string, HostTensor>, length?: number): State {
    return this.runner.newState(values, length);
  }

  /**
   * Reads tokens of one sequence, and updates its state. Concurrent calls with one token each are batched. Returns the logits [vocabulary]
   * after the last one.
   */
  async read(row: Row): Promise<Float32Array> {
    this.check(row.ids);
    this.expectRoom(row.position + row.ids.length);
    return this.runner.read(row);
  }

  /**
   * Reads tokens of several sequences in one run: as many of each, unless there is a `pieceOf`, by programs for `batch` of them. Returns the
   * logits [vocabulary] behind the last one of each.
   */
  async readTogether(rows: readonly Row[], batch: number = rows.length): Promise<Float32Array[]> {
    for (const { ids } of rows) this.check(ids);
    const { together } = this.runner;
    if (together) {
      const expecting = rows.map((row) => ({ expected: row.position + row.ids.length, ...row }));
      return together.run(expecting, batch);
    }
    const count = rows[0]!.ids.length;
    const logits = await this.runner.readBatch(
      rows,
      rows.map((_, i) => (i + 1) * count - 1),
    );
    return rows.map((_, i) => logits.slice(i * this.model.vocabSize, (i + 1) * this.model.vocabSize));
  }

  /** The same with the logits [tokens, vocabulary] behind each of them. */
  async readEach(row: Row): Promise<Float32Array> {
    this.check(row.ids);
    return this.runner.readBatch(
      [row],
      row.ids.map((_, i) => i),
    );
  }

  /** Throws `DataError` where the state behind so many tokens of one sequence is more than the device can have at all. */
  expectRoom(tokens: number): void {
    this.room.expect(tokens);
  }

  /** Throws `DataError` for what is not a token of this model. */
  check(ids: readonly number[]): void {
    const { vocabSize } = this.model;
    const wrong = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
    if (wrong !== undefined) throw new DataError(`the token ${wrong} is not one of the model's ${vocabSize}`);
  }

  /**
   * What happens inside while the model reads `ids`: see `Trace` for what it holds. It runs on programs of its own (of a model on WebGPU on
   * the CPU), which take the weights' memory again until the model is disposed of. Throws `DataError` for no tokens or unknown ones,
   * `InspectError` for layers, heads or places that there are not, for a trace that would take more than `maxBytes`, and where the sources
   * of a token are asked for of a quantized model; `CheckpointError` where the model's files have changed since.
   */
  async trace(ids: readonly number[], options: TraceOptions = {}): Promise<Trace> {
    this.check(ids);
    this.inspector ??= new Inspector({
      model: this.inspected,
      // WebGPU refuses tensors without elements, such as the matrices of layers that are not traced.
      device: async () => (this.device.name === 'webgpu' ? openDevice('cpu') : this.device),
      weights: () => this.sameWeights(),
      read: (rows) => this.readWhole(rows),
      textOf: (id) => this.textOf(id),
      sourceOf: (given) => this.sourceInputs(given),
    });
    return this.inspector.trace(ids, options);
  }

  private sourceInputs(given: SourceGiven): ReadSourceInputs {
    const config = sourceConfigOf(this.model);
    const feeds = sourceFeeds(this.model, given, this.tokenizer);
    return { kind: config.kind, places: sourcePlaces(config, given, this.tokenizer), feeds };
  }

  /** Loads the weights again. Throws `CheckpointError` where the files have changed. */
  private async sameWeights(): Promise<ReadonlyMap<string, Weight>> {
    const weights = await this.reopen();
    if ((await fingerprintOf(this.model, weights)).hash === this.fingerprint.hash) return weights;
    throw new CheckpointError("the model's files have changed since it was loaded: load it again");
  }

  /**
   * A text, read from its beginning as `Session.read` reads one, or tokens, as a vector [hidden]: the mean of the hidden states after the
   * final norm, at unit length, so that the product of two is the cosine of their angle. Throws `DataError` for no tokens or unknown ones.
   */
  async embed(prompt: string | readonly number[]): Promise<Float32Array> {
    const own = typeof prompt === 'string' ? this.tokenizer.encode(prompt) : prompt;
    if (own.length === 0) throw new DataError('there are no tokens: give some text to embed');
    const ids = typeof prompt === 'string' ? this.tokenizer.fromStart([...own]) : own;
    this.check(ids);
    const text = (await this.embedder()).begin();
    try {
      for (let start = 0; start < ids.length; start += this.chunk) {
        await text.read(ids.slice(start, start + this.chunk));
      }
      return text.vector();
    } finally {
      text.dispose();
    }
  }

  /** What embeds texts, made when it is first asked for: it takes the weights' memory again until the model is disposed of. */
  embedder(): Promise<Embedder> {
    this.embedding ??= this.sameWeights()
      .then((weights) => Embedder.compile(this.inspected, weights, this.device))
      .catch((error: unknown) => {
        this.embedding = undefined;
        throw error;
      });
    return this.embedding;
  }

  /** Logits [batch, vocabulary] after the last tokens of ids [batch][tokens], all of one length. */
  private async readWhole(ids: readonly (readonly number[])[]): Promise<Float32Array> {
    const states = ids.map(() => this.newState());
    try {
      for (let start = 0; ; start += this.chunk) {
        const rows = ids.map((row, i) => ({
          ids: row.slice(start, start + this.chunk),
          position: start,
          state: states[i]!,
        }));
        const count = rows[0]!.ids.length;
        const logits = await this.runner.readBatch(
          rows,
          rows.map((_, i) => (i + 1) * count - 1),
        );
        if (start + this.chunk >= ids[0]!.length) return logits;
      }
    } finally {
      for (const state of states) state.dispose();
    }
  }

  /** The text of a token within a text: decoded after another one (itself), since tokenizers drop the space before the first word. */
  private textOf(id: number): string {
    return this.tokenizer.decode([id, id]).slice(this.tokenizer.decode([id]).length);
  }

  async dispose(): Promise<void> {
    await this.inspector?.dispose();
    await (await this.embedding?.catch(() => undefined))?.dispose();
    await (await this.sources?.catch(() => undefined))?.dispose();
    await this.runner.dispose();
    if (this.ownsDevice) await this.device.dispose();
  }
}
