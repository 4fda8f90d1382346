/** Sending messages, and receiving answers. */
import { batch, computed, signal } from '@preact/signals';
import { randomHex } from '../../../src/platform/random-hex.js';
import { ApiError, type ChatRequest, type StoredState } from '../api.js';
import { chat, deleteState } from '../hosts/hosts.js';
import { report } from '../parts/status.js';
import { pathTo, requestFor, standOf, type Turn } from './conversation.js';
import {
  addTurn,
  forget,
  type Lane,
  lanes,
  modelOf,
  refreshKept,
  replaceTurn,
  rewind,
  sampling,
  treeOf,
  updateTurn,
} from './lanes.js';

interface Writing {
  readonly controller: AbortController;
  readonly model: string;
  readonly turn: string;
}

/** The answers in progress, by lane. */
const writing = signal<ReadonlyMap<string, Writing>>(new Map());
export const busy = computed(() => writing.value.size > 0);

/** The turns whose answers arrive in this tab. */
export const arriving = computed(() => new Set([...writing.value.values()].map(({ turn }) => turn)));

export const isWriting = (lane: Lane): boolean => writing.value.has(lane.id);

/** Whether the page is being closed, which breaks its connections before its scripts end. */
let leaving = false;
addEventListener('beforeunload', () => {
  leaving = true;
});

/** Sends a message in every lane. */
export async function say(said: string): Promise<void> {
  await Promise.all(lanes.value.map((lane) => sayIn(lane, said)));
}

/** Repeats the last turn of a lane: in a new branch, or in place of the turn if it failed before any answer. */
export async function regenerate(lane: Lane): Promise<void> {
  const last = lastTurn(lane);
  if (!last || isWriting(lane)) return;
  if (last.status === 'failed' && last.answer === '') await answerIn(lane, last);
  else await sayIn({ ...lane, head: last.parent }, last.said);
}

/**
 * Continues the last answer of a lane where it was cut or stopped. A model without a chat template reads the partial answer and
 * continues it. A template closes every answer, so a model with one is asked to continue in a new turn.
 */
export async function goOn(lane: Lane): Promise<void> {
  const last = lastTurn(lane);
  if (!last || isWriting(lane)) return;
  if (modelOf(lane)?.chat) return sayIn(lane, 'Continue');
  // A turn that has a name or a successor is not changed.
  const isFree = !last.state?.name && !treeOf(lane).some(({ parent }) => parent === last.id);
  if (isFree) return answerIn(lane, last, last.answer);
  const { state: _, ...copy } = last;
  const beside = { ...copy, id: randomHex(16) };
  batch(() => {
    addTurn(lane.model, beside);
    rewind(lane, beside.id);
  });
  return answerIn(lane, beside, last.answer);
}

/** Stops the answers of all lanes, or of one. */
export function stop(lane?: Lane): void {
  if (lane) writing.value.get(lane.id)?.controller.abort();
  else for (const { controller } of writing.value.values()) controller.abort();
}

/** Stops the answers of a page that is being closed, which does not run until they have ended. */
export function abandon(): void {
  for (const { model, turn } of writing.value.values()) updateTurn(model, turn, { status: 'stopped' });
  stop();
}

function lastTurn(lane: Lane): Turn | undefined {
  const last = pathTo(treeOf(lane), lane.head).at(-1);
  return last?.kind === 'turn' ? last : undefined;
}

async function sayIn(lane: Lane, said: string): Promise<void> {
  if (isWriting(lane)) return;
  const parent = standOf(treeOf(lane), lane.head);
  const system = parent === undefined && modelOf(lane)?.chat ? sampling.value.system.trim() : '';
  const turn: Turn = {
    ...{ id: randomHex(16), parent, kind: 'turn', said, answer: '', status: 'writing' },
    ...(system !== '' && { system }),
  };
  batch(() => {
    addTurn(lane.model, turn);
    rewind(lane, turn.id);
  });
  await answerIn(lane, turn);
}

/** Requests the answer of a turn; with `begun`, the answer continues that text. */
async function answerIn(lane: Lane, turn: Turn, begun = ''): Promise<void> {
  const { model } = lane;
  const { state: before, outcome: _, problem: __, tokensPerSecond: ___, thoughts, ...asked } = turn;
  leaving = false;
  const controller = new AbortController();
  const answer = new Answer(model, turn.id, begun);
  batch(() => {
    writing.value = new Map(writing.value).set(lane.id, { controller, model, turn: turn.id });
    replaceTurn(model, {
      ...asked,
      ...(begun !== '' && thoughts !== undefined && { thoughts }),
      ...{ answer: begun, status: 'writing', began: Date.now() },
    });
  });
  try {
    const outcome = await answered(lane, asked, answer, begun, controller.signal);
    answer.flush();
    const tokensPerSecond = outcome.writtenTokens / ((performance.now() - answer.began) / 1000);
    const { state } = outcome;
    updateTurn(model, turn.id, { status: 'done', outcome, tokensPerSecond, ...(state && { state }) });
    release(before);
  } catch (error) {
    answer.flush();
    const { aborted } = controller.signal;
    const isUnchanged = begun !== '' && answer.text === begun;
    if (isUnchanged) replaceTurn(model, turn);
    else {
      release(before);
      if (aborted || leaving) updateTurn(model, turn.id, { status: 'stopped' });
      else updateTurn(model, turn.id, { status: 'failed', problem: (error as Error).message });
    }
    // A turn that failed says itself why.
    const isLocked = error instanceof ApiError && error.status === 401;
    if (!aborted && (isUnchanged || isLocked)) report(error);
  } finally {
    const left = new Map(writing.value);
    left.delete(lane.id);
    writing.value = left;
  }
}

/** Deletes the state after an answer that has become longer, unless it has a name; an error for an already deleted state is ignored. */
function release(state: StoredState | undefined): void {
  if (state && !state.name) deleteState(state.id).catch(() => {});
}

/** Requests an answer; if the server no longer has a state, the conversation is read again from an earlier one. */
async function answered(lane: Lane, turn: Turn, answer: Answer, begun: string, signal: AbortSignal) {
  const { temperature, topP, maxTokens, seed } = sampling.value;
  for (;;) {
    const { state, messages } = requestFor(treeOf(lane), turn, begun);
    const request: ChatRequest = {
      model: lane.model,
      messages,
      max_tokens: maxTokens,
      ...(state !== undefined && { state }),
      ...(temperature !== undefined && { temperature }),
      ...(topP !== undefined && { top_p: topP }),
      ...(seed !== undefined && { seed }),
    };
    const sent = messages.reduce((sum, { content }) => sum + content.length, 0);
    updateTurn(lane.model, turn.id, { sent });
    try {
      return await chat(request, (text, thoughts) => answer.add(text, thoughts), signal);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404 && state !== undefined)) throw error;
      forget(state);
      await refreshKept();
    }
  }
}

/** An answer in progress, which updates the tree once per frame. */
class Answer {
  /** The time of its first part. */
  began = performance.now();
  private hasBegun = false;
  private thoughts = '';
  private frame = 0;

  constructor(
    private readonly model: string,
    private readonly turn: string,
    public text: string,
  ) {}

  add(text: string, thoughts: string): void {
    if (!this.hasBegun) this.began = performance.now();
    this.hasBegun = true;
    this.text += text;
    this.thoughts += thoughts;
    this.frame ||= requestAnimationFrame(() => this.flush());
  }

  flush(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { text: answer, thoughts } = this;
    updateTurn(this.model, this.turn, { answer, ...(thoughts !== '' && { thoughts }) });
  }
}
