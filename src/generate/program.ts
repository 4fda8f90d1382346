/**
 * What runs when a model reads and writes: one program for both, over the same weights. Reading takes many tokens at once.
 * Writing is a loop inside the graph, whose iterations read one token of each sequence and choose the next, so that several
 * tokens are written in a run, and the state moves only once. It ends early when all sequences of the batch have come to an
 * end. Tokens may also be prescribed, so that what was written before is read again in exactly the same way.
 *
 * A growing state stays in its buffer, which no iteration changes; what the loop adds to it is kept beside it until the
 * end of the run. Sequences of a batch may be of different lengths: the entries of each end where the buffer's do.
 */
import type { Program, Weight } from '../engine/index.js';
import {
  add,
  cast,
  concat,
  type Dim,
  equal,
  gather,
  greater,
  input,
  less,
  loop,
  multiplyDims,
  reshape,
  type Shape,
  sum,
  type Tensor,
  whenAll,
  where,
  zeros,
} from '../graph/index.js';
import { forward, logitsOf, type Model, stateInputs } from '../models/index.js';
import { heldBias, ParameterRegistry } from '../nn/index.js';
import { choiceInputs, chooseTokens, withOccurred } from './choice.js';

/** Names of sizes: tokens that the iterations before one read, and what came out of the chunk. */
const READ_BEFORE = 'read_before';
const READ_FIRST = 'read_first';

/**
 * Inputs: `reading` float32 [reading], one row to read or none; then `ids` int64 [batch, sequence] are read, which come
 * after `position` int64 [batch] others, and `places` int64 [places] say where in the flattened ids logits are wanted. `last`
 * int64 [batch, 1], the tokens that writing begins with, which are read first; `random` [steps, batch] uniform numbers in
 * [0, 1), one for each token to write; `prescribed` int64 [steps, batch], tokens to take instead, or -1; `ends` int64
 * [batch, ends], the tokens that end each sequence, or -1; those of choice.ts; and the state, with `held` int64 [], how many
 * entries a growing one has. Outputs: `read` [places, vocabulary], the logits at the places; `tokens` int64
 * [steps, batch], those written, of which the last ones were not read; and `logits` [batch, vocabulary], from which those
 * were chosen.
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

  /** What comes of reading: logits, fixed states, and what growing ones gain. */
  const stateNames = [...fixed, ...growing].map(({ name }) => name);
  const varying = (past: Dim, at: number): Record<number, Shape> =>
    Object.fromEntries(growing.map(({ shape }, i) => [at + fixed.length + i, grown(shape, past)]));

  const [readLogits, ...read] = whenAll(
    'reading',
    [
      zeros(['places', vocabSize]),
      ...fixed.map(({ name }) => states[name]!),
      ...growing.map(({ shape }) => zeros(grown(shape, 0))),
    ],
    () => {
      const result = forward(model, registry, ids, position, states, held && { held });
      const rows = reshape(result.hidden, [multiplyDims(['batch', 'sequence']), hiddenSize]);
      return [
        logitsOf(model, registry, gather(rows, places)),
        ...stateNames.map((name) => result.state[name]!),
      ];
    },
    varying(READ_FIRST, 1),
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
  const { carried, stacked } = loop(
    'steps',
    [...Object.values(first), ...read],
    (step, values) => {
      const now = Object.fromEntries(names.map((name, i) => [name, values[i]!])) as Values;
      const recent = Object.fromEntries(growing.map(({ name }) => [name, now[name]!]));
      const current = Object.fromEntries(fixed.map(({ name }) => [name, now[name]!]));
      const all = { ...states, ...current };
      const growth = held && { held, recent };
      const result = forward(model, registry, now.last, now.position, all, growth);
      const logits = logitsOf(model, registry, reshape(result.hidden, ['batch', hiddenSize]));
      const chosen = reshape(chooseTokens(logits, gather(random, step), choice, now.occurred), ['batch']);
      const given = gather(prescribed, step);
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
    },
    varying(READ_BEFORE, Object.keys(first).length),
  );
  const final = (name: string): Tensor => carried[names.indexOf(name)]!;
  return {
    outputs: { read: readLogits, tokens: stacked[0]!, logits: final('logits') },
    carried: Object.fromEntries([
      ...fixed.map(({ name }) => [name, { kind: 'replace' as const, next: final(name) }]),
      ...growing.map(({ name, grows }) => [
        name,
        { kind: 'append' as const, rows: final(name), axis: grows! },
      ]),
    ]),
    sizes: [reading, choice.cut, choice.whole],
    weights,
  };
}
