/**
 * The tokens of a text, and the state that has read them, except for pending ones. If the device samples, the state may also have read tokens
 * that are not part of the text yet (writing-ahead.ts).
 */
import type { State } from '../engine/index.js';
import { SnapshotError } from '../errors.js';
import type { SourceGiven } from '../models/index.js';
import type { LanguageModel } from './language-model.js';
import type { Sampler } from './sampler.js';
import { Snapshot } from './snapshot.js';
import { WritingAhead } from './writing-ahead.js';

/** One sequence of a model. Its calls must not overlap. */
export class Sequence {
  private state: State;
  private all: number[] = [];
  /** The last tokens, which the state has not read yet: normally the one that was generated last. */
  private pending: readonly number[] = [];
  /** The logits after the last token, if none is pending. */
  private logits: Float32Array | undefined;
  /** Whether the state comes from another `LanguageModel` of the same weights. */
  private foreign = false;
  /** Tokens that the state has read but that are not part of the sequence yet. */
  private readonly ahead: WritingAhead;

  constructor(private readonly model: LanguageModel) {
    this.state = model.newState();
    this.ahead = new WritingAhead(model);
  }

  /** All tokens, read and generated. */
  get tokens(): readonly number[] {
    return this.all;
  }

  /** The bytes of the state. */
  get bytes(): number {
    return this.state.bytes;
  }

  /** Reads further tokens, at most a chunk. No token may be pending. */
  async read(ids: readonly number[]): Promise<void> {
    this.logits = await this.run(ids, this.all.length);
    this.all.push(...ids);
  }

  /** The same, after reading the pending token. Returns the logits [tokens, vocabulary] after each of the tokens. */
  async readEach(ids: readonly number[]): Promise<Float32Array> {
    await this.settle();
    await this.adopt();
    const logits = await this.model.readEach({ ids, position: this.all.length, state: this.state });
    this.logits = logits.slice(-this.model.model.vocabSize);
    this.all.push(...ids);
    return logits;
  }

  /** Encodes the source before the text. Throws as `LanguageModel.readSource` does. */
  async readSource(given: SourceGiven): Promise<void> {
    const { tokens, state, logits } = await this.model.readSource(given);
    this.state.dispose();
    this.state = this.model.newState(state, tokens.length);
    this.ahead.moved(this.state, tokens.length);
    this.all = [...tokens];
    this.logits = logits;
  }

  /** Appends a generated token. The state reads it when the next logits are needed. */
  append(id: number): void {
    this.all.push(id);
    this.pending = [id];
  }

  /** Reads the pending tokens. Returns the logits [vocabulary] after the last token. */
  async settle(): Promise<Float32Array> {
    // One by one, as during generation, so that the bits do not depend on where a text was interrupted.
    while (this.pending.length > 0) {
      const [id, ...rest] = this.pending as [number, ...number[]];
      this.logits = await this.run([id], this.all.length - this.pending.length);
      this.pending = rest;
    }
    return this.logits!;
  }

  private async run(ids: readonly number[], position: number): Promise<Float32Array> {
    await this.adopt();
    return this.model.read({ ids, position, state: this.state });
  }

  /** Lets the device sample at most `left` tokens, if it can, and if the choice depends only on the logits. */
  async writeAhead(sampler: Sampler, left: number, stops: readonly number[]): Promise<void> {
    if (this.ahead.isAhead) return;
    const { ahead } = this.model;
    const [id] = this.pending;
    if (!ahead || id === undefined || this.pending.length > 1 || left === 1 || stops.length > ahead.stops)
      return;
    const draws = sampler.ahead(Math.min(ahead.steps, left));
    if (!draws) return;
    await this.adopt();
    await this.ahead.write({ id, position: this.all.length - 1, state: this.state, stops, ...draws });
  }

  /** The next token that the device has sampled, if there is one. The caller appends it. */
  nextAhead(): number | undefined {
    return this.ahead.next();
  }

  /** Call it at the end of a text: if the device itself ended it, the state has read the last token. */
  endAhead(): void {
    const end = this.ahead.takeEnd();
    if (end) [this.logits, this.pending] = [end, []];
  }

  /** Ensures that the state belongs to this model and has read no tokens beyond the sequence. */
  async adopt(): Promise<void> {
    if (this.ahead.isAhead) {
      const state = await this.ahead.takeBack(this.all.slice(0, this.all.length - this.pending.length));
      this.state.dispose();
      this.state = state;
    }
    if (!this.foreign) return;
    const { state } = this;
    this.state = this.model.newState(await state.read(), state.length);
    this.foreign = false;
    this.ahead.moved(this.state, this.all.length - this.pending.length);
    state.dispose();
  }

  /** A snapshot of the sequence. */
  async snapshot(): Promise<Snapshot> {
    await this.adopt();
    return new Snapshot({
      model: this.model,
      state: this.state.fork(),
      tokens: Int32Array.from(this.all),
      pending: this.pending.length,
      logits: this.pending.length === 0 ? this.logits : undefined,
    });
  }

  /** Restores a snapshot. Throws `SnapshotError` for one of another model. */
  restore(snapshot: Snapshot): void {
    if (!(snapshot instanceof Snapshot))
      throw new SnapshotError('this is no snapshot: give what snapshot() or loadSnapshot() returned');
    snapshot.checkModel(this.model);
    const state = snapshot.state.fork();
    this.state.dispose();
    this.state = state;
    this.foreign = snapshot.model !== this.model;
    this.all = snapshot.tokens;
    this.pending = this.all.slice(this.all.length - snapshot.pending);
    this.logits = snapshot.logits;
    this.ahead.moved(state, this.all.length - snapshot.pending);
  }

  /** Frees the state. */
  dispose(): void {
    this.ahead.dispose();
    this.state.dispose();
  }
}
