/**
 * The graph of a trace: the model over one whole sequence, without a state, and beside its logits what its mixers show of
 * their inside. The number of tokens stays open, so that one program serves every text.
 */
import type { Program, Weight } from '../engine/index.js';
import {
  cast,
  concat,
  crossEntropy,
  gather,
  input,
  loop,
  negate,
  reshape,
  scalar,
  softmax,
  type Tensor,
  topK,
} from '../graph/index.js';
import { forward, hiddenOf, LAYER_NAMES, logitsOf, type Model } from '../models/index.js';
import { ParameterRegistry, type Sight } from '../nn/index.js';
import { decaysOf, gatesOf, headsOf, matricesOf } from './hidden-attention.js';

export interface Wanted {
  /** Layers that are looked into. */
  readonly layers: readonly number[];
  /** Heads that are shown of each; `shownHeads` by default. */
  readonly heads?: readonly number[] | undefined;
  readonly matrices: boolean;
  /** Tokens of the logit lens at each place; 0 for no lens. */
  readonly top: number;
}

/** A mixer of a trace, and the names of the program's outputs that belong to it. */
export interface TracedPart {
  readonly layer: number;
  readonly letter: string;
  readonly kind: 'attention' | 'hidden attention';
  readonly numHeads: number;
  readonly heads: readonly number[];
  readonly memory?: { readonly window: number; readonly selected: number };
  readonly outputs: Readonly<Record<PartOutput, string | undefined>>;
}

type PartOutput = 'weights' | 'scores' | 'write' | 'keep' | 'decays';

export interface TraceProgram {
  /**
   * Feeds `ids` int64 [1, tokens] and `next` int64 [tokens], the token after each. Returns `logProbabilities` [tokens] of
   * those, with a lens `lens.ids` and `lens.probabilities` [layers, tokens, top], and what the parts name.
   */
  readonly program: Program;
  readonly parts: readonly TracedPart[];
  /** The layers of the lens. */
  readonly lens: readonly number[];
}

/** Where a layer has more heads than this, a head is a channel, and a few stand for all. */
const MOST_HEADS = 64;
const FEW_HEADS = 16;

/** The heads of a mixer that are shown where none are named. */
export function shownHeads(count: number): number[] {
  if (count <= MOST_HEADS) return Array.from({ length: count }, (_, i) => i);
  return Array.from({ length: FEW_HEADS }, (_, i) => Math.floor((i * count) / FEW_HEADS));
}

export function traceProgram(
  model: Model,
  weights: ReadonlyMap<string, Weight>,
  wanted: Wanted,
): TraceProgram {
  const registry = new ParameterRegistry();
  const ids = input('ids', 'int64', [1, 'tokens']);
  const next = input('next', 'int64', ['tokens']);
  const outputs: Record<string, Tensor> = {};
  const parts: TracedPart[] = [];
  const sights = new Map<number, number>();
  const observe = (layer: number, sight: Sight): void => {
    const index = sights.get(layer) ?? 0;
    sights.set(layer, index + 1);
    if (!wanted.layers.includes(layer)) return;
    const shown = partOf(sight, wanted);
    const named = Object.entries(shown.tensors).map(([what, tensor]) => {
      const name = `${layer}.${index}.${what}`;
      outputs[name] = tensor;
      return [what, name];
    });
    const letter = mixingLetters(model.layers[layer]!.letters)[index]!;
    parts.push({ layer, letter, ...shown.facts, outputs: Object.fromEntries(named) });
  };
  const { hidden, residuals } = forward(
    model,
    registry,
    ids,
    scalar(0, 'int64'),
    undefined,
    undefined,
    observe,
  );
  const rows = (stream: Tensor): Tensor => reshape(stream, ['tokens', model.hiddenSize]);
  const logits = logitsOf(model, registry, rows(hidden));
  outputs.logProbabilities = negate(crossEntropy(logits, next));

  const last = model.layers.length - 1;
  const lens = wanted.top === 0 ? [] : [...wanted.layers.filter((layer) => layer !== last), last];
  if (lens.length > 0) {
    const streams = concat(
      lens.map((layer) => reshape(residuals[layer + 1]!, [1, 'tokens', model.hiddenSize])),
      0,
    );
    // One layer after the other: the logits of all together would be the largest tensor by far.
    const { stacked } = loop(lens.length, [], (layer) => {
      const logits = logitsOf(model, registry, hiddenOf(model, registry, gather(streams, layer)));
      const best = topK(softmax(logits), wanted.top, 1);
      return { carried: [], stacked: [cast(best.indices, 'int32'), best.values] };
    });
    outputs['lens.ids'] = stacked[0]!;
    outputs['lens.probabilities'] = stacked[1]!;
  }
  return { program: { outputs, weights }, parts, lens };
}

/** The letters of those that mix along the sequence, in the order in which they are observed. */
function mixingLetters(letters: string): string[] {
  return [...letters].filter((letter) => letter in LAYER_NAMES && letter !== '-' && letter !== 'E');
}

function partOf(sight: Sight, { heads, matrices }: Wanted) {
  const numHeads = headsOf(sight);
  const shown = heads ? heads.filter((head) => head < numHeads) : shownHeads(numHeads);
  const some = shown.length > 0;
  const memory = sight.kind === 'attention' ? sight.memory : undefined;
  const { write, keep } = some ? gatesOf(sight, shown) : {};
  const tensors = {
    weights: some && matrices ? matricesOf(sight, shown) : undefined,
    scores: memory && memory.selected > 0 ? reshape(memory.scores, [-1]) : undefined,
    write,
    keep,
    decays: decaysOf(sight),
  };
  return {
    facts: {
      kind: sight.kind === 'attention' ? ('attention' as const) : ('hidden attention' as const),
      numHeads,
      heads: shown,
      ...(memory && { memory: { window: memory.window, selected: memory.selected } }),
    },
    tensors: Object.fromEntries(Object.entries(tensors).filter(([, tensor]) => tensor)) as Partial<
      Record<PartOutput, Tensor>
    >,
  };
}
