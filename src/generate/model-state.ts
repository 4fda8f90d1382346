/** A model's states as programs have them. */
import { type Program, stateChanges } from '../engine/index.js';
import { input, type Tensor } from '../graph/index.js';
import { type Model, stateInputs } from '../models/index.js';

/** Inputs for a model's states, and what a program says of these. */
export interface ModelState {
  /** What the model's layers are given: the states by name, and how many entries of growing ones count, where there are such. */
  readonly given: { readonly state: Readonly<Record<string, Tensor>>; readonly lengths: Tensor | undefined };
  /** The part of a program whose layers make these of the states. */
  changedTo(after: Readonly<Record<string, Tensor>>): Pick<Program, 'state' | 'lengths'>;
}

/** Those of a batch of sequences. */
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
