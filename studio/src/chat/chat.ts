/** What can be done with lanes and memories besides saying something. */
import { batch } from '@preact/signals';
import { randomHex } from '../../../src/platform/random-hex.js';
import type { StoredState } from '../api.js';
import { deleteState, forkState, listModels, listStates, nameState } from '../hosts/hosts.js';
import { announce } from '../parts/announcement.js';
import { stop } from './answering.js';
import type { Turn } from './conversation.js';
import {
  addLane,
  addTurn,
  chosenLane,
  forget,
  keptStates,
  type Lane,
  lanes,
  models,
  refreshKept,
  rewind,
  treeOf,
  trees,
  updateTurn,
} from './lanes.js';

/** Asks what the server has, and keeps of the lanes those whose model is there. */
export async function open(): Promise<void> {
  const [found, states] = await Promise.all([listModels(), listStates()]);
  batch(() => {
    models.value = found;
    keptStates.value = states.filter(({ name }) => name);
    lanes.value = lanes.value.filter(({ model }) => found.some(({ id }) => id === model));
    if (lanes.value.length === 0 && found[0]) addLane(found[0].id);
  });
}

export function closeLane(lane: Lane): void {
  stop(lane);
  lanes.value = lanes.value.filter(({ id }) => id !== lane.id);
}

/** A copy of the memory where a lane stands, in a lane beside it. */
export async function fork(lane: Lane): Promise<void> {
  const head = treeOf(lane).find(({ id }) => id === lane.head);
  if (!head?.state) return;
  const state = await forkState(head.state.id);
  const turn = quiet('fork', head.id, state);
  addTurn(lane.model, turn);
  addLane(lane.model, turn.id);
  announce(`Forked at ${state.tokens} tokens: the copy is in a lane of its own`);
}

/** Names the memory of a turn; one with a name is kept when the conversation is cleared. */
export async function name(model: string, turn: Turn, name: string): Promise<void> {
  if (!turn.state) return;
  updateTurn(model, turn.id, { state: { ...turn.state, ...(await nameState(turn.state.id, name)), name } });
  await refreshKept();
  announce(`Saved as ${name}`);
}

/** A new beginning in a lane: with a memory that was kept. */
export function beginWith(state: StoredState): void {
  const known = (trees.value[state.model] ?? []).find((each) => each.state?.id === state.id);
  const turn = known ?? quiet('kept', undefined, state);
  if (!known) addTurn(state.model, turn);
  const lane = lanes.value.find(({ model }) => model === state.model) ?? addLane(state.model);
  rewind(lane, turn.id);
  chosenLane.value = lane.id;
}

export async function discard(state: StoredState): Promise<void> {
  await deleteState(state.id);
  forget(state.id);
  await refreshKept();
}

/** A new chat with the models that are open. Memories without a name are given back to the server. */
export async function clear(): Promise<void> {
  stop();
  const unnamed = Object.values(trees.value).flatMap((tree) =>
    tree.flatMap(({ state }) => (state && !state.name ? [state.id] : [])),
  );
  const open = [...new Set(lanes.value.map(({ model }) => model))];
  batch(() => {
    trees.value = {};
    lanes.value = [];
    for (const model of open) addLane(model);
    chosenLane.value = lanes.value[0]?.id;
  });
  // One that is gone already is no loss.
  await Promise.allSettled(unnamed.map(deleteState));
}

function quiet(kind: 'fork' | 'kept', parent: string | undefined, state: StoredState): Turn {
  return { id: randomHex(16), parent, kind, said: '', answer: '', status: 'done', state };
}
