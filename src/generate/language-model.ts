/** A loaded language model: logits of whole sequences, and sessions that read and generate. */
import { expectList, expectOptions } from '../arguments.js';
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
import { CheckpointError, DataError } from '../errors.js';
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
import { type AnswerForm, marksIn, NO_FORM, type Tokenizer, Vocabulary } from '../text/index.js';
import { disposedModel } from './disposed.js';
import { Embedder } from './embedder.js';
import { TokenTree } from './grammar/index.js';
import { decoderPrograms } from './program.js';
import { type Row, Runner } from './runner.js';
import { Session, type SessionOptions } from './session.js';
import { type SourceRead, sourceFeeds, sourceReader } from './source-reader.js';
import { StateRoom } from './state-room.js';

/** Logits (log probabilities in nats, up to a constant for each position). */
export interface Logits {
  readonly data: Float32Array;
  /** [batch, sequence, vocabulary] */
  readonly dims: readonly [number, number, number];
}

/** A loaded language model (see `loadModel`): creates sessions, and traces what it computes. */
export class LanguageModel {
  readonly kind = 'text';
  private readonly trees = new Map<string, TokenTree>();
  private inspector: Inspector | undefined;
  private embedding: Promise<Embedder> | undefined;
  private sources: ReturnType<typeof sourceReader> | undefined;
  private isDisposed = false;

  private constructor(
    readonly model: Model,
    /** The model with a KV cache in float32, for gradients, since rounding has none. */
    private readonly inspected: Model,
    readonly tokenizer: Tokenizer,
    private readonly runner: Runner,
    /** Identifies the model, in snapshots. */
    readonly fingerprint: Fingerprint,
    private readonly device: Device,
    private readonly reopen: () => Promise<ReadonlyMap<string, Weight>>,
    private readonly ownsDevice: boolean,
    private readonly room: StateRoom,
    /** The folder of the adapter that the model was loaded with, whose chat template comes before that of the model. */
    readonly adapter: string | undefined,
  ) {}

  /**
   * Compiles a model from layers and weights. `reopen` returns the weights again for tracing and embedding; by default they are kept. With
   * `ownsDevice` the device is disposed of with the model. `cache` is `LoadOptions.cache`, and `adapter` the folder of an
   * adapter that is part of the layers.
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
      adapter,
    }: {
      reopen?: () => Promise<ReadonlyMap<string, Weight>>;
      ownsDevice?: boolean;
      cache?: CacheForm;
      adapter?: string;
    } = {},
  ): Promise<LanguageModel> {
    const kept = cache ? withModelCache(model, cache) : model;
    const fingerprint = await fingerprintOf(kept, weights);
    const decoder = await device.compileDecoder(decoderPrograms(kept, weights));
    const runner = new Runner(decoder, model.vocabSize);
    const room = new StateRoom(kept, device, weights);
    return new LanguageModel(
      kept,
      model,
      tokenizer,
      runner,
      fingerprint,
      device,
      reopen,
      ownsDevice,
      room,
      adapter,
    );
  }

  /** The prefill chunk, in tokens. */
  get chunk(): number {
    return this.runner.chunk;
  }

  /** What `ReadsTogether.piece` says of the device, where it reads texts of several lengths side by side. */
  get pieceOf(): ((batch: number) => number) | undefined {
    const { together } = this.runner;
    return together && ((batch) => together.piece(batch));
  }

  /** As `ReadsTogether.room`; 0 where texts of any lengths share a run. */
  roomOf(tokens: number): number {
    return this.runner.together?.room(tokens) ?? 0;
  }

  /** The limits of sampling on the device, if it can sample: see `Runner.ahead`. */
  get ahead(): Runner['ahead'] {
    return this.runner.ahead;
  }

  /** Generates several tokens of one sequence on the device: see `WritesAhead`. */
  async write(row: WritingRow): Promise<WrittenRow> {
    this.expectAlive();
    this.expectRoom(row.position + 1);
    return this.runner.write(row);
  }

  /** The number of parameters. */
  get parameters(): number {
    return countParameters(parametersOf(this.model));
  }

  /**
   * The logits after each token of a batch of sequences, [batch, longest, vocabulary]; zeros after the end of a shorter sequence. Throws
   * `DataError` for an empty sequence.
   */
  async logits(ids: readonly (readonly number[])[]): Promise<Logits> {
    expectList(ids, 'the sequences are', 'lists of tokens');
    for (const row of ids) this.check(row);
    const batch = ids.length;
    const lengths = ids.map(({ length }) => length);
    if (batch === 0 || lengths.includes(0)) {
      throw new DataError('there are no tokens: give at least one sequence, and one token in each');
    }
    const sequence = lengths.reduce((a, b) => Math.max(a, b));
    const { vocabSize } = this.model;
    const dims = [batch, sequence, vocabSize] as const;
    const data = hostZeros('float32', dims).data as Float32Array;
    const states = ids.map(() => this.newState());
    try {
      for (let start = 0; start < sequence; start += this.chunk) {
        const end = Math.min(sequence, start + this.chunk);
        // Sequences are padded at the end, where causal layers do not see it.
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
   * Encodes the source of a model that has one (`source` in its config): a text, an image or a sound. Throws `ConfigError` for other models,
   * `DataError` for a source that it cannot read.
   */
  async readSource(given: SourceGiven): Promise<SourceRead> {
    this.expectAlive();
    this.sources ??= this.sameWeights()
      .then((weights) => sourceReader(this.model, weights, this.tokenizer, this.device))
      .catch((error: unknown) => {
        this.sources = undefined;
        throw error;
      });
    return (await this.sources).read(given);
  }

  /** A new session, without tokens. */
  session(options: SessionOptions = {}): Session {
    return new Session(this, options);
  }

  /**
   * The initial state, or one with these values (by the names of `Model.state`) after `length` tokens; other values are initial ones. The state
   * takes ownership of the arrays.
   */
  newState(values?: ReadonlyMap<string, HostTensor>, length?: number): State {
    this.expectAlive();
    return this.runner.newState(values, length);
  }

  /**
   * Reads tokens of one sequence and updates its state. Concurrent calls of one token each are batched. Returns the logits [vocabulary] after
   * the last token.
   */
  async read(row: Row): Promise<Float32Array> {
    this.check(row.ids);
    this.expectRoom(row.position + row.ids.length);
    return this.runner.read(row);
  }

  /**
   * Reads tokens of several sequences in one run: as many of each, unless there is a `pieceOf`, by programs for `batch` of them. Returns the
   * logits [vocabulary] behind the last one of each, or undefined where they are not needed and were not copied.
   */
  async readTogether(
    rows: readonly Row[],
    batch: number = rows.length,
  ): Promise<(Float32Array | undefined)[]> {
    for (const { ids } of rows) this.check(ids);
    const { together } = this.runner;
    if (together) {
      const expecting = rows.map((row) => ({
        expected: row.position + row.ids.length,
        needsLogits: true,
        ...row,
      }));
      return together.run(expecting, batch);
    }
    const count = rows[0]!.ids.length;
    const logits = await this.runner.readBatch(
      rows,
      rows.map((_, i) => (i + 1) * count - 1),
    );
    return rows.map((_, i) => logits.slice(i * this.model.vocabSize, (i + 1) * this.model.vocabSize));
  }

  /** As `read`, with the logits [tokens, vocabulary] after each token. */
  async readEach(row: Row): Promise<Float32Array> {
    this.check(row.ids);
    return this.runner.readBatch(
      [row],
      row.ids.map((_, i) => i),
    );
  }

  /** Throws `DataError` if the state after this many tokens of one sequence exceeds the device's memory. */
  expectRoom(tokens: number): void {
    this.room.expect(tokens);
  }

  /**
   * The trie of the tokens for constrained decoding, with the marks of an answer's form among them. Throws `TokenizerError` for a tokenizer
   * whose tokens have no known bytes.
   */
  tokenTree(form: AnswerForm = NO_FORM): TokenTree {
    const { tokenizer } = this;
    const marks = marksIn(form).flatMap((mark) => tokenizer.tokenToId(mark) ?? []);
    const key = marks.join();
    let tree = this.trees.get(key);
    if (!tree) {
      tree = new TokenTree(tokenizer.byteVocabulary ?? Vocabulary.of(tokenizer), new Set(marks));
      this.trees.set(key, tree);
    }
    return tree;
  }

  /** Tokens that end a text. */
  get ends(): readonly number[] {
    const { endOfText } = this.tokenizer;
    return [...(endOfText === undefined ? [] : [endOfText]), ...this.model.eosTokenIds];
  }

  /** Throws `DataError` for what is no list, or not a token of this model, `DeviceError` once the model is disposed of. */
  check(ids: readonly number[]): void {
    this.expectAlive();
    expectList(ids, 'the tokens are', 'numbers');
    const { vocabSize } = this.model;
    const wrong = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
    if (wrong !== undefined) throw new DataError(`the token ${wrong} is not one of the model's ${vocabSize}`);
  }

  /**
   * Traces what the model computes while it reads `ids`: see `Trace`. It uses programs of its own (on the CPU for a model on WebGPU), which
   * load the weights a second time until the model is disposed of. Throws `DataError` for an empty list or unknown tokens; `InspectError` for
   * layers, heads or positions that do not exist, for a trace of more than `maxBytes`, and for attribution in a quantized model; and
   * `CheckpointError` if the model's files have changed since.
   */
  async trace(ids: readonly number[], options: TraceOptions = {}): Promise<Trace> {
    this.check(ids);
    expectOptions(options);
    this.inspector ??= new Inspector({
      model: this.inspected,
      // WebGPU refuses empty tensors, such as the matrices of layers that are not traced.
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

  /** Opens the weights again. Throws `CheckpointError` if the files have changed. */
  private async sameWeights(): Promise<ReadonlyMap<string, Weight>> {
    const weights = await this.reopen();
    if ((await fingerprintOf(this.model, weights)).hash === this.fingerprint.hash) return weights;
    throw new CheckpointError("the model's files have changed since it was loaded: load it again");
  }

  /**
   * The embedding [hidden] of a text (tokenized as `Session.read` does at the beginning) or of tokens: the mean of the hidden states after
   * the final norm, scaled to length 1, so that the dot product of two is their cosine similarity. Throws `DataError` for an empty list or
   * unknown tokens.
   */
  async embed(prompt: string | readonly number[]): Promise<Float32Array> {
    const own = typeof prompt === 'string' ? this.tokenizer.encode(prompt) : prompt;
    this.check(own);
    if (own.length === 0) throw new DataError('there are no tokens: give some text to embed');
    const ids = typeof prompt === 'string' ? this.tokenizer.fromStart([...own]) : own;
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

  /** The embedder, compiled on first use. It loads the weights a second time until the model is disposed of. */
  embedder(): Promise<Embedder> {
    this.embedding ??= this.sameWeights()
      .then((weights) => Embedder.compile(this.inspected, weights, this.device))
      .catch((error: unknown) => {
        this.embedding = undefined;
        throw error;
      });
    return this.embedding;
  }

  /** Logits [batch, vocabulary] after the last tokens of ids [batch][tokens], all of the same length. */
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

  /** The text of a token inside a text. It is decoded after another token (itself), since tokenizers drop the space before the first word. */
  private textOf(id: number): string {
    return this.tokenizer.decode([id, id]).slice(this.tokenizer.decode([id]).length);
  }

  /** Throws `DeviceError` once the model is disposed of. */
  expectAlive(): void {
    if (this.isDisposed) throw disposedModel();
  }

  async dispose(): Promise<void> {
    this.isDisposed = true;
    await this.inspector?.dispose();
    await (await this.embedding?.catch(() => undefined))?.dispose();
    await (await this.sources?.catch(() => undefined))?.dispose();
    await this.runner.dispose();
    if (this.ownsDevice) await this.device.dispose();
  }
}
