/** Error responses in the format of OpenAI's API. */

import { z } from 'zod';
import {
  ArchiveError,
  ArchiveUnavailableError,
  ConfigError,
  DataError,
  HeddleError,
  InspectError,
  SnapshotError,
  StorageError,
  TokenizerError,
  UnknownDocumentError,
  UnknownStateError,
} from '../../errors.js';
import {
  CancelledError,
  ContextError,
  EngineEndedError,
  OverloadedError,
  UnknownModelError,
} from '../errors.js';
import { UNKNOWN } from './parameters.js';

/** The body of an error response, as in OpenAI's API. */
export const ErrorBody = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
  }),
});
/** An error as it is sent, in OpenAI's format. */
export type ErrorBody = z.infer<typeof ErrorBody>;

/** The status codes of failures. */
export type Status = 400 | 401 | 403 | 404 | 405 | 408 | 413 | 415 | 429 | 499 | 500 | 503;

const TYPES: Readonly<Record<Status, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'invalid_request_error',
  405: 'invalid_request_error',
  408: 'timeout_error',
  413: 'invalid_request_error',
  415: 'invalid_request_error',
  429: 'rate_limit_error',
  499: 'cancelled',
  500: 'server_error',
  503: 'server_error',
};

/** An error with its HTTP status. */
export class ApiError extends HeddleError {
  constructor(
    readonly status: Status,
    code: string,
    message: string,
    /** The parameter that is wrong, and headers of the response. */
    readonly about: { param?: string; headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(code, message);
  }

  get body(): ErrorBody {
    const { status, code, message, about } = this;
    return { error: { message, type: TYPES[status], param: about.param ?? null, code } };
  }
}

/** Status and code of the errors that requests can cause. All others are internal errors. */
const CAUSED = [
  [UnknownModelError, 404, 'model_not_found'],
  [UnknownStateError, 404, 'state_not_found'],
  [ContextError, 400, 'context_length_exceeded'],
  [DataError, 400, 'invalid_prompt'],
  [TokenizerError, 400, 'invalid_messages'],
  [ConfigError, 400, 'invalid_value'],
  [InspectError, 400, 'invalid_value'],
  [ArchiveUnavailableError, 503, 'archive_unavailable'],
  [UnknownDocumentError, 404, 'document_not_found'],
  [ArchiveError, 400, 'invalid_value'],
  [SnapshotError, 400, 'invalid_state'],
  [CancelledError, 499, 'cancelled'],
  [StorageError, 503, 'store_unavailable'],
  [EngineEndedError, 503, 'engine_ended'],
  [OverloadedError, 503, 'overloaded', { 'retry-after': '1' }],
] as const;

/** Any error as an `ApiError`. Internal errors do not reveal their message. */
export function apiErrorOf(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const found = CAUSED.find(([kind]) => error instanceof kind);
  if (found) {
    const [, status, code, headers] = found;
    return new ApiError(status, code, (error as Error).message, headers && { headers });
  }
  return new ApiError(500, 'internal_error', 'the server failed: its log says why');
}

/** The error for a parameter whose value cannot be used. */
export function invalidValue(param: string, message: string): ApiError {
  return new ApiError(400, 'invalid_value', message, { param });
}

/** The error for a request that does not match its schema: its first issue. */
export function invalid({ issues }: z.ZodError): ApiError {
  const { code, path, message } = nearest(issues[0]!);
  const param = path.map(String).join('.');
  const where = param === '' ? 'the request' : `'${param}'`;
  return new ApiError(
    400,
    code,
    code === UNKNOWN.code
      ? `the parameter ${where} ${message}`
      : `${where} is not what it should be: ${message}`,
    param === '' ? {} : { param },
  );
}

/** For a union, the issue of the alternative that the value is closest to. */
function nearest(issue: z.core.$ZodIssue): Nearest {
  const { path, message } = issue;
  if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    const [best] = issue.errors
      .map((branch) => nearest(branch[0]!))
      .sort((a, b) => a.distance - b.distance || b.path.length - a.path.length);
    // Where no alternative is near, all of them are named.
    if (best!.distance > 0 && best!.path.length === 0)
      return { code: 'invalid_value', path, message, distance: 1 };
    return { ...best!, path: [...path, ...best!.path] };
  }
  // The issue of an invalid key is nested.
  const told = issue.code === 'invalid_key' ? issue.issues[0]!.message : message;
  const known = issue.code === 'custom' ? (issue.params?.code as string | undefined) : undefined;
  return { code: known ?? 'invalid_value', path, message: told, distance: distance(issue) };
}

interface Nearest {
  readonly code: string;
  readonly path: PropertyKey[];
  readonly message: string;
  readonly distance: number;
}

/** Distance of an alternative: a value out of range is closer than another type, and a literal number is the farthest. */
function distance(issue: z.core.$ZodIssue): number {
  if (issue.code === 'invalid_type') return 1;
  if (issue.code !== 'invalid_value' || issue.values.length > 1) return 0;
  return typeof issue.values[0] === 'number' ? 2 : 1;
}
