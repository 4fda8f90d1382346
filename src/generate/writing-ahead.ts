/**
 * Generation on devices that sample several tokens in one run. The state has then read tokens that the caller has not received yet; they are
 * returned one by one, or undone by reading the text again.
 */
import type { State, WritingRow } from '../engine/index.js';
import type { LanguageModel } from './language-model.js';
import { expectNumber } from './sampler.js';

/** The tokens that the device has generated for one sequence, but that were not returned yet. */
export class WritingAhead {
  private ids: number[] = [];
  private end: Float32Array | undefined;
  /** The state from which the text is read again, for a model with a source, since tokens do not determine the source. */
  private base: { readonly state: State; readonly length: number } | undefined;

  constructor(private readonly model: LanguageModel) {}

  /** Whether the state has read tokens that were not returned. */
  get isAhead(): boolean {
    return this.ids.length > 0;
  }

  /** Lets the device generate. Throws `DataError` for logits that are NaN. */
  async write(row: WritingRow): Promise<void> {
    const { ids, chosen, logits } = await this.model.write(row);
    this.ids = [...ids];
    this.end = logits;
    for (const logit of chosen) expectNumber(logit);
  }

  /** Returns the next token, if there is one. */
  next(): number | undefined {
    return this.ids.shift();
  }

  /** The logits after the last returned token, if the device ended the text with the next token, which is not kept. */
  takeEnd(): Float32Array | undefined {
    const { end } = this;
    this.end = undefined;
    return end;
  }

  /** Call it when the sequence is replaced by one of `length` tokens with this state. */
  moved(state: State, length: number): void {
    this.ids = [];
    this.end = undefined;
    this.base?.state.dispose();
    this.base = this.model.model.source && { state: state.fork(), length };
  }

  /** Drops the tokens that were not returned. Returns the state after `known`, which is read again. */
  async takeBack(known: readonly number[]): Promise<State> {
    const state = this.base?.state.fork() ?? this.model.newState();
    try {
      const { chunk } = this.model;
      for (let start = this.base?.length ?? 0; start < known.length; start += chunk) {
        await this.model.read({ ids: known.slice(start, start + chunk), position: start, state });
      }
    } catch (error) {
      state.dispose();
      throw error;
    }
    this.ids = [];
    this.end = undefined;
    return state;
  }

  dispose(): void {
    this.base?.state.dispose();
    this.base = undefined;
  }
}
