/**
 * The tokens of a text, and the state that has read them: all but those that are pending. Where the device samples by itself, the
 * state has also read tokens that are not part of the text yet (writing-ahead.ts).
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
  /** The last of them, which are not in the state yet: the one that was written last. */
  private pending: readonly number[] = [];
  /** Those after the last token in the state, where none is pending. */
  private logits: Float32Array | undefined;
  /** Whether the state is one of another model that is the same. */
  private foreign = false;
  /** Tokens that the state has read, and that are not part of the sequence yet. */
  private readonly ahead: WritingAhead;

  constructor(private readonly model: LanguageModel) {
    this.state = model.newState();
    this.ahead = new WritingAhead(model);
  }

  /** All tokens read and written. */
  get tokens(): readonly number[] {
    return this.all;
  }

  /** Bytes that the state takes. */
  get bytes(): number {
    return this.state.bytes;
  }

  /** Reads tokens, at most a chunk, behind what the state has read; none may be pending. */
  async read(ids: readonly number[]): Promise<void> {
    this.logits = await this.run(ids, this.all.length);
    this.all.push(...ids);
  }

  /** The same for any sequence, whose pending token is read first. Returns the logits [tokens, vocabulary] after each of them. */
  async readEach(ids: readonly number[]): Promise<Float32Array> {
    await this.settle();
    await this.adopt();
    const logits = await this.model.readEach({ ids, position: this.all.length, state: this.state });
    this.logits = logits.slice(-this.model.model.vocabSize);
    this.all.push(...ids);
    return logits;
  }

  /** Reads what stands before the text. Throws as `LanguageModel.readSource`. */
  async readSource(given: SourceGiven): Promise<void> {
    const { tokens, state, logits } = await this.model.readSource(given);
    this.state.dispose();
    this.state = this.model.newState(state, tokens.length);
    this.ahead.moved(this.state, tokens.length);
    this.all = [...tokens];
    this.logits = logits;
  }

  /** Appends a token that was written: the state reads it when the next one is wanted. */
  append(id: number): void {
    this.all.push(id);
    this.pending = [id];
  }

  /** Has the state read what is pending. Returns the logits [vocabulary] behind the last token. */
  async settle(): Promise<Float32Array> {
    // One by one, as they were written, so that the bits do not depend on where a text was interrupted.
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

  /** Has the device sample at most `left` tokens, where it can, and where the choice depends on nothing but the logits. */
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

  /** The next token that the device wrote by itself, if there is one; it is to be appended. */
  nextAhead(): number | undefined {
    return this.ahead.next();
  }

  /** To be called at the end of a text: where the device itself ended it, the state has read the last token. */
  endAhead(): void {
    const end = this.ahead.takeEnd();
    if (end) [this.logits, this.pending] = [end, []];
  }

  /** Makes the state one of this model's that has read this sequence's tokens alone, if it is not. */
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

  /** The sequence as it is now. */
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

  /** Becomes what the snapshot is of. Throws `SnapshotError` for one of another model. */
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
