/** Server-sent events in the format of OpenAI's API. */
import { type ApiError, apiErrorOf } from './api-error.js';
import type { RequestContext } from './context.js';

const utf8 = new TextEncoder();

/** The serialization of values as events. */
export interface EventForm<Value> {
  event(value: Value): string;
  /** The last event after an error, when the status has been sent already. */
  failure(error: ApiError): string;
  /** The last event after success. */
  readonly end: string;
}

/** Chat and text completions: data without event names. */
export const CHUNKS: EventForm<unknown> = {
  event: (value) => `data: ${JSON.stringify(value)}\n\n`,
  failure: ({ body }) => `data: ${JSON.stringify(body)}\n\n`,
  end: 'data: [DONE]\n\n',
};

/** A body of server-sent events. */
export interface EventStream {
  readonly body: ReadableStream<Uint8Array>;
  /** Resolves at the end of the stream, or when the client disconnects. */
  readonly done: Promise<void>;
}

/** The keep-alive interval in milliseconds, after which a comment is sent: proxies and clients close connections that are silent for a minute. */
const SIGN_OF_LIFE = 15_000;

/**
 * Streams values as events, with keep-alive comments. When the client disconnects or `signal` is aborted, the iteration stops.
 */
export function eventStream<Value>(
  values: AsyncGenerator<Value>,
  signal: AbortSignal,
  form: EventForm<Value>,
  silence = SIGN_OF_LIFE,
): EventStream {
  let finish = (): void => {};
  const done = new Promise<void>((resolve) => {
    finish = resolve;
  });
  let abort = (): void => {};
  let timer: NodeJS.Timeout | undefined;
  const end = async (): Promise<void> => {
    signal.removeEventListener('abort', abort);
    clearInterval(timer);
    finish();
    await values.return(undefined);
  };
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      // Also if the client has stopped reading, so that no more values are pulled.
      abort = () => {
        controller.enqueue(utf8.encode(form.failure(apiErrorOf(signal.reason))));
        controller.close();
        void end();
      };
      if (signal.aborted) return abort();
      signal.addEventListener('abort', abort);
      timer = setInterval(() => {
        if (controller.desiredSize! > 0) controller.enqueue(utf8.encode(': still at work\n\n'));
      }, silence);
    },
    async pull(controller) {
      let text = form.end;
      try {
        const next = await values.next();
        if (signal.aborted) return;
        if (!next.done) {
          timer?.refresh();
          controller.enqueue(utf8.encode(form.event(next.value)));
          return;
        }
      } catch (error) {
        if (signal.aborted) return;
        text = form.failure(apiErrorOf(error));
      }
      if (text !== '') controller.enqueue(utf8.encode(text));
      controller.close();
      await end();
    },
    cancel: end,
  });
  return { body, done };
}

/** Answers a request with values as server-sent events. */
export function streamed<Value>(
  context: RequestContext,
  values: AsyncGenerator<Value>,
  signal: AbortSignal,
  form: EventForm<Value>,
): Response {
  const { body, done } = eventStream(values, signal, form);
  context.set('streamed', done);
  context.header('content-type', 'text/event-stream; charset=utf-8');
  context.header('cache-control', 'no-cache');
  // nginx must not buffer the stream.
  context.header('x-accel-buffering', 'no');
  return context.body(body);
}
