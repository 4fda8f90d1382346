/** Server-sent events, as OpenAI's interface sends them. */
import { apiErrorOf } from './api-error.js';

const utf8 = new TextEncoder();

export interface EventStream {
  readonly body: ReadableStream<Uint8Array>;
  /** Resolves when the stream is at its end, or nobody reads it any more. */
  readonly done: Promise<void>;
}

/**
 * Values as events, and `[DONE]` at the end. What goes wrong on the way is the last event: the status is out by then. When the
 * client goes away, or `signal` is aborted, no more values are taken.
 */
export function eventStream(values: AsyncGenerator<unknown>, signal: AbortSignal): EventStream {
  let finish = (): void => {};
  const done = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const event = (data: string): Uint8Array => utf8.encode(`data: ${data}\n\n`);
  let abort = (): void => {};
  const end = async (): Promise<void> => {
    signal.removeEventListener('abort', abort);
    finish();
    await values.return(undefined);
  };
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      // Also where the client reads no more, and so asks for none.
      abort = () => {
        controller.enqueue(event(JSON.stringify(apiErrorOf(signal.reason).body)));
        controller.close();
        void end();
      };
      if (signal.aborted) abort();
      else signal.addEventListener('abort', abort);
    },
    async pull(controller) {
      try {
        const next = await values.next();
        if (signal.aborted) return;
        if (!next.done) {
          controller.enqueue(event(JSON.stringify(next.value)));
          return;
        }
        controller.enqueue(event('[DONE]'));
      } catch (error) {
        if (signal.aborted) return;
        controller.enqueue(event(JSON.stringify(apiErrorOf(error).body)));
      }
      controller.close();
      await end();
    },
    cancel: end,
  });
  return { body, done };
}
