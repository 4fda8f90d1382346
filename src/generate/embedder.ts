/** Text embeddings: the mean of a language model's last hidden states over the tokens, scaled to length 1. */
import { type Device, type Executable, int64, type State, type Weight } from '../engine/index.js';
import { input, sum } from '../graph/index.js';
import { forward, type Model } from '../models/index.js';
import { ParameterRegistry } from '../nn/index.js';
import { modelState } from './model-state.js';

/** Computes one vector for a text: the mean of its last hidden states, scaled to length 1. */
export class Embedder {
  private constructor(
    private readonly model: Model,
    private readonly executable: Executable,
  ) {}

  /** Takes memory for the weights a second time until it is disposed of. */
  static async compile(
    model: Model,
    weights: ReadonlyMap<string, Weight>,
    device: Device,
  ): Promise<Embedder> {
    const ids = input('ids', 'int64', ['batch', 'sequence']);
    const position = input('position', 'int64', []);
    const kept = modelState(model);
    const { hidden, state } = forward(model, new ParameterRegistry(), ids, position, kept.given);
    const executable = await device.compile({
      inputs: [ids, position],
      outputs: { sum: sum(hidden, 1) },
      ...kept.changedTo(state),
      weights,
    });
    return new Embedder(model, executable);
  }

  /** Begins a text. */
  begin(): EmbeddedText {
    const run = async (ids: readonly number[], position: number, state: State): Promise<Float32Array> => {
      const feeds = { ids: int64(ids, [1, ids.length]), position: int64([position], []) };
      return (await this.executable.run(feeds, [state])).sum!.data as Float32Array;
    };
    return new EmbeddedText(run, this.executable.newState(), this.model.hiddenSize);
  }

  dispose(): Promise<void> {
    return this.executable.dispose();
  }
}

/** A text that is read in pieces. */
export class EmbeddedText {
  private readonly total: Float64Array;
  private position = 0;

  constructor(
    private readonly run: (ids: readonly number[], position: number, state: State) => Promise<Float32Array>,
    private readonly state: State,
    size: number,
  ) {
    this.total = new Float64Array(size);
  }

  /** Reads the next tokens, at least one. */
  async read(ids: readonly number[]): Promise<void> {
    const sums = await this.run(ids, this.position, this.state);
    for (const [i, value] of sums.entries()) this.total[i]! += value;
    this.position += ids.length;
  }

  /** The embedding [hidden] of the tokens read so far, of length 1 (so the sum serves as well as the mean). */
  vector(): Float32Array {
    const norm = Math.hypot(...this.total);
    return Float32Array.from(this.total, (value) => (norm === 0 ? 0 : value / norm));
  }

  dispose(): void {
    this.state.dispose();
  }
}
