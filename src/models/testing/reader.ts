/** A model that reads in pieces, with a memory, and its loss; for tests. */

import { type Device, int64, type State, stateChanges, type Weight } from '../../engine/index.js';
import { crossEntropy, input, mean, reshape, scalar, slice, type Tensor } from '../../graph/index.js';
import { ParameterRegistry } from '../../nn/index.js';
import { forward, logitsOf, type Model, stateInputs } from '../index.js';

/** The mean loss of each next token in ids [batch, sequence], as transformers defines it. */
export function meanLoss(model: Model, registry: ParameterRegistry, ids: Tensor): Tensor {
  const length = ids.shape[1] as number;
  const { hidden } = forward(model, registry, slice(ids, 1, 0, length - 1), scalar(0, 'int64'));
  const rows = reshape(hidden, [-1, model.hiddenSize]);
  return mean(crossEntropy(logitsOf(model, registry, rows), reshape(slice(ids, 1, 1, length), [-1])));
}

/** Compiles a model that reads any number of tokens and returns the logits after each, [batch, sequence, vocabulary]. */
export async function reader(device: Device, model: Model, weights: ReadonlyMap<string, Weight>) {
  const registry = new ParameterRegistry();
  const ids = input('ids', 'int64', ['batch', 'sequence']);
  const position = input('position', 'int64', []);
  const before = stateInputs(model);
  const result = forward(model, registry, ids, position, { state: before });
  const executable = await device.compile({
    inputs: [ids, position],
    outputs: { logits: logitsOf(model, registry, result.hidden) },
    state: stateChanges(model.state, before, result.state),
    weights,
  });
  /** New states for the rows of a batch. */
  const newStates = (batch: number): State[] => Array.from({ length: batch }, () => executable.newState());
  /** Logits [batch, sequence, vocabulary] of ids that come after `at` others. */
  const step = async (
    rows: readonly (readonly number[])[],
    at: number,
    states: readonly State[],
  ): Promise<Float32Array> => {
    const feeds = { ids: int64(rows.flat(), [rows.length, rows[0]!.length]), position: int64([at], []) };
    return (await executable.run(feeds, states)).logits!.data as Float32Array;
  };
  /** The same in pieces of the given sizes, over and over. */
  const inPieces = async (
    rows: readonly (readonly number[])[],
    sizes: readonly number[],
  ): Promise<Float32Array> => {
    const sequence = rows[0]!.length;
    const states = newStates(rows.length);
    const output = new Float32Array(rows.length * sequence * model.vocabSize);
    for (let at = 0, piece = 0; at < sequence; piece++) {
      const end = Math.min(sequence, at + sizes[piece % sizes.length]!);
      const part = await step(
        rows.map((row) => row.slice(at, end)),
        at,
        states,
      );
      const width = (end - at) * model.vocabSize;
      for (let b = 0; b < rows.length; b++) {
        output.set(part.subarray(b * width, (b + 1) * width), (b * sequence + at) * model.vocabSize);
      }
      at = end;
    }
    return output;
  };
  return { newStates, step, inPieces, dispose: () => executable.dispose() };
}
