/** `/v1/chat/completions` and `/v1/completions`. */

import { merged } from '../../generate/index.js';
import type { GenerateEvent, GenerateRequest, ServedModelInfo } from '../engine/protocol.js';
import {
  chatChunks,
  chatCompletion,
  type Events,
  headingOf,
  Tally,
  textChunks,
  textCompletion,
} from './answers.js';
import { bodyOf } from './body.js';
import { type App, type Deps, modelNamed, type RequestContext, signalOf } from './context.js';
import { chatRequest, completionRequests } from './requests.js';
import { type ChatChunk, ChatRequest, CompletionRequest, type TextCompletion } from './schemas.js';
import { eventStream } from './sse.js';

export function addGenerationRoutes(app: App, deps: Deps): void {
  app.post('/v1/chat/completions', async (context) => {
    const body = await bodyOf(context, ChatRequest);
    const info = modelNamed(deps, body.model);
    const request = chatRequest(body, info, context.get('owner'));
    const tally = new Tally();
    const { events, signal } = await begin(context, deps, info, [request], tally);
    const heading = headingOf(info, 'chatcmpl');
    const tools = request.prompt.kind === 'messages' && request.prompt.tools !== undefined;
    const chunks = chatChunks(events, heading, tools);
    if (!body.stream) return context.json(await chatCompletion(chunks, heading, tally));
    return streamed(context, withUsage(chunks, body, tally), signal);
  });

  app.post('/v1/completions', async (context) => {
    const body = await bodyOf(context, CompletionRequest);
    const info = modelNamed(deps, body.model);
    const requests = completionRequests(body, info, context.get('owner'));
    const tally = new Tally();
    const { events, signal } = await begin(context, deps, info, requests, tally);
    const heading = headingOf(info, 'cmpl');
    const chunks = textChunks(events, heading);
    if (!body.stream) return context.json(await textCompletion(chunks, heading, tally));
    return streamed(context, withUsage(chunks, body, tally), signal);
  });
}

/** Sends chunks as they come. */
function streamed(context: RequestContext, chunks: AsyncGenerator<unknown>, signal: AbortSignal): Response {
  const { body, done } = eventStream(chunks, signal);
  context.set('streamed', done);
  context.header('content-type', 'text/event-stream; charset=utf-8');
  context.header('cache-control', 'no-cache');
  // Proxies must not gather what should come at once.
  context.header('x-accel-buffering', 'no');
  return context.body(body);
}

/**
 * Has the engine answer, once there is room for it. When this resolves all prompts are read, so that what is wrong with them was
 * thrown. `tally` tells what it took when the events are at their end.
 */
async function begin(
  context: RequestContext,
  deps: Deps,
  { id: model }: ServedModelInfo,
  requests: readonly GenerateRequest[],
  tally: Tally,
): Promise<{ events: Events; signal: AbortSignal }> {
  const { engine, slots, log } = deps;
  const began = performance.now();
  const signal = signalOf(context, deps);
  const answers = requests.reduce((sum, { n }) => sum + n, 0);
  const facts = context.get('facts');
  if (log.texts) facts.prompt = requests.map(({ prompt }) => prompt);
  facts.model = model;
  const release = await slots.take(answers, signal);
  context.get('finish').push(() => {
    release();
    deps.metrics.tokens.inc({ model, kind: 'read' }, tally.readTokens);
    deps.metrics.tokens.inc({ model, kind: 'reused' }, tally.reusedTokens);
    deps.metrics.tokens.inc({ model, kind: 'written' }, tally.writtenTokens);
    facts.prompt_tokens = tally.promptTokens;
    facts.reused_tokens = tally.reusedTokens;
    facts.completion_tokens = tally.writtenTokens;
  });
  facts.waited_ms = Math.round(performance.now() - began);
  const streams = requests.map(async (request, i) => {
    const stream = engine.stream('generate', request, signal);
    const first = await stream.next();
    return (async function* (): Events {
      for (let next = first; ; next = await stream.next()) {
        if (next.done) return tally.end(next.value);
        tally.add(next.value);
        yield 'choice' in next.value
          ? { ...next.value, choice: i * request.n + next.value.choice }
          : next.value;
      }
    })();
  });
  const timed = timedEvents(merged(await Promise.all(streams), signal), deps, model, began, facts);
  return { events: timed, signal };
}

/** The same events; what people wait for is measured. */
async function* timedEvents(
  events: Events,
  { metrics, log }: Deps,
  model: string,
  began: number,
  facts: Record<string, unknown>,
): AsyncGenerator<GenerateEvent, void> {
  const last = new Map<number, number>();
  const texts: string[] = [];
  for await (const event of events) {
    if (event.kind === 'piece') {
      const now = performance.now();
      if (last.size === 0) {
        metrics.firstToken.observe({ model }, (now - began) / 1000);
        facts.first_token_ms = Math.round(now - began);
      }
      const before = last.get(event.choice);
      if (before !== undefined) metrics.betweenTokens.observe({ model }, (now - before) / 1000);
      last.set(event.choice, now);
      if (log.texts) texts[event.choice] = (texts[event.choice] ?? '') + event.text;
    }
    yield event;
  }
  if (log.texts) facts.answers = texts;
}

/**
 * Adds what it took to the last chunk, or to one of its own where the client asked for usage. Chunks that end an answer wait for that.
 */
async function* withUsage<Chunk extends ChatChunk | TextCompletion>(
  chunks: AsyncGenerator<Chunk>,
  { stream_options: options }: Pick<ChatRequest, 'stream_options'>,
  tally: Tally,
): AsyncGenerator<Chunk> {
  const usage = options?.include_usage ? { usage: null } : {};
  let held: Chunk | undefined;
  for await (const chunk of chunks) {
    if (held) yield held;
    held = { ...chunk, ...usage };
    if (chunk.choices.some(({ finish_reason: finish }) => finish !== null)) continue;
    yield held;
    held = undefined;
  }
  const { heddle } = tally;
  if (!options?.include_usage) {
    yield { ...held!, heddle };
    return;
  }
  yield held!;
  yield { ...held!, choices: [], usage: tally.usage, heddle };
}
