/** The server's own errors, and the transfer of errors between threads. */
import * as general from '../errors.js';

const { HeddleError } = general;

/** The client disconnected before its answer was complete. */
export class CancelledError extends HeddleError {
  constructor(message = 'the caller went away') {
    super('cancelled', message);
  }
}

/** The engine's thread has ended. */
export class EngineEndedError extends HeddleError {
  constructor(message: string) {
    super('engine_ended', message);
  }
}

/** No model of that name is served. */
export class UnknownModelError extends HeddleError {
  constructor(message: string) {
    super('model_not_found', message);
  }
}

/** The queue of requests is full. */
export class OverloadedError extends HeddleError {
  constructor(message: string) {
    super('overloaded', message);
  }
}

/** A prompt does not fit into the context. */
export class ContextError extends HeddleError {
  constructor(message: string) {
    super('context_length_exceeded', message);
  }
}

type ErrorClass = new (message: string) => Error;

const { HeddleError: _, ...generalKinds } = general;
const KINDS: ReadonlyMap<string, ErrorClass> = new Map(
  [
    ...(Object.values(generalKinds) as ErrorClass[]),
    CancelledError,
    EngineEndedError,
    OverloadedError,
    UnknownModelError,
    ContextError,
  ].map((kind) => [kind.name, kind]),
);

/** An error as a plain value. */
export interface Failure {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
}

/** An error as a plain value, which can be sent to another thread. */
export function failureOf(error: unknown): Failure {
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
  return { name, message, stack };
}

/** The inverse of `failureOf`. */
export function errorOf({ name, message, stack }: Failure): Error {
  const error = new (KINDS.get(name) ?? Error)(message);
  if (stack !== undefined) error.stack = stack;
  return error;
}
