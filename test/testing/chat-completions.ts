/**
 * A model behind an OpenAI-compatible endpoint, as what answers questions to an archive, and a small server that stands in for one. What the
 * server answers it makes of the prompt alone, as a model does.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { AnswerRequest, ArchiveModel } from '../../src/archive/index.js';

/** Asks `POST /chat/completions` below a URL, and streams what comes. */
export class ChatCompletionsModel implements ArchiveModel {
  readonly name = 'stand-in';
  readonly key = 'stand-in';
  readonly instructs = true;
  readonly context = 4000;

  constructor(private readonly url: string) {}

  async count(prompts: Parameters<ArchiveModel['count']>[0]): Promise<number[]> {
    return prompts.map((prompt) => Math.ceil(Buffer.byteLength(JSON.stringify(prompt)) / 3));
  }

  async embed(): Promise<Float32Array> {
    throw new Error('the stand-in has no embeddings');
  }

  async *answer({ messages, maxTokens, signal }: AnswerRequest): AsyncGenerator<string, void> {
    const response = await fetch(`${this.url}/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: this.name,
        messages,
        max_tokens: maxTokens,
        temperature: 0,
        stream: true,
      }),
      ...(signal && { signal }),
    });
    if (!response.ok) throw new Error(await response.text());
    let text = '';
    for await (const bytes of response.body!.pipeThrough(new TextDecoderStream())) {
      const lines = (text + bytes).split('\n\n');
      text = lines.pop()!;
      for (const line of lines) {
        if (line === 'data: [DONE]') return;
        yield JSON.parse(line.slice('data: '.length)).choices[0].delta.content;
      }
    }
  }
}

/** A passage of a prompt. */
export interface PromptPassage {
  readonly number: number;
  readonly page: number;
  readonly text: string;
}

/** Serves chat completions: `answer` makes them of the passages and the question of a prompt. */
export async function serveChatCompletions(
  answer: (question: string, passages: readonly PromptPassage[]) => string,
): Promise<{ url: string; server: Server }> {
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (bytes) => {
      body += bytes;
    });
    request.on('end', () => {
      const { messages, stream } = JSON.parse(body) as { messages: { content: string }[]; stream: boolean };
      const { content } = messages.at(-1)!;
      const passages = [...content.matchAll(/^\[(\d+)\] .*?, page (\d+).*?:\n([\s\S]*?)\n\n/gm)].map(
        ([, number, page, text]) => ({ number: Number(number), page: Number(page), text: text! }),
      );
      const written = answer(content.split('\n\n').at(-1)!, passages);
      if (!stream) throw new Error('only streams are asked for');
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      // Three characters each, which cuts marks in two.
      for (const piece of written.match(/[\s\S]{1,3}/g) ?? []) {
        const chunk = { object: 'chat.completion.chunk', choices: [{ index: 0, delta: { content: piece } }] };
        response.write(`data: ${JSON.stringify(chunk)}\n\n`);
      }
      response.end('data: [DONE]\n\n');
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}
