/** What runs when a model reads and writes. */
import { type DecoderPrograms, type Program, stateChanges, type Weight } from '../engine/index.js';
import { type Dim, input } from '../graph/index.js';
import { type Model, stateInputs, stepOf } from '../models/index.js';

/**
 * Inputs: `ids` int64 [batch, sequence], which come after `position` int64 [batch] others, and `places` int64 [places], where in the
 * flattened ids logits are wanted. Output: `logits` [places, vocabulary]. States: those of the model.
 */
function stepProgram(model: Model, weights: ReadonlyMap<string, Weight>, sequence: Dim): Program {
  const before = stateInputs(model);
  const grows = model.state.some((spec) => spec.grows !== undefined);
  const lengths = grows ? input('lengths', 'int64', ['batch']) : undefined;
  const step = stepOf(model, { sequence, state: before, position: ['batch'], lengths });
  return {
    inputs: step.inputs,
    outputs: { logits: step.logits },
    state: stateChanges(model.state, before, step.state),
    ...(lengths && { lengths }),
    weights,
  };
}

/** Reading takes many tokens at once, writing one of each sequence. */
export function decoderPrograms(model: Model, weights: ReadonlyMap<string, Weight>): DecoderPrograms {
  return {
    read: stepProgram(model, weights, 'sequence'),
    write: stepProgram(model, weights, 1),
  };
}
