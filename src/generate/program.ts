/** The programs of prefill and decoding. */
import type { DecoderPrograms, Program, Weight } from '../engine/index.js';
import { type Dim, input, reshape, type Tensor, where } from '../graph/index.js';
import { logitsOf, type Model, stepOf } from '../models/index.js';
import { ParameterRegistry } from '../nn/index.js';
import { modelState } from './model-state.js';

type Weights = ReadonlyMap<string, Weight>;

/**
 * Inputs: `ids` int64 [batch, sequence]; `position` int64 [batch], the number of tokens before them; and `places` int64 [places], the indices
 * into the flattened ids of the outputs: `logits` [places, vocabulary], or the hidden states before the head, `hidden` [places, hidden].
 * States: those of the model.
 */
function stepProgram(model: Model, weights: Weights, sequence: Dim, output: 'logits' | 'hidden'): Program {
  const kept = modelState(model);
  const step = stepOf(model, { sequence, position: ['batch'], ...kept.given });
  return {
    inputs: step.inputs,
    outputs: { [output]: step[output] },
    ...kept.changedTo(step.state),
    weights,
  };
}

/** A step whose rows take part or not: see `DecoderPrograms.readSome`. */
function readSome(program: Program): Program {
  const taking = input('taking', 'bool', ['batch']);
  const kept = (before: Tensor, after: Tensor): Tensor =>
    where(reshape(taking, ['batch', ...before.shape.slice(1).map(() => 1)]), after, before);
  return {
    ...program,
    inputs: [...program.inputs, taking],
    state: program.state!.map((change) => {
      const { spec, before, after } = change;
      return spec.grows !== undefined || before === after
        ? change
        : { spec, before, after: kept(before, after) };
    }),
  };
}

/** Logits [places, vocabulary] of `hidden` [places, hidden]. */
function headProgram(model: Model, weights: Weights): Program {
  const hidden = input('hidden', 'float32', ['places', model.hiddenSize]);
  return { inputs: [hidden], outputs: { logits: logitsOf(model, new ParameterRegistry(), hidden) }, weights };
}

/** The programs of a model, each built on first use. */
export function decoderPrograms(model: Model, weights: Weights): DecoderPrograms {
  return {
    get read() {
      return stepProgram(model, weights, 'sequence', 'logits');
    },
    readPiece: (tokens) => stepProgram(model, weights, tokens, 'logits'),
    readSome: (tokens) => readSome(stepProgram(model, weights, tokens, 'logits')),
    get write() {
      return stepProgram(model, weights, 1, 'logits');
    },
    get layers() {
      return stepProgram(model, weights, 'sequence', 'hidden');
    },
    get head() {
      return headProgram(model, weights);
    },
  };
}
