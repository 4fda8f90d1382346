/**
 * Writing ahead: some devices choose the next tokens by themselves, several in one run, and read them at once. The state of the session has
 * then read tokens that nobody was given yet: they are handed out one by one, or taken back.
 */
import type { State, WritingRow } from '../engine/index.js';
import type { LanguageModel } from './language-model.js';
import { expectNumber } from './sampler.js';

/** What a device has written for one session, and nobody was given yet. */
export class WritingAhead {
  private ids: number[] = [];
  private end: Float32Array | undefined;
  /** Where reading begins anew, if not before the first token: no tokens stand for a source. */
  private base: { readonly state: State; readonly length: number } | undefined;

  constructor(private readonly model: LanguageModel) {}

  /** Whether the state has read tokens that nobody was given. */
  get isAhead(): boolean {
    return this.ids.length > 0;
  }

  /** Has the device write. Throws `DataError` for logits that are no numbers. */
  async write(row: WritingRow): Promise<void> {
    const { ids, chosen, logits } = await this.model.write(row);
    this.ids = [...ids];
    this.end = logits;
    for (const logit of chosen) expectNumber(logit);
  }

  /** Hands out the next token, if there is one. */
  next(): number | undefined {
    return this.ids.shift();
  }

  /** The logits behind the last token that was handed out, where the next one ended the text: it is none of the session's. */
  takeEnd(): Float32Array | undefined {
    const { end } = this;
    this.end = undefined;
    return end;
  }

  /** The session stands elsewhere: behind `length` tokens, in this state. */
  moved(state: State, length: number): void {
    this.ids = [];
    this.end = undefined;
    this.base?.state.dispose();
    this.base = this.model.model.source && { state: state.fork(), length };
  }

  /** Takes back what nobody was given. Returns the state behind `known`, the tokens that the session's state is to have read. */
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
