/** Hosts of models: the studio's server, or this tab. */
import type { TraceJson } from '../../../src/inspect/trace.js';
import type { TraceRequest } from '../../../src/server/studio-api.js';
import type { ChatOutcome, ChatRequest, ModelInfo, StoredState } from '../api.js';

export interface Host {
  listModels(): Promise<readonly ModelInfo[]>;
  /** The states that it stores. */
  listStates(): Promise<readonly StoredState[]>;
  /** Whether it has a model or a state of this name. */
  has(name: string): boolean;
  /** Requests an answer, streamed to `onPart` as text and thoughts, and stores the state after it. */
  chat(
    request: ChatRequest,
    onPart: (text: string, thoughts: string) => void,
    signal: AbortSignal,
  ): Promise<ChatOutcome>;
  forkState(id: string): Promise<StoredState>;
  nameState(id: string, name: string): Promise<StoredState>;
  deleteState(id: string): Promise<void>;
  trace(request: TraceRequest): Promise<TraceJson>;
}

let hosts: readonly Host[] = [];

/** Sets the hosts; the last one gets requests for unknown names. */
export function runOn(...all: readonly Host[]): void {
  hosts = all;
}

/** Whether there is another host beside this tab. */
export const isServed = (): boolean => hosts.length > 1;

const hostOf = (name: string): Host => hosts.find((host) => host.has(name)) ?? hosts.at(-1)!;

export const listModels = async (): Promise<readonly ModelInfo[]> =>
  (await Promise.all(hosts.map((host) => host.listModels()))).flat();

export const listStates = async (): Promise<readonly StoredState[]> =>
  (await Promise.all(hosts.map((host) => host.listStates()))).flat();

export const chat: Host['chat'] = (request, ...rest) => hostOf(request.model).chat(request, ...rest);

export const trace: Host['trace'] = (request) => hostOf(request.model).trace(request);

export const forkState: Host['forkState'] = (id) => hostOf(id).forkState(id);

export const nameState: Host['nameState'] = (id, name) => hostOf(id).nameState(id, name);

export const deleteState: Host['deleteState'] = (id) => hostOf(id).deleteState(id);
