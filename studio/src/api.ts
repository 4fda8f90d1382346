/** Requests to the server. */

import type { TraceJson } from '../../src/inspect/trace.js';
import { eventsOf } from '../../src/server/sse-client.js';
import type { RunLog, ServedFiles, TraceRequest, TrainingRuns } from '../../src/server/studio-api.js';
import { connectionLost } from './parts/connection.js';

/** An error of the server, with its status; 0 if it does not answer. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

const KEY = 'heddle.key';

/** Stores the API key for the lifetime of the tab. */
export function keepKey(key: string): void {
  sessionStorage.setItem(KEY, key);
}

export const keptKey = (): string | undefined => sessionStorage.getItem(KEY) ?? undefined;

export interface ModelInfo {
  readonly id: string;
  readonly heddle: {
    readonly pattern: string;
    readonly parameters: number;
    readonly hidden_size: number;
    /** The most tokens of a conversation. */
    readonly context: number;
    /** Whether it has a chat template; without one, it continues the text. */
    readonly chat: boolean;
  };
}

/** A state that the server stores. */
export interface StoredState {
  readonly id: string;
  readonly model: string;
  /** Seconds since 1970. */
  readonly created: number;
  readonly tokens: number;
  readonly bytes: number;
  readonly name?: string | null;
}

export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
  /** The assistant's thought before the answer. */
  readonly reasoning_content?: string;
}

export interface ChatRequest {
  readonly model: string;
  readonly messages: readonly Message[];
  /** The id of the state before the messages. */
  readonly state?: string;
  /** Default: the model's own. */
  readonly temperature?: number;
  readonly top_p?: number;
  readonly max_tokens: number;
  readonly seed?: number;
}

/** The outcome of an answer. */
export interface ChatOutcome {
  readonly state: StoredState | undefined;
  readonly reusedTokens: number;
  readonly readTokens: number;
  readonly writtenTokens: number;
  readonly stateBytes: number;
  readonly finishReason: string;
}

export const listModels = async (): Promise<readonly ModelInfo[]> =>
  (await getJson<{ data: ModelInfo[] }>('/v1/models')).data;

export const listStates = async (): Promise<readonly StoredState[]> =>
  (await getJson<{ data: StoredState[] }>('/v1/states')).data;

export const forkState = (id: string): Promise<StoredState> =>
  sendJson(`/v1/states/${encodeURIComponent(id)}/fork`, 'POST', {});

export const nameState = (id: string, name: string): Promise<StoredState> =>
  sendJson(`/v1/states/${encodeURIComponent(id)}`, 'PATCH', { name });

export const deleteState = async (id: string): Promise<void> => {
  await send(`/v1/states/${encodeURIComponent(id)}`, { method: 'DELETE' });
};

export const trace = (request: TraceRequest): Promise<TraceJson> =>
  sendJson('/studio/api/trace', 'POST', request);

/** The addresses of a model's files, for a tab that runs it. */
export const modelFiles = (model: string): Promise<ServedFiles> =>
  getJson(`/studio/api/models/${encodeURIComponent(model)}`);

export const listRuns = (): Promise<TrainingRuns> => getJson('/studio/api/runs');

export const readRun = (id: string, from: string | undefined): Promise<RunLog> =>
  getJson(`/studio/api/runs/${id}${from === undefined ? '' : `?from=${from}`}`);

interface Delta {
  readonly content?: string | null;
  readonly reasoning_content?: string | null;
}

interface ChatChunk {
  readonly choices?: readonly { delta?: Delta; finish_reason?: string | null }[];
  readonly usage?: { completion_tokens: number } | null;
  readonly heddle?: {
    state?: StoredState;
    reused_tokens: number;
    read_tokens: number;
    state_bytes: number;
  };
  readonly error?: { message: string };
}

/** Requests an answer, streamed to `onPart` as text and thoughts, and lets the server store the state after it. */
export async function chat(
  request: ChatRequest,
  onPart: (text: string, thoughts: string) => void,
  signal: AbortSignal,
): Promise<ChatOutcome> {
  const body = { ...request, stream: true, stream_options: { include_usage: true }, save_state: true };
  const response = await send('/v1/chat/completions', { method: 'POST', ...json(body), signal });
  let finishReason = 'stop';
  let writtenTokens = 0;
  let held: ChatChunk['heddle'];
  for await (const data of receiving(eventsOf(response))) {
    if (data === '[DONE]') break;
    const chunk = JSON.parse(data) as ChatChunk;
    if (chunk.error) throw new ApiError(chunk.error.message, 500);
    const [choice] = chunk.choices ?? [];
    const { content, reasoning_content: thoughts } = choice?.delta ?? {};
    if (content || thoughts) onPart(content ?? '', thoughts ?? '');
    if (choice?.finish_reason) finishReason = choice.finish_reason;
    if (chunk.usage) writtenTokens = chunk.usage.completion_tokens;
    if (chunk.heddle) held = chunk.heddle;
  }
  return {
    state: held?.state,
    reusedTokens: held?.reused_tokens ?? 0,
    readTokens: held?.read_tokens ?? 0,
    stateBytes: held?.state_bytes ?? 0,
    writtenTokens,
    finishReason,
  };
}

export const json = (body: unknown): RequestInit => ({
  body: JSON.stringify(body),
  headers: { 'content-type': 'application/json' },
});

export async function getJson<T>(path: string): Promise<T> {
  return (await (await send(path, {})).json()) as T;
}

export async function sendJson<T>(path: string, method: string, body: unknown): Promise<T> {
  const response = await send(path, { method, ...json(body) });
  return (await response.json()) as T;
}

/** Throws `ApiError` with the server's message for a failed request. */
export async function send(path: string, init: RequestInit): Promise<Response> {
  const key = keptKey();
  const headers = new Headers(init.headers);
  if (key !== undefined) headers.set('authorization', `Bearer ${key}`);
  const response = await fetch(path, { ...init, headers }).catch(unreachable);
  if (response.ok) return response;
  const problem = (await response.json().catch(() => undefined)) as ChatChunk | undefined;
  throw new ApiError(problem?.error?.message ?? `The server answered ${response.status}`, response.status);
}

/** Uploads a file and reports the share that has been sent. Throws as `send` does. */
export function sendFile<T>(
  path: string,
  file: Blob,
  progress: (share: number) => void,
): Promise<{ status: number; answer: T }> {
  // `fetch` does not report upload progress.
  const request = new XMLHttpRequest();
  return new Promise<{ status: number; answer: T }>((resolve, reject) => {
    request.open('POST', path);
    request.responseType = 'json';
    const key = keptKey();
    if (key !== undefined) request.setRequestHeader('authorization', `Bearer ${key}`);
    request.setRequestHeader('content-type', 'application/octet-stream');
    request.upload.onprogress = ({ loaded, total }) => progress(total === 0 ? 1 : loaded / total);
    request.onerror = () => reject(new Error('the connection broke'));
    request.onload = () => {
      const { status, response } = request;
      if (status >= 200 && status < 300) resolve({ status, answer: response as T });
      else {
        const said = (response as ChatChunk | null)?.error?.message;
        reject(new ApiError(said ?? `The server answered ${status}`, status));
      }
    };
    request.send(file);
  });
}

/** Passes the events on; a connection that breaks in between throws `ApiError` with status 0. */
export async function* receiving(events: AsyncGenerator<string>): AsyncGenerator<string> {
  try {
    yield* events;
  } catch (error) {
    unreachable(error as Error);
  }
}

function unreachable(error: Error): never {
  if (error.name === 'AbortError') throw error;
  connectionLost();
  throw new ApiError('no connection to the server', 0);
}
