/**
 * Calls from one thread to another, over a pair of message ports. A call gives pieces as they come, and a result at the end;
 * it can be cancelled, and what goes wrong arrives as the error that it was.
 */
import type { MessagePort } from 'node:worker_threads';
import { CancelledError, EngineEndedError, errorOf, type Failure, failureOf } from '../errors.js';

/** What can be called by a name: from one plain value to pieces and a result. */
interface Call {
  request: unknown;
  piece: unknown;
  result: unknown;
}

/** What can be called. */
type Calls<C> = Record<keyof C, Call>;

/** What answers them. Those without pieces are asynchronous functions, the others generators. */
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

/** Answers the calls that come through a port, until it closes. Calls still running then are cancelled. */
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

/** The calling end: sends requests through a port and gives each call its own answers. */
export class Caller<C extends Calls<C>> {
  private readonly waiting = new Map<number, Waiting>();
  private last = 0;
  private ended: Error | undefined;

  constructor(private readonly port: MessagePort) {
    port.on('message', (message: FromServer) => this.waiting.get(message.id)?.take(message));
    port.on('close', () => this.end(new EngineEndedError('the engine has ended: start the server again')));
  }

  /** Fails what is running, and all later calls. */
  end(error: Error): void {
    this.ended ??= error;
    for (const { fail } of this.waiting.values()) fail(this.ended);
    this.waiting.clear();
  }

  /**
   * Calls, and gives the pieces as they come. Whoever takes no more of them, or aborts the signal, cancels the call. Throws what the
   * other side threw, the signal's reason after an abort, and `EngineEndedError` when there is no other side any more.
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

  /** Calls, and gives the result alone. */
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
