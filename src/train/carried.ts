/**
 * States that are carried from batch to batch (truncated backpropagation through time). Growing states, the keys and values of attention, are
 * kept for the last `room` tokens of a document, as in Transformer-XL (Dai et al., 2019, arXiv 1901.02860).
 */
import type { StateSpec } from '../engine/index.js';
import {
  add,
  broadcastTo,
  cast,
  concat,
  type Dim,
  equal,
  gatherElements,
  iota,
  lastDocument,
  less,
  minimum,
  reshape,
  sameDocument,
  slice,
  subtract,
  sum,
  type Tensor,
  where,
} from '../graph/index.js';
import { type ForwardResult, forward, type Model } from '../models/index.js';
import type { ParameterRegistry, StateTensors } from '../nn/index.js';

/** The number of tokens of its document that each row has read, for rotary positions. */
const POSITION = 'position';
/** The number of entries of its growing states. */
const HELD = 'held';

/** The states of each row, with `batch` as the first axis. */
export function carriedMemory(model: Model, room: number): StateSpec[] {
  const number = (name: string): StateSpec => ({ name, dtype: 'int64', shape: ['batch'], initial: 0 });
  const states = model.state.map(({ grows: _, ...spec }) => ({
    ...spec,
    shape: spec.shape.map((dim) => (dim === 'past' ? room : dim)),
  }));
  return [number(POSITION), number(HELD), ...states];
}

/** Applies the layers to int64 ids [batch, sequence] of these documents, from the rows' states; returns the new states, too. */
export function forwardCarried(
  model: Model,
  registry: ParameterRegistry,
  ids: Tensor,
  documents: Tensor,
  memory: StateTensors,
): ForwardResult & { memory: StateTensors } {
  const [batch, sequence] = ids.shape as [Dim, Dim];
  const goesOn = equal(reshape(slice(documents, 1, 0, 1), [batch]), 0);
  const position = where(goesOn, memory[POSITION]!, 0);
  const held = where(goesOn, memory[HELD]!, 0);
  const state = Object.fromEntries(model.state.map(({ name }) => [name, memory[name]!]));
  const result = forward(model, registry, ids, position, { state, lengths: held, documents });

  const last = lastDocument(documents);
  const ofLast = cast(sum(sameDocument(documents, last), 1), 'int64');
  const isOld = equal(reshape(last, [batch]), 0);
  const available = where(isOld, add(held, sequence as number), ofLast);
  const end = add(held, sequence as number);
  const after: Record<string, Tensor> = { [POSITION]: add(position, sequence as number) };
  for (const { name, grows } of model.state) {
    const fresh = result.state[name]!;
    if (grows === undefined) {
      after[name] = fresh;
      continue;
    }
    const before = memory[name]!;
    const room = before.shape[grows] as number;
    const kept = minimum(available, room);
    after[HELD] = kept;
    after[name] = latest(concat([before, fresh], grows), grows, room, held, subtract(end, kept));
  }
  return { ...result, memory: { [HELD]: held, ...after } };
}

/**
 * Selects `room` entries along an axis of `all`, which has the old entries (the first `held` int64 [batch] of `room` are valid) followed by the
 * new ones, starting at the valid entry `first` int64 [batch].
 */
function latest(all: Tensor, axis: number, room: number, held: Tensor, first: Tensor): Tensor {
  const batch = all.shape[0]!;
  const column = (x: Tensor): Tensor => reshape(x, [batch, 1]);
  const wanted = add(iota(room), column(first));
  const place = where(less(wanted, column(held)), wanted, add(subtract(wanted, column(held)), room));
  const bounded = minimum(place, (all.shape[axis] as number) - 1);
  const shape = all.shape.map((dim, i) => (i === axis ? room : dim));
  const spread = reshape(
    bounded,
    all.shape.map((_, i) => (i === 0 ? batch : i === axis ? room : 1)),
  );
  return gatherElements(all, broadcastTo(spread, shape), axis);
}
