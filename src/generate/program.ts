/**
 * What runs when a model reads and writes: one program for both, over the same weights. Reading takes many tokens at once.
 * Writing is a loop inside the graph, whose iterations read one token of each sequence and choose the next, so that several
 * tokens are written in a run, and the state moves only once. It ends early when all sequences of the batch have come to an
 * end. Tokens may also be prescribed, so that what was written before is read again in exactly the same way.
 *
 * A growing state stays in its buffer, which no iteration changes, and so does a deferred one; what the loop adds to them is
 * kept beside them until the end of the run. Sequences of a batch may be of different lengths: the entries of each end where the buffer's do.
 */
import type { Weight } from '../engine/index.js';
import type { Carry, Program } from '../engine/loop/index.js';
import {
  add,
  cast,
  concat,
  type Dim,
  either,
  equal,
  fill,
  gather,
  greater,
  input,
  type LoopSteps,
  less,
  loop,
  multiplyDims,
  reshape,
  type Shape,
  slice,
  sum,
  type Tensor,
  when,
  where,
  zeros,
} from '../graph/index.js';
import {
  applyLayers,
  embeddingsOf,
  forward,
  hiddenOf,
  type LayersContext,
  logitsOf,
  type Model,
  stateInputs,
} from '../models/index.js';
import { heldBias, ParameterRegistry, recentNames, type StateSpec, settle } from '../nn/index.js';
import { choiceInputs, chooseTokens, withOccurred } from './choice.js';

/** The name of a size: tokens that the iterations before one read. */
const READ_BEFORE = 'read_before';

/**
 * Inputs: `reading` float32 [reading], one row to read, none to write. To read, `ids` int64 [batch, sequence], which come
 * after `position` int64 [batch] others, and `places` int64 [places], where in the flattened ids logits are wanted. To write, `last`
 * int64 [batch, 1], the tokens that writing begins with, which are read first; `random` [steps, batch] uniform numbers in
 * [0, 1), one for each token to write; `prescribed` int64 [steps, batch], tokens to take instead, or -1; `ends` int64
 * [batch, ends], the tokens that end each sequence, or -1; those of choice.ts; and the state, with `held` int64 [], how many
 * entries a growing one has. Outputs: `tokens` int64 [steps, batch], those written, of which the last ones were not read; and
 * `logits` [batch, vocabulary], from which those were chosen. Of `reading`: `logits` [places, vocabulary] at the places.
 */
export function generationProgram(model: Model, weights: ReadonlyMap<string, Weight>): Program {
  const { vocabSize, hiddenSize } = model;
  const reading = input('reading', 'float32', ['reading']);
  const ids = input('ids', 'int64', ['batch', 'sequence']);
  const position = input('position', 'int64', ['batch']);
  const places = input('places', 'int64', ['places']);
  const last = input('last', 'int64', ['batch', 1]);
  const random = input('random', 'float32', ['steps', 'batch']);
  const prescribed = input('prescribed', 'int64', ['steps', 'batch']);
  const ends = input('ends', 'int64', ['batch', 'ends']);
  const choice = choiceInputs(vocabSize, 'batch');
  const states = stateInputs(model);
  const held = heldOf(model, states, position);
  const registry = new ParameterRegistry();

  const read = readLayers(model, registry, ids, { position, state: states, held });
  const readLogits = when('reading', zeros([0, vocabSize]), () => {
    const rows = reshape(read.stream, [multiplyDims(['batch', 'sequence']), hiddenSize]);
    return logitsOf(model, registry, hiddenOf(model, registry, gather(rows, places)));
  });

  const first = {
    last,
    position,
    logits: zeros(['batch', vocabSize]),
    ended: zeros(['batch'], 'int64'),
    occurred: choice.occurred,
  };
  type Values = Record<string, Tensor> & Record<keyof typeof first, Tensor>;
  const kept = model.state.map((spec) => whileWriting(spec, states[spec.name]!));
  const parts = kept.flatMap((state) => state.parts);
  const names = [...Object.keys(first), ...parts.map(({ name }) => name)];
  const step = (iteration: Tensor, values: readonly Tensor[]): LoopSteps => {
    const now = Object.fromEntries(names.map((name, i) => [name, values[i]!])) as Values;
    // A part of a state's own name is the state, or what came after it.
    const moving = model.state.filter((spec) => recentNames(spec).length === 0);
    const current = Object.fromEntries(moving.map(({ name }) => [name, now[name]!]));
    const since = { held, recent: now, step: iteration };
    const result = forward(model, registry, now.last, now.position, { ...states, ...current }, since);
    const logits = logitsOf(model, registry, reshape(result.hidden, ['batch', hiddenSize]));
    const chosen = reshape(chooseTokens(logits, gather(random, iteration), choice, now.occurred), ['batch']);
    const given = gather(prescribed, iteration);
    const next = where(less(given, 0), chosen, given);
    const isEnd = sum(cast(equal(reshape(next, ['batch', 1]), ends), 'int64'), 1);
    const ended = add(now.ended, isEnd);
    return {
      carried: [
        reshape(next, ['batch', 1]),
        add(now.position, 1),
        logits,
        ended,
        withOccurred(now.occurred, next),
        ...parts.map((part) => part.next(now[part.name]!, result.state[part.name]!)),
      ],
      stacked: [next],
      proceed: greater(sum(cast(less(ended, 1), 'int64')), 0),
    };
  };

  const begin = Object.values(first);
  const shapes = parts.flatMap(({ shape }, i) => (shape ? [[begin.length + i, shape] as const] : []));
  const { carried, stacked } = loop(
    'steps',
    [...begin, ...parts.map(({ initial }) => initial)],
    step,
    Object.fromEntries(shapes),
  );
  const atEnd = new Map(names.map((name, i) => [name, carried[i]!]));
  const written = settled(
    kept.map((state) => ({ ...state, last: state.parts.map(({ name }) => atEnd.get(name)!) })),
  );
  const carriesOfAll = (values: readonly Tensor[]): Record<string, Carry> =>
    carriesOf(model.state, Object.fromEntries(model.state.map(({ name }, i) => [name, values[i]!])));
  return {
    outputs: { tokens: stacked[0]!, logits: atEnd.get('logits')! },
    carried: carriesOfAll(written),
    others: { reading: { outputs: { logits: readLogits }, carried: carriesOfAll(read.state) } },
    sizes: [reading, choice.cut, choice.whole],
    weights,
  };
}

/**
 * Reading alone: `ids`, `position`, `places` and the state in, `logits` out, as above. For devices where the state stays:
 * a loop would have it all brought to the CPU and back for each token (seen with ONNX Runtime 1.30 on WebGPU).
 */
export function readingProgram(model: Model, weights: ReadonlyMap<string, Weight>): Program {
  const ids = input('ids', 'int64', ['batch', 'sequence']);
  const position = input('position', 'int64', ['batch']);
  const states = stateInputs(model);
  const registry = new ParameterRegistry();
  const held = heldOf(model, states, position);
  const since = { held, headsAtOnce: true };
  const { hidden, state } = forward(model, registry, ids, position, states, since);
  const rows = reshape(hidden, [multiplyDims(['batch', 'sequence']), model.hiddenSize]);
  const logits = logitsOf(model, registry, gather(rows, input('places', 'int64', ['places'])));
  return { outputs: { logits }, carried: carriesOf(model.state, state), weights };
}

/** What hides the room around the entries of growing states, of which `held` int64 [] says how many there are. */
function heldOf(
  model: Model,
  states: Readonly<Record<string, Tensor>>,
  position: Tensor,
): Tensor | undefined {
  const growing = model.state.find(({ grows }) => grows !== undefined);
  const room = growing && states[growing.name]!.shape[growing.grows!]!;
  return room === undefined ? undefined : heldBias(room, input('held', 'int64', []), position);
}

/** Graphs in which the layers are read, each a part of them. */
const READING_GRAPHS = 6;

/**
 * What reading leaves of the residual stream and of the states. Where nothing is read, none of it is computed, and no state is
 * given back. It is several graphs, since ONNX Runtime holds the weights of a graph both as stored and as packed until it has
 * packed them all.
 */
function readLayers(
  model: Model,
  registry: ParameterRegistry,
  ids: Tensor,
  context: LayersContext,
): { stream: Tensor; state: readonly Tensor[] } {
  const nothing = (): Tensor => zeros(['batch', 'sequence', model.hiddenSize]);
  const [embeddings] = either(
    'reading',
    () => [embeddingsOf(model, registry, ids)],
    () => [nothing()],
  ) as [Tensor];
  let stream = embeddings;
  const state: Record<string, Tensor> = {};
  const count = Math.ceil(model.layers.length / READING_GRAPHS);
  for (let first = 0; first < model.layers.length; first += count) {
    const names: string[] = [];
    const [left, ...values] = either(
      'reading',
      () => {
        const result = applyLayers(model, registry, stream, { ...context, embeddings }, first, first + count);
        names.push(...Object.keys(result.state));
        return [result.residuals.at(-1)!, ...Object.values(result.state)];
      },
      () => [nothing(), ...names.map((name) => none(model.state.find((spec) => spec.name === name)!))],
    ) as [Tensor, ...Tensor[]];
    stream = left;
    for (const [i, name] of names.entries()) state[name] = values[i]!;
  }
  return { stream, state: model.state.map(({ name }) => state[name]!) };
}

/** What the loop carries of a state, and what the state is in the end. */
interface Kept {
  readonly parts: readonly {
    readonly name: string;
    readonly initial: Tensor;
    /** Inside the loop, where it changes. */
    readonly shape?: Shape;
    readonly next: (now: Tensor, result: Tensor) => Tensor;
  }[];
  readonly settle: (values: readonly Tensor[]) => Tensor;
  /** Where that is much work: what a run that only reads gives back instead. */
  readonly unsettled?: () => Tensor;
}

/** The states in the end, of which those that are much work are made only where something was written. */
function settled(states: readonly (Kept & { readonly last: readonly Tensor[] })[]): Tensor[] {
  const isMuch = states.filter(({ unsettled }) => unsettled);
  const made =
    isMuch.length === 0
      ? []
      : either(
          'steps',
          () => isMuch.map(({ settle, last }) => settle(last)),
          () => isMuch.map(({ unsettled }) => unsettled!()),
        );
  return states.map((state) => made[isMuch.indexOf(state)] ?? state.settle(state.last));
}

function whileWriting(spec: StateSpec, state: Tensor): Kept {
  const { name, shape, grows, deferred } = spec;
  const replaced = (_: Tensor, result: Tensor): Tensor => result;
  if (grows !== undefined) {
    const grown = (past: Dim): Dim[] => shape.map((dim) => (dim === 'past' ? past : dim));
    const next = (now: Tensor, result: Tensor): Tensor => concat([now, result], grows);
    return {
      // Not none: WebGPU has no products of nothing.
      parts: [{ name, initial: zeros(grown(1)), shape: grown(READ_BEFORE), next }],
      settle: ([all]) => slice(all!, grows, 1, all!.shape[grows]!),
    };
  }
  if (!deferred) {
    return { parts: [{ name, initial: state, next: replaced }], settle: ([last]) => last! };
  }
  const names = recentNames(spec);
  return {
    parts: deferred.map((part, i) => ({
      name: names[i]!,
      initial: fill(part.shape, part.initial, part.dtype),
      next: replaced,
    })),
    settle: (values) => settle(state, values),
    unsettled: () => none(spec),
  };
}

/** What is given back instead of a state that nobody wants. */
function none({ shape, dtype }: StateSpec): Tensor {
  return zeros(
    shape.map(() => 0),
    dtype,
  );
}

/** How states change with a run of a program that makes `results` of them. */
function carriesOf(
  specs: readonly StateSpec[],
  results: Readonly<Record<string, Tensor>>,
): Record<string, Carry> {
  return Object.fromEntries(
    specs.map(({ name, grows }): [string, Carry] => [
      name,
      grows === undefined
        ? { kind: 'replace', next: results[name]! }
        : { kind: 'append', rows: results[name]!, axis: grows },
    ]),
  );
}
