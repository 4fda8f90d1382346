/** What can be asked for, as data: the OpenAPI document is made of it. */
import type { z } from 'zod';
import { Embeddings, EmbeddingsRequest } from './embeddings.js';
import {
  DeletedResponse,
  InputItemList,
  ModelResponse,
  ResponseEvent,
  ResponsesRequest,
} from './responses/schemas.js';
import {
  ChatChunk,
  ChatCompletion,
  ChatRequest,
  CompletionRequest,
  DeletedState,
  ForkRequest,
  Health,
  ModelCard,
  ModelList,
  NewStateRequest,
  RenameRequest,
  State,
  StateList,
  StateWithMessages,
  TextCompletion,
} from './schemas.js';

export interface Operation {
  readonly method: 'get' | 'post' | 'patch' | 'delete';
  /** Parameters of the path as `{name}`. */
  readonly path: string;
  readonly summary: string;
  /** The name of the request's schema, and the schema. */
  readonly body?: readonly [string, z.ZodType];
  readonly status: 200 | 201;
  readonly answer: readonly [string, z.ZodType] | 'text/plain';
  /** What the events are where `stream` is true. */
  readonly events?: readonly [string, z.ZodType];
  /** Whether it is for everybody, with a key or without. */
  readonly open?: boolean;
}

export const OPERATIONS: readonly Operation[] = [
  {
    method: 'get',
    path: '/v1/models',
    summary: 'The models that are served.',
    status: 200,
    answer: ['ModelList', ModelList],
  },
  {
    method: 'get',
    path: '/v1/models/{model}',
    summary: 'One of them.',
    status: 200,
    answer: ['Model', ModelCard],
  },
  {
    method: 'post',
    path: '/v1/chat/completions',
    summary: 'Answers a conversation. A model without a chat template goes on from what was said.',
    body: ['ChatRequest', ChatRequest],
    status: 200,
    answer: ['ChatCompletion', ChatCompletion],
    events: ['ChatChunk', ChatChunk],
  },
  {
    method: 'post',
    path: '/v1/completions',
    summary: 'Goes on from a text.',
    body: ['CompletionRequest', CompletionRequest],
    status: 200,
    answer: ['TextCompletion', TextCompletion],
    events: ['TextCompletion', TextCompletion],
  },
  {
    method: 'post',
    path: '/v1/responses',
    summary: 'Answers a conversation, as a list of items: what was thought, said and called.',
    body: ['ResponsesRequest', ResponsesRequest],
    status: 200,
    answer: ['Response', ModelResponse],
    events: ['ResponseEvent', ResponseEvent],
  },
  {
    method: 'get',
    path: '/v1/responses/{id}',
    summary: 'A response, as long as it is kept.',
    status: 200,
    answer: ['Response', ModelResponse],
  },
  {
    method: 'get',
    path: '/v1/responses/{id}/input_items',
    summary: 'What was new in its request, the last first unless `order` is `asc`.',
    status: 200,
    answer: ['InputItemList', InputItemList],
  },
  {
    method: 'delete',
    path: '/v1/responses/{id}',
    summary: 'Forgets a response.',
    status: 200,
    answer: ['DeletedResponse', DeletedResponse],
  },
  {
    method: 'post',
    path: '/v1/embeddings',
    summary: 'Texts as vectors: the mean of the hidden states of their tokens, at unit length.',
    body: ['EmbeddingsRequest', EmbeddingsRequest],
    status: 200,
    answer: ['Embeddings', Embeddings],
  },
  {
    method: 'post',
    path: '/v1/states',
    summary: 'Reads a conversation or a text and keeps the state, or forks one.',
    body: ['NewStateRequest', NewStateRequest],
    status: 201,
    answer: ['State', State],
  },
  {
    method: 'get',
    path: '/v1/states',
    summary: 'The states that are kept, the newest first.',
    status: 200,
    answer: ['StateList', StateList],
  },
  {
    method: 'get',
    path: '/v1/states/{id}',
    summary: 'One of them, with its conversation.',
    status: 200,
    answer: ['StateWithMessages', StateWithMessages],
  },
  {
    method: 'post',
    path: '/v1/states/{id}/fork',
    summary: 'The same state under another id.',
    body: ['ForkRequest', ForkRequest],
    status: 201,
    answer: ['State', State],
  },
  {
    method: 'patch',
    path: '/v1/states/{id}',
    summary: 'Names a state.',
    body: ['RenameRequest', RenameRequest],
    status: 200,
    answer: ['State', State],
  },
  {
    method: 'delete',
    path: '/v1/states/{id}',
    summary: 'Forgets a state.',
    status: 200,
    answer: ['DeletedState', DeletedState],
  },
  {
    method: 'get',
    path: '/healthz',
    summary: 'Whether requests are answered; 503 where they are not.',
    status: 200,
    answer: ['Health', Health],
    open: true,
  },
  {
    method: 'get',
    path: '/metrics',
    summary: 'What Prometheus reads.',
    status: 200,
    answer: 'text/plain',
  },
];
