/**
 * Remote procedure calls between threads, over a pair of message ports. A call streams pieces and returns a result; it can be cancelled, and
 * its errors arrive as instances of their classes.
 */
import type { MessagePort } from 'node:worker_threads';
import { CancelledError, EngineEndedError, errorOf, type Failure, failureOf } from '../errors.js';

/** The types of a call: its request, its pieces and its result. */
interface Call {
  request: unknown;
  piece: unknown;
  result: unknown;
}

/** Calls by name. */
type Calls<C> = Record<keyof C, Call>;

/** The implementations: asynchronous functions for calls without pieces, generators for the others. */
export type Handlers<C extends Calls<C>> = {
  [Name in keyof C]: (
    request: C[Name]['request'],
    signal: AbortSignal,
  ) => [C[Name]['piece']] extends [never]
    ? Promise<C[Name]['result']>
    : AsyncGenerator<C[Name]['piece'], C[Name]['result']>;
};

type ToServer =
  | { readonly id: number; readonly call: string; readonly request: unknown }
  | { readonly id: number; readonly cancel: true };

type FromServer =
  | { readonly id: number; readonly piece: unknown }
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly failure: Failure };

/** Answers the calls from a port until it closes, which cancels running calls. */
export function answerCalls<C extends Calls<C>>(port: MessagePort, handlers: Handlers<C>): void {
  const running = new Map<number, AbortController>();
  const post = (message: FromServer): void => port.postMessage(message);
  port.on('message', (message: ToServer) => {
    if ('cancel' in message) {
      running.get(message.id)?.abort(new CancelledError());
      return;
    }
    const { id, call, request } = message;
    const controller = new AbortController();
    running.set(id, controller);
    const handle = handlers[call as keyof C] as (request: unknown, signal: AbortSignal) => Answer;
    const begin = (): Answer => handle.call(handlers, request, controller.signal);
    void answer(begin, controller.signal, id, post).finally(() => running.delete(id));
  });
  port.on('close', () => {
    for (const controller of running.values()) controller.abort(new CancelledError());
  });
}

type Answer = Promise<unknown> | AsyncGenerator<unknown, unknown>;

async function answer(
  begin: () => Answer,
  signal: AbortSignal,
  id: number,
  post: (message: FromServer) => void,
): Promise<void> {
  try {
    const pieces = begin();
    if (!('next' in pieces)) {
      post({ id, result: await pieces });
      return;
    }
    let next = await pieces.next();
    for (; !next.done; next = await pieces.next()) {
      post({ id, piece: next.value });
      if (signal.aborted) {
        await pieces.return(undefined);
        throw signal.reason;
      }
    }
    post({ id, result: next.value });
  } catch (error) {
    post({ id, failure: failureOf(error) });
  }
}

interface Waiting {
  take(message: FromServer): void;
  fail(error: Error): void;
}

/** The calling side of a port. */
export class Caller<C extends Calls<C>> {
  private readonly waiting = new Map<number, Waiting>();
  private last = 0;
  private ended: Error | undefined;

  constructor(private readonly port: MessagePort) {
    port.on('message', (message: FromServer) => this.waiting.get(message.id)?.take(message));
    port.on('close', () => this.end(new EngineEndedError('the engine has ended: start the server again')));
  }

  /** Makes running and later calls fail. */
  end(error: Error): void {
    this.ended ??= error;
    for (const { fail } of this.waiting.values()) fail(this.ended);
    this.waiting.clear();
  }

  /**
   * Calls, and streams the pieces. Stopping the iteration or aborting the signal cancels the call. Throws what the other side threw, the
   * signal's reason after an abort, and `EngineEndedError` if the other side has ended.
   */
  async *stream<Name extends keyof C & string>(
    call: Name,
    request: C[Name]['request'],
    signal?: AbortSignal,
  ): AsyncGenerator<C[Name]['piece'], C[Name]['result']> {
    if (this.ended) throw this.ended;
    signal?.throwIfAborted();
    const id = ++this.last;
    const arrived: (FromServer | Error)[] = [];
    let wake = (): void => {};
    const arrive = (message: FromServer | Error): void => {
      arrived.push(message);
      wake();
    };
    const abort = (): void => arrive(signal!.reason);
    this.waiting.set(id, { take: arrive, fail: arrive });
    signal?.addEventListener('abort', abort);
    let finished = false;
    try {
      this.port.postMessage({ id, call, request } satisfies ToServer);
      for (;;) {
        const message = arrived.shift();
        if (message === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        } else if (message instanceof Error) {
          throw message;
        } else if ('piece' in message) {
          yield message.piece as C[Name]['piece'];
        } else {
          finished = true;
          if ('result' in message) return message.result;
          throw errorOf(message.failure);
        }
      }
    } finally {
      signal?.removeEventListener('abort', abort);
      this.waiting.delete(id);
      if (!finished && !this.ended) this.port.postMessage({ id, cancel: true } satisfies ToServer);
    }
  }

  /** Calls, and returns only the result. */
  async call<Name extends keyof C & string>(
    call: Name,
    request: C[Name]['request'],
    signal?: AbortSignal,
  ): Promise<C[Name]['result']> {
    const pieces = this.stream(call, request, signal);
    for (;;) {
      const next = await pieces.next();
      if (next.done) return next.value;
    }
  }
}
