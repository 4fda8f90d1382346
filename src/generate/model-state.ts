/** The states of a model, as inputs and outputs of programs. */
import { type Program, stateChanges } from '../engine/index.js';
import { input, type Tensor } from '../graph/index.js';
import { type Model, stateInputs } from '../models/index.js';

/** The inputs of a model's states, and their declaration in a program. */
export interface ModelState {
  /** The inputs of the model's layers: the states by name, and the number of entries of growing states, if there are any. */
  readonly given: { readonly state: Readonly<Record<string, Tensor>>; readonly lengths: Tensor | undefined };
  /** The program's declaration of the states, given their values after the layers. */
  changedTo(after: Readonly<Record<string, Tensor>>): Pick<Program, 'state' | 'lengths'>;
}

/** The states of a batch of sequences. */
export function modelState(model: Model): ModelState {
  const state = stateInputs(model);
  const grows = model.state.some((spec) => spec.grows !== undefined);
  const lengths = grows ? input('lengths', 'int64', ['batch']) : undefined;
  return {
    given: { state, lengths },
    changedTo: (after) => ({
      state: stateChanges(model.state, state, after),
      ...(lengths && { lengths }),
    }),
  };
}
