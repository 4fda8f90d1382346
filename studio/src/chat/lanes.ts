/** The lanes, and the trees of turns: one tree per model. */
import { batch, computed, signal } from '@preact/signals';
import { randomHex } from '../../../src/platform/random-hex.js';
import type { ModelInfo, StoredState } from '../api.js';
import { listStates } from '../hosts/hosts.js';
import { type Tree, type Turn, timeAfter } from './conversation.js';
import { type Lane, restoreChat } from './stored-chat.js';

export type { Lane } from './stored-chat.js';

const stored = restoreChat();
export const trees = signal(stored.trees);
export const lanes = signal(stored.lanes);
export const sampling = signal(stored.sampling);
/** When the chat was begun with no turns, in milliseconds since 1970: turns of a tab that has an older one are discarded. */
export const begun = signal(stored.begun);
export const models = signal<readonly ModelInfo[] | undefined>(undefined);
/** The states that have a name. */
export const keptStates = signal<readonly StoredState[]>([]);
/** The lane whose memory panel is shown. */
export const chosenLane = signal(stored.lanes[0]?.id);
export const activeLane = computed(
  () => lanes.value.find(({ id }) => id === chosenLane.value) ?? lanes.value[0],
);

export const treeOf = (lane: Lane): Tree => trees.value[lane.model] ?? [];

export const modelOf = (lane: Lane): ModelInfo['heddle'] | undefined =>
  models.value?.find(({ id }) => id === lane.model)?.heddle;

/** The lane's model, with a number if the model has several lanes. */
export function laneName({ id, model }: Lane): string {
  const same = lanes.value.filter((lane) => lane.model === model);
  return same.length > 1 ? `${model} ${1 + same.findIndex((lane) => lane.id === id)}` : model;
}

export function addLane(model: string, head?: string): Lane {
  const lane: Lane = { id: randomHex(16), model, head };
  batch(() => {
    lanes.value = [...lanes.value, lane];
    chosenLane.value = lane.id;
  });
  return lane;
}

/** Moves a lane to a turn, which the next message follows. */
export function rewind(lane: Lane, head: string | undefined): void {
  lanes.value = lanes.value.map((each) => (each.id === lane.id ? { ...each, head } : each));
}

export function addTurn(model: string, turn: Turn): void {
  const tree = trees.value[model] ?? [];
  trees.value = { ...trees.value, [model]: [...tree, { ...turn, changed: Date.now() }] };
}

/** Replaces the turn with the same id. */
export function replaceTurn(model: string, turn: Turn): void {
  changeTurn(model, turn.id, () => turn);
}

export function updateTurn(model: string, id: string, change: Partial<Turn>): void {
  changeTurn(model, id, (turn) => ({ ...turn, ...change }));
}

function changeTurn(model: string, id: string, changed: (turn: Turn) => Turn): void {
  const tree = trees.value[model] ?? [];
  trees.value = {
    ...trees.value,
    [model]: tree.map((turn) =>
      turn.id === id ? { ...changed(turn), changed: timeAfter(turn.changed) } : turn,
    ),
  };
}

/** Removes a deleted state from the turns. */
export function forget(state: string): void {
  const without = (turn: Turn): Turn => {
    if (turn.state?.id !== state) return turn;
    const { state: _, ...rest } = turn;
    return { ...rest, changed: timeAfter(turn.changed) };
  };
  trees.value = Object.fromEntries(
    Object.entries(trees.value).map(([model, tree]) => [model, tree.map(without)]),
  );
}

export async function refreshKept(): Promise<void> {
  keptStates.value = (await listStates()).filter(({ name }) => name);
}
