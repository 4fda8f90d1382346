/** Server-sent events arrive in pieces that know nothing of lines or characters. */
import { expect, test } from 'vitest';
import { eventsOf } from './sse-client.js';

test('events are whole however they were cut', async () => {
  const bytes = new TextEncoder().encode('data: {"text":"Größe"}\n\nid: 1\ndata:second\n\ndata: [DONE]\n\n');
  for (let size = 1; size <= bytes.length; size++) {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
        controller.close();
      },
    });
    const events: string[] = [];
    for await (const event of eventsOf(new Response(body))) events.push(event);
    expect(events, `pieces of ${size} bytes`).toEqual(['{"text":"Größe"}', 'second', '[DONE]']);
  }
});
