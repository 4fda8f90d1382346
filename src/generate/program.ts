/**
 * What runs when a model reads and writes: one program for both. It is a loop inside the graph, whose iterations read
 * tokens and choose the next ones. The first iteration reads the tokens that it is given, each further one those that were
 * chosen before, so that several tokens are written in a run, and the state moves only once. It ends early when all
 * sequences of the batch have come to an end. Tokens may also be prescribed, so that what was written before is
 * read again in exactly the same way.
 *
 * A growing state stays in its buffer, which no iteration changes; what the loop adds to it is kept beside it until the
 * end of the run.
 */
import type { Program, Weight } from '../engine/index.js';
import {
  add,
  cast,
  concat,
  type Dim,
  dimension,
  equal,
  gather,
  greater,
  input,
  iota,
  less,
  loop,
  multiplyDims,
  reshape,
  type Shape,
  sum,
  type Tensor,
  where,
  zeros,
} from '../graph/index.js';
import { forward, logitsOf, type Model, stateInputs } from '../models/index.js';
import { ParameterRegistry } from '../nn/index.js';
import { choiceInputs, chooseTokens, withOccurred } from './choice.js';

/** The names of sizes inside the loop: tokens that an iteration reads, and those that the ones before it read. */
const READ_NOW = 'read_now';
const READ_BEFORE = 'read_before';

/**
 * Inputs: `ids` int64 [batch, sequence], which come after `position` others; `places` int64 [places], where in the flattened
 * ids tokens are chosen behind; `random` [steps, places] uniform numbers in [0, 1), one for each choice; `prescribed` int64
 * [steps, places], tokens to take instead, or -1; `ends` int64 [ends], the tokens that end a sequence; those of choice.ts;
 * and the state. Where there are several steps each sequence has one place, its end. Outputs: `tokens` int64
 * [steps, places], those chosen, of which the last ones were not read; and `logits` [places, vocabulary], from which those
 * were chosen.
 */
export function generationProgram(model: Model, weights: ReadonlyMap<string, Weight>): Program {
  const ids = input('ids', 'int64', ['batch', 'sequence']);
  const position = input('position', 'int64', []);
  const places = input('places', 'int64', ['places']);
  const random = input('random', 'float32', ['steps', 'places']);
  const prescribed = input('prescribed', 'int64', ['steps', 'places']);
  const ends = input('ends', 'int64', ['ends']);
  const choice = choiceInputs(model.vocabSize);
  const states = stateInputs(model);
  const growing = model.state.filter(({ grows }) => grows !== undefined);
  const fixed = model.state.filter(({ grows }) => grows === undefined);
  const grown = (shape: Shape, past: Dim): Dim[] => shape.map((dim) => (dim === 'past' ? past : dim));

  const first = {
    ids,
    position,
    places,
    logits: zeros(['places', model.vocabSize]),
    ended: zeros(['places'], 'int64'),
    occurred: choice.occurred,
  };
  type Values = Record<keyof typeof first | string, Tensor> & Record<keyof typeof first, Tensor>;
  const names = [...Object.keys(first), ...fixed.map(({ name }) => name), ...growing.map(({ name }) => name)];
  const initial: Tensor[] = [
    ...Object.values(first),
    ...fixed.map(({ name }) => states[name]!),
    ...growing.map(({ shape }) => zeros(grown(shape, 0))),
  ];
  const shapes: Record<number, Shape> = { 0: ['batch', READ_NOW] };
  for (const { name, shape } of growing) shapes[names.indexOf(name)] = grown(shape, READ_BEFORE);

  const registry = new ParameterRegistry();
  const { carried, stacked } = loop(
    'steps',
    initial,
    (step, values) => {
      const now = Object.fromEntries(names.map((name, i) => [name, values[i]!])) as Values;
      const recent = Object.fromEntries(growing.map(({ name }) => [name, now[name]!]));
      const current = Object.fromEntries(fixed.map(({ name }) => [name, now[name]!]));
      const result = forward(
        model,
        registry,
        now.ids,
        now.position,
        { ...states, ...current },
        { held: position, recent },
      );
      const rows = reshape(result.hidden, [multiplyDims(['batch', READ_NOW]), model.hiddenSize]);
      const logits = logitsOf(model, registry, gather(rows, now.places));
      const chosen = reshape(chooseTokens(logits, gather(random, step), choice, now.occurred), ['places']);
      const given = gather(prescribed, step);
      const next = where(less(given, 0), chosen, given);
      const isEnd = sum(cast(equal(reshape(next, ['places', 1]), ends), 'int64'), 1);
      const ended = add(now.ended, isEnd);
      return {
        carried: [
          reshape(next, ['places', 1]),
          add(now.position, dimension(READ_NOW)),
          iota('places'),
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
    shapes,
  );
  const final = (name: string): Tensor => carried[names.indexOf(name)]!;
  return {
    outputs: { tokens: stacked[0]!, logits: final('logits') },
    carried: Object.fromEntries([
      ...fixed.map(({ name }) => [name, { kind: 'replace' as const, next: final(name) }]),
      ...growing.map(({ name, grows }) => [
        name,
        { kind: 'append' as const, rows: final(name), axis: grows! },
      ]),
    ]),
    sizes: [choice.cut, choice.whole],
    weights,
  };
}
