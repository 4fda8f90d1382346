/**
 * The program of a trace: the model over one whole sequence, without a state, with the observations of its mixers as further outputs. The number of
 * tokens and the selected heads are inputs, so that one program serves all traces; without heads no matrices are computed.
 */
import type { Program, Weight } from '../engine/index.js';
import {
  addDims,
  cast,
  concat,
  crossEntropy,
  gather,
  input,
  loop,
  negate,
  reshape,
  slice,
  softmax,
  type Tensor,
  topK,
} from '../graph/index.js';
import { forwardWhole, hiddenOf, LAYER_NAMES, logitsOf, type Model } from '../models/index.js';
import { ParameterRegistry, type Sight } from '../nn/index.js';
import { decaysOf, gatesOf, headsOf, matricesOf } from './hidden-attention.js';

/** A mixer of the model. */
export interface MixerPart {
  /** Its inputs and outputs are named `name.*`. */
  readonly name: string;
  readonly layer: number;
  readonly letter: string;
  readonly kind: 'attention' | 'hidden attention';
  readonly numHeads: number;
  /** For selective attention. */
  readonly memory: { readonly window: number; readonly selected: number } | undefined;
}

/** The program that runs a model over a text and returns what its layers do with it. */
export interface TraceProgram {
  /**
   * Feeds `ids` int64 [1, tokens] and `next` int64 [tokens], the token after each; `lens` int64 [lens], the layers of the
   * logit lens, and `top` float32 [top], whose values do not matter; and for each mixer int64 indices of heads, `NAME.matrices` and
   * `NAME.gates`. Returns `logProbabilities` [tokens] of the next tokens, `lens.ids` int32 and `lens.probabilities` [lens, tokens, top],
   * and for each mixer those that it has of `NAME.weights` [heads, tokens, tokens], `NAME.write`, `NAME.keep` and `NAME.erase` [heads,
   * tokens],
   * `NAME.decays` [all heads, numbers] and `NAME.scores` [tokens]. A model that reads a source is fed its inputs, too; of one that has it in
   * one sequence with the text, scores are [before + tokens], and what else is told is told of the text.
   */
  readonly program: Program;
  readonly parts: readonly MixerPart[];
  /** The number of positions of a source before the text. */
  readonly before: number;
}

/** Builds that program for a model with these weights. */
export function traceProgram(model: Model, weights: ReadonlyMap<string, Weight>): TraceProgram {
  const registry = new ParameterRegistry();
  const ids = input('ids', 'int64', [1, 'tokens']);
  const next = input('next', 'int64', ['tokens']);
  const layers = input('lens', 'int64', ['lens']);
  const top = input('top', 'float32', ['top']);
  const outputs: Record<string, Tensor> = {};
  const asked: Tensor[] = [];
  const parts: MixerPart[] = [];
  const before = model.source && !model.source.isAttended ? model.source.positions : 0;
  const all = addDims(before, 'tokens');
  /** The part of an output that belongs to the text's positions. */
  const ofText = (x: Tensor, ...axes: number[]): Tensor =>
    before === 0 ? x : axes.reduce((part, axis) => slice(part, axis, before, all), x);
  const observe = (layer: number, sight: Sight): void => {
    const index = parts.filter((part) => part.layer === layer).length;
    const name = `mixer${layer}_${index}`;
    const memory = sight.kind === 'attention' ? sight.memory : undefined;
    parts.push({
      name,
      layer,
      letter: mixingLetters(model.layers[layer]!.letters)[index]!,
      kind: sight.kind === 'attention' ? 'attention' : 'hidden attention',
      numHeads: headsOf(sight),
      memory: memory && { window: memory.window, selected: memory.selected },
    });
    const chosen = (what: string): Tensor => {
      const heads = input(`${name}.${what}`, 'int64', [`${name}_${what}`]);
      asked.push(heads);
      return heads;
    };
    const shown = {
      weights: ofText(matricesOf(sight, chosen('matrices')), 1, 2),
      ...Object.fromEntries(
        Object.entries(gatesOf(sight, chosen('gates'))).map(([what, gate]) => [
          what,
          gate && ofText(gate, 1),
        ]),
      ),
      decays: decaysOf(sight),
      scores: memory && memory.selected > 0 ? reshape(memory.scores, [all]) : undefined,
    };
    for (const [what, tensor] of Object.entries(shown)) if (tensor) outputs[`${name}.${what}`] = tensor;
  };
  const { hidden, residuals, sourceInputs } = forwardWhole(model, registry, ids, { observe });
  const logits = logitsOf(model, registry, reshape(hidden, ['tokens', model.hiddenSize]));
  outputs.logProbabilities = negate(crossEntropy(logits, next));

  const streams = concat(residuals.slice(1), 0);
  // Layers are processed sequentially, since the logits of all together would be the largest tensor by far.
  const { stacked } = loop('lens', [], (i) => {
    const stream = gather(streams, gather(layers, i));
    const said = logitsOf(model, registry, hiddenOf(model, registry, stream));
    const best = topK(softmax(said), 'top', 1);
    return { carried: [], stacked: [cast(best.indices, 'int32'), best.values] };
  });
  outputs['lens.ids'] = stacked[0]!;
  outputs['lens.probabilities'] = stacked[1]!;
  const inputs = [ids, next, ...sourceInputs, layers, top, ...asked];
  return { program: { inputs, outputs, weights }, parts, before };
}

/** Letters of token-wise layers. */
const NOT_MIXING = ['-', 'E', 'X'];

/** The letters of mixers, in the order of their observation. */
function mixingLetters(letters: string): string[] {
  return [...letters].filter((letter) => letter in LAYER_NAMES && !NOT_MIXING.includes(letter));
}
