/** The chat's state: a tree of turns for each model, and the lanes that are open on them. */
import { batch, computed, effect, signal } from '@preact/signals';
import {
  ApiError,
  chat,
  deleteState,
  forkState,
  listModels,
  listStates,
  type ModelInfo,
  nameState,
  type StoredState,
} from '../api.js';
import { announce, report } from '../parts/status.js';
import { continuation, pathTo, type Tree, type Turn } from './conversation.js';

/** A place in a model's tree at which one goes on. */
export interface Lane {
  readonly id: string;
  readonly model: string;
  readonly head: string | undefined;
}

export interface Sampling {
  readonly temperature: number;
  readonly topP: number;
  readonly maxTokens: number;
  readonly seed: number | undefined;
}

interface Kept {
  readonly trees: Readonly<Record<string, Tree>>;
  readonly lanes: readonly Lane[];
  readonly sampling: Sampling;
}

const STORED = 'heddle.chat';
const FRESH: Kept = {
  trees: {},
  lanes: [],
  sampling: { temperature: 0.8, topP: 0.95, maxTokens: 160, seed: undefined },
};

const stored = restore();
export const trees = signal(stored.trees);
export const lanes = signal(stored.lanes);
export const sampling = signal(stored.sampling);
export const models = signal<readonly ModelInfo[] | undefined>(undefined);
export const keptStates = signal<readonly StoredState[]>([]);
/** The lane whose memory is shown. */
export const chosenLane = signal(stored.lanes[0]?.id);
export const activeLane = computed(
  () => lanes.value.find(({ id }) => id === chosenLane.value) ?? lanes.value[0],
);
/** What ends the answers that are being written, by lane. */
const writing = signal<ReadonlyMap<string, AbortController>>(new Map());
export const busy = computed(() => writing.value.size > 0);

effect(() => {
  // While an answer comes in, the tree changes with every frame.
  if (busy.value) return;
  const kept: Kept = { trees: trees.value, lanes: lanes.value, sampling: sampling.value };
  try {
    localStorage.setItem(STORED, JSON.stringify(kept));
  } catch {
    report(
      new Error('The browser has no room for more: this conversation is gone with the page. Begin anew.'),
    );
  }
});

function restore(): Kept {
  try {
    return { ...FRESH, ...(JSON.parse(localStorage.getItem(STORED) ?? '{}') as Partial<Kept>) };
  } catch {
    return FRESH;
  }
}

export const treeOf = (lane: Lane): Tree => trees.value[lane.model] ?? [];

export const isWriting = (lane: Lane): boolean => writing.value.has(lane.id);

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

export function addLane(model: string, head?: string): Lane {
  const lane: Lane = { id: crypto.randomUUID(), model, head };
  batch(() => {
    lanes.value = [...lanes.value, lane];
    chosenLane.value = lane.id;
  });
  return lane;
}

export function closeLane(lane: Lane): void {
  writing.value.get(lane.id)?.abort();
  lanes.value = lanes.value.filter(({ id }) => id !== lane.id);
}

/** Goes to a turn: what is said next comes behind it. */
export function rewind(lane: Lane, head: string | undefined): void {
  lanes.value = lanes.value.map((each) => (each.id === lane.id ? { ...each, head } : each));
}

/** Says something in every lane at once. */
export async function say(said: string): Promise<void> {
  await Promise.all(lanes.value.map((lane) => sayIn(lane, said)));
}

/** Says what the last turn of a lane said once more, behind what came before it. */
export function again(lane: Lane): Promise<void> {
  const last = pathTo(treeOf(lane), lane.head).at(-1);
  if (last?.kind !== 'turn') return Promise.resolve();
  const back = { ...lane, head: last.parent };
  rewind(lane, last.parent);
  return sayIn(back, last.said);
}

export function stop(): void {
  for (const controller of writing.value.values()) controller.abort();
}

async function sayIn(lane: Lane, said: string): Promise<void> {
  if (isWriting(lane)) return;
  const turn: Turn = {
    id: crypto.randomUUID(),
    parent: lane.head,
    kind: 'turn',
    said,
    answer: '',
    status: 'writing',
  };
  const controller = new AbortController();
  batch(() => {
    writing.value = new Map(writing.value).set(lane.id, controller);
    trees.value = { ...trees.value, [lane.model]: [...treeOf(lane), turn] };
    rewind(lane, turn.id);
  });
  try {
    const answer = new Answer(lane.model, turn.id);
    const outcome = await answered(lane, said, answer, controller.signal);
    answer.flush();
    const tokensPerSecond = outcome.writtenTokens / ((performance.now() - answer.began) / 1000);
    const state = outcome.state;
    update(lane.model, turn.id, { status: 'done', outcome, tokensPerSecond, ...(state && { state }) });
    announce(`${lane.model}: ${answer.text}`);
  } catch (error) {
    if (controller.signal.aborted) update(lane.model, turn.id, { status: 'stopped' });
    else {
      update(lane.model, turn.id, { status: 'failed', problem: (error as Error).message });
      report(error);
    }
  } finally {
    const left = new Map(writing.value);
    left.delete(lane.id);
    writing.value = left;
  }
}

/** An answer; where the server no longer has a memory on the way, it is read again from what is known before it. */
async function answered(lane: Lane, said: string, answer: Answer, signal: AbortSignal) {
  const { temperature, topP, maxTokens, seed } = sampling.value;
  for (;;) {
    const sent = continuation(treeOf(lane), lane.head, said);
    const request = {
      model: lane.model,
      ...sent,
      temperature,
      top_p: topP,
      max_tokens: maxTokens,
      ...(seed !== undefined && { seed }),
    };
    try {
      return await chat(request, (text) => answer.add(text), signal);
    } catch (error) {
      const gone = error instanceof ApiError && error.status === 404 && sent.state !== undefined;
      if (!gone) throw error;
      forget(sent.state!);
    }
  }
}

/** Collects what arrives, and shows it once a frame. */
class Answer {
  /** When the first of it came. */
  began = performance.now();
  text = '';
  private frame = 0;

  constructor(
    private readonly model: string,
    private readonly turn: string,
  ) {}

  add(text: string): void {
    if (this.text === '') this.began = performance.now();
    this.text += text;
    this.frame ||= requestAnimationFrame(() => this.flush());
  }

  flush(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    update(this.model, this.turn, { answer: this.text });
  }
}

function update(model: string, turn: string, change: Partial<Turn>): void {
  const tree = trees.value[model] ?? [];
  trees.value = {
    ...trees.value,
    [model]: tree.map((each) => (each.id === turn ? { ...each, ...change } : each)),
  };
}

/** Takes a memory that is gone off the turns. */
function forget(state: string): void {
  const without = ({ state: own, ...turn }: Turn): Turn =>
    own && own.id !== state ? { ...turn, state: own } : turn;
  trees.value = Object.fromEntries(
    Object.entries(trees.value).map(([model, tree]) => [model, tree.map(without)]),
  );
}

/** A copy of the memory where a lane stands, in a lane beside it. */
export async function fork(lane: Lane): Promise<void> {
  const head = treeOf(lane).find(({ id }) => id === lane.head);
  if (!head?.state) return;
  const state = await forkState(head.state.id);
  const turn = quiet('fork', head.id, state);
  trees.value = { ...trees.value, [lane.model]: [...treeOf(lane), turn] };
  addLane(lane.model, turn.id);
  announce(`Forked at ${state.tokens} tokens: the copy is in a lane of its own`);
}

/** Names the memory of a turn; one with a name is kept when the conversation is cleared. */
export async function name(model: string, turn: Turn, name: string): Promise<void> {
  if (!turn.state) return;
  update(model, turn.id, { state: { ...turn.state, ...(await nameState(turn.state.id, name)), name } });
  await refreshKept();
  announce(`Kept as ${name}`);
}

/** A new beginning in a lane: with a memory that was kept. */
export function beginWith(state: StoredState): void {
  const turn = quiet('kept', undefined, state);
  const tree = trees.value[state.model] ?? [];
  const known = tree.find((each) => each.state?.id === state.id);
  if (!known) trees.value = { ...trees.value, [state.model]: [...tree, turn] };
  const head = (known ?? turn).id;
  const lane = lanes.value.find(({ model }) => model === state.model) ?? addLane(state.model);
  rewind(lane, head);
  chosenLane.value = lane.id;
}

export async function discard(state: StoredState): Promise<void> {
  await deleteState(state.id);
  forget(state.id);
  await refreshKept();
}

/** Begins anew with the models that are open. Memories without a name are given back to the server. */
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

async function refreshKept(): Promise<void> {
  keptStates.value = (await listStates()).filter(({ name }) => name);
}

function quiet(kind: 'fork' | 'kept', parent: string | undefined, state: StoredState): Turn {
  return { id: crypto.randomUUID(), parent, kind, said: '', answer: '', status: 'done', state };
}
