/** Actions on lanes and states. */
import { batch } from '@preact/signals';
import { randomHex } from '../../../src/platform/random-hex.js';
import type { StoredState } from '../api.js';
import { deleteState, forkState, listModels, listStates, nameState } from '../hosts/hosts.js';
import { announce } from '../parts/announcement.js';
import { stop } from './answering.js';
import { type Turn, timeAfter } from './conversation.js';
import {
  addLane,
  addTurn,
  begun,
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

/** Loads the server's models and states, and closes lanes of missing models. */
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

/** Forks a lane's state into a new lane. */
export async function fork(lane: Lane): Promise<void> {
  const head = treeOf(lane).find(({ id }) => id === lane.head);
  if (!head?.state) return;
  const state = await forkState(head.state.id);
  const turn = quiet('fork', head.id, state);
  addTurn(lane.model, turn);
  addLane(lane.model, turn.id);
  announce(`Forked at ${state.tokens} tokens: the copy is in a lane of its own`);
}

/** Names the state of a turn; a named state is kept when the conversation is cleared. */
export async function name(model: string, turn: Turn, name: string): Promise<void> {
  if (!turn.state) return;
  updateTurn(model, turn.id, { state: { ...turn.state, ...(await nameState(turn.state.id, name)), name } });
  await refreshKept();
  announce(`Saved as ${name}`);
}

/** Opens a lane that starts with a saved state. */
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

/** Starts a new chat with the open models. States without a name are deleted from the server. */
export async function clear(): Promise<void> {
  stop();
  const unnamed = Object.values(trees.value).flatMap((tree) =>
    tree.flatMap(({ state }) => (state && !state.name ? [state.id] : [])),
  );
  const open = [...new Set(lanes.value.map(({ model }) => model))];
  batch(() => {
    begun.value = timeAfter(begun.value);
    trees.value = {};
    lanes.value = [];
    for (const model of open) addLane(model);
    chosenLane.value = lanes.value[0]?.id;
  });
  // Errors for already deleted states are ignored.
  await Promise.allSettled(unnamed.map(deleteState));
}

function quiet(kind: 'fork' | 'kept', parent: string | undefined, state: StoredState): Turn {
  return { id: randomHex(16), parent, kind, said: '', answer: '', status: 'done', state };
}
