/** What the server is asked for. */

import type { TraceJson } from '../../src/inspect/trace.js';
import { eventsOf } from '../../src/server/sse-client.js';
import type { RunLog, ServedFiles, TraceRequest, TrainingRuns } from '../../src/server/studio-api.js';
import { connectionLost } from './parts/connection.js';

/** What the server says is wrong; the status is 0 where it does not answer at all. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

const KEY = 'heddle.key';

/** The key for a server that wants one; it is forgotten with the tab. */
export function keepKey(key: string): void {
  sessionStorage.setItem(KEY, key);
}

export const keptKey = (): string | undefined => sessionStorage.getItem(KEY) ?? undefined;

export interface ModelInfo {
  readonly id: string;
  readonly heddle: {
    readonly pattern: string;
    readonly parameters: number;
    /** Tokens that a conversation may have. */
    readonly context: number;
    /** Whether it has a chat template; another goes on from what is said. */
    readonly chat: boolean;
  };
}

/** A memory that the server holds. */
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
  /** What an assistant thought before it answered. */
  readonly reasoning_content?: string;
}

export interface ChatRequest {
  readonly model: string;
  readonly messages: readonly Message[];
  /** What was read and written before the messages. */
  readonly state?: string;
  /** The model's own where they are absent. */
  readonly temperature?: number;
  readonly top_p?: number;
  readonly max_tokens: number;
  readonly seed?: number;
}

/** What an answer took. */
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

export const forkState = (id: string, name?: string): Promise<StoredState> =>
  sendJson(`/v1/states/${encodeURIComponent(id)}/fork`, 'POST', name === undefined ? {} : { name });

export const nameState = (id: string, name: string): Promise<StoredState> =>
  sendJson(`/v1/states/${encodeURIComponent(id)}`, 'PATCH', { name });

export const deleteState = async (id: string): Promise<void> => {
  await send(`/v1/states/${encodeURIComponent(id)}`, { method: 'DELETE' });
};

export const trace = (request: TraceRequest): Promise<TraceJson> =>
  sendJson('/studio/api/trace', 'POST', request);

/** Where the files of a model are, for a tab that runs it. */
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

/** Asks for an answer, which `onPart` gets as it is written, text and thoughts, and has the memory after it kept. */
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

export async function sendJson<T>(
  path: string,
  method: string,
  body: unknown,
  signal?: AbortSignal,
): Promise<T> {
  const response = await send(path, { method, ...json(body), ...(signal && { signal }) });
  return (await response.json()) as T;
}

/** Throws `ApiError` with the server's own words for any answer but a good one. */
export async function send(path: string, init: RequestInit): Promise<Response> {
  const key = keptKey();
  const headers = new Headers(init.headers);
  if (key !== undefined) headers.set('authorization', `Bearer ${key}`);
  const response = await fetch(path, { ...init, headers }).catch(unreachable);
  if (response.ok) return response;
  const problem = (await response.json().catch(() => undefined)) as ChatChunk | undefined;
  throw new ApiError(problem?.error?.message ?? `The server answered ${response.status}`, response.status);
}

/** Sends the bytes of a file, and tells which share of them is sent. Throws as `send` does. */
export function sendFile<T>(
  path: string,
  file: Blob,
  progress: (share: number) => void,
): Promise<{ status: number; answer: T }> {
  // fetch does not tell how much is sent.
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

/** The same events; a connection that breaks between them is told of as one that was never there. */
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
