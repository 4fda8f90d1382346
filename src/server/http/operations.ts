/** The operations of the HTTP API, for the OpenAPI document. */
import type { z } from 'zod';
import {
  ArchiveDocument,
  ArchiveDocumentList,
  ArchiveHitList,
  ArchivePage,
  ArchiveProblemList,
  ArchiveTotals,
  AskEvent,
  AskRequest,
  RemovedDocument,
} from './archive-schemas.js';
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

/** One operation. */
export interface Operation {
  readonly method: 'get' | 'post' | 'patch' | 'delete';
  /** With path parameters as `{name}`. */
  readonly path: string;
  readonly summary: string;
  /** Descriptions of the query parameters. */
  readonly query?: Readonly<Record<string, string>>;
  /** The name of the request's schema, and the schema; or the type of bytes. */
  readonly body?: readonly [string, z.ZodType] | 'application/octet-stream';
  readonly status: 200 | 201;
  readonly answer: readonly [string, z.ZodType] | 'text/plain' | 'image/png' | 'text/event-stream';
  /** The schema of streamed events, if `stream` is true or always. */
  readonly events?: readonly [string, z.ZodType];
  /** Whether it needs no API key. */
  readonly open?: boolean;
}

/** All operations. */
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
    path: '/v1/archive',
    summary: 'How much the archive has: files, documents and pages by their state, and what is left to read.',
    status: 200,
    answer: ['ArchiveTotals', ArchiveTotals],
  },
  {
    method: 'get',
    path: '/v1/archive/documents',
    summary: 'Its documents, by name.',
    query: { limit: 'How many, at most 1000; 200 by default.', skip: 'How many are left out before them.' },
    status: 200,
    answer: ['ArchiveDocumentList', ArchiveDocumentList],
  },
  {
    method: 'post',
    path: '/v1/archive/documents',
    summary: 'Adds a document, whose bytes are the body; 200 for one that is there already.',
    query: { name: 'The name of the file, such as contract.pdf.' },
    body: 'application/octet-stream',
    status: 201,
    answer: ['ArchiveDocument', ArchiveDocument],
  },
  {
    method: 'get',
    path: '/v1/archive/documents/{id}',
    summary: "One of them, by its content's hash, the beginning of that, its path, or the path's end.",
    status: 200,
    answer: ['ArchiveDocument', ArchiveDocument],
  },
  {
    method: 'delete',
    path: '/v1/archive/documents/{id}',
    summary:
      "Removes it with its text and states, by its content's whole hash. A file that was uploaded is deleted; others stay.",
    status: 200,
    answer: ['RemovedDocument', RemovedDocument],
  },
  {
    method: 'get',
    path: '/v1/archive/documents/{id}/pages/{page}',
    summary: 'The text of a page, and its state.',
    status: 200,
    answer: ['ArchivePage', ArchivePage],
  },
  {
    method: 'get',
    path: '/v1/archive/documents/{id}/pages/{page}/image',
    summary: 'The page of a PDF, drawn.',
    query: { scale: 'Pixels a point, from 0.1 to 5; 1.5 by default.' },
    status: 200,
    answer: 'image/png',
  },
  {
    method: 'get',
    path: '/v1/archive/problems',
    summary: 'Files and pages that are not read, and why.',
    status: 200,
    answer: ['ArchiveProblemList', ArchiveProblemList],
  },
  {
    method: 'get',
    path: '/v1/archive/search',
    summary: 'Passages that have the words, with their pages and boxes.',
    query: {
      q: 'The words, or a question.',
      limit: 'How many, at most 100; 10 by default.',
      in: 'Only in this document; may be given several times.',
    },
    status: 200,
    answer: ['ArchiveHitList', ArchiveHitList],
  },
  {
    method: 'post',
    path: '/v1/archive/ask',
    summary: 'Answers a question from the documents, with the pages: as events, as it is written.',
    body: ['AskRequest', AskRequest],
    status: 200,
    answer: 'text/event-stream',
    events: ['AskEvent', AskEvent],
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
