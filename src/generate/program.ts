/**
 * What runs when a model reads and writes: one program for both, over the same weights. Reading takes many tokens at once.
 * Writing is a loop inside the graph, whose iterations read one token of each sequence and choose the next, so that several
 * tokens are written in a run, and the state moves only once. It ends early when all sequences of the batch have come to an
 * end. Tokens may also be prescribed, so that what was written before is read again in exactly the same way.
 *
 * A growing state stays in its buffer, which no iteration changes; what the loop adds to it is kept beside it until the
 * end of the run. Sequences of a batch may be of different lengths: the entries of each end where the buffer's do.
 */
import type { Carry, Program, Weight } from '../engine/index.js';
import {
  add,
  cast,
  concat,
  type Dim,
  either,
  equal,
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
  where,
  zeros,
} from '../graph/index.js';
import { forward, logitsOf, type Model, stateInputs } from '../models/index.js';
import { heldBias, ParameterRegistry } from '../nn/index.js';
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
  const growing = model.state.filter(({ grows }) => grows !== undefined);
  const fixed = model.state.filter(({ grows }) => grows === undefined);
  const [room] = growing.map(({ name, grows }) => states[name]!.shape[grows!]!);
  const held = room !== undefined ? heldBias(room, input('held', 'int64', []), position) : undefined;
  const grown = (shape: Shape, past: Dim): Dim[] => shape.map((dim) => (dim === 'past' ? past : dim));
  const registry = new ParameterRegistry();

  const stateNames = [...fixed, ...growing].map(({ name }) => name);
  // Where nothing is read, none of this is computed, and nothing is given back.
  const [readLogits, ...read] = either(
    'reading',
    () => {
      const result = forward(model, registry, ids, position, states, held && { held });
      const rows = reshape(result.hidden, [multiplyDims(['batch', 'sequence']), hiddenSize]);
      const logits = logitsOf(model, registry, gather(rows, places));
      return [logits, ...stateNames.map((name) => result.state[name]!)];
    },
    () => [
      zeros([0, vocabSize]),
      ...[...fixed, ...growing].map(({ shape, dtype }) =>
        zeros(
          shape.map(() => 0),
          dtype,
        ),
      ),
    ],
  ) as [Tensor, ...Tensor[]];

  const first = {
    last,
    position,
    logits: zeros(['batch', vocabSize]),
    ended: zeros(['batch'], 'int64'),
    occurred: choice.occurred,
  };
  type Values = Record<string, Tensor> & Record<keyof typeof first, Tensor>;
  const names = [...Object.keys(first), ...stateNames];
  const step = (iteration: Tensor, values: readonly Tensor[]): LoopSteps => {
    const now = Object.fromEntries(names.map((name, i) => [name, values[i]!])) as Values;
    const recent = Object.fromEntries(growing.map(({ name }) => [name, now[name]!]));
    const current = Object.fromEntries(fixed.map(({ name }) => [name, now[name]!]));
    const all = { ...states, ...current };
    const result = forward(model, registry, now.last, now.position, all, held && { held, recent });
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
        ...fixed.map(({ name }) => result.state[name]!),
        ...growing.map(({ name, grows }) => concat([recent[name]!, result.state[name]!], grows!)),
      ],
      stacked: [next],
      proceed: greater(sum(cast(less(ended, 1), 'int64')), 0),
    };
  };

  const initial = [
    ...Object.values(first),
    ...fixed.map(({ name }) => states[name]!),
    // Not none: WebGPU has no products of nothing.
    ...growing.map(({ shape }) => zeros(grown(shape, 1))),
  ];
  const shapes = growing.map(({ shape }, i): [number, Shape] => [
    initial.length - growing.length + i,
    grown(shape, READ_BEFORE),
  ]);
  const { carried, stacked } = loop('steps', initial, step, Object.fromEntries(shapes));
  const written = carried.slice(carried.length - stateNames.length).map((value, i) => {
    const grows = growing[i - fixed.length]?.grows;
    return grows === undefined ? value : slice(value, grows, 1, value.shape[grows]!);
  });
  const carries = (values: readonly Tensor[]): Record<string, Carry> =>
    Object.fromEntries([
      ...fixed.map(({ name }, i) => [name, { kind: 'replace', next: values[i]! }]),
      ...growing.map(({ name, grows }, i) => [
        name,
        { kind: 'append', rows: values[fixed.length + i]!, axis: grows! },
      ]),
    ]);
  return {
    outputs: { tokens: stacked[0]!, logits: carried[names.indexOf('logits')]! },
    carried: carries(written),
    others: { reading: { outputs: { logits: readLogits }, carried: carries(read) } },
    sizes: [reading, choice.cut, choice.whole],
    weights,
  };
}
