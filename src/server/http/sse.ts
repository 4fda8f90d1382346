/** Server-sent events, as OpenAI's interface sends them. */
import { type ApiError, apiErrorOf } from './api-error.js';

const utf8 = new TextEncoder();

/** How values are written as events. */
export interface EventForm<Value> {
  event(value: Value): string;
  /** The last event where something went wrong: the status is out by then. */
  failure(error: ApiError): string;
  /** What stands at the end where nothing did. */
  readonly end: string;
}

/** Of chat and text completions: data alone. */
export const CHUNKS: EventForm<unknown> = {
  event: (value) => `data: ${JSON.stringify(value)}\n\n`,
  failure: ({ body }) => `data: ${JSON.stringify(body)}\n\n`,
  end: 'data: [DONE]\n\n',
};

/** A body of server-sent events. */
export interface EventStream {
  readonly body: ReadableStream<Uint8Array>;
  /** Resolves when the stream is at its end, or nobody reads it any more. */
  readonly done: Promise<void>;
}

/** Proxies and clients give up a connection that says nothing for a minute; so often, in milliseconds, a comment is sent. */
const SIGN_OF_LIFE = 15_000;

/**
 * Values as events, with comments while there are none for long. When the client goes away, or `signal` is aborted, no more values are
 * taken.
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
      // Also where the client reads no more, and so asks for none.
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
