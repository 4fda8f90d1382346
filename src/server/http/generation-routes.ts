/** `/v1/chat/completions` and `/v1/completions`. */

import { merged } from '../../generate/index.js';
import type { GenerateEvent, GenerateRequest, ServedModelInfo } from '../engine/protocol.js';
import {
  chatChunks,
  chatCompletion,
  type Events,
  type Heading,
  headingOf,
  Tally,
  textChunks,
  textCompletion,
} from './answers.js';
import { bodyOf } from './body.js';
import { type App, type Deps, modelNamed, type RequestContext, signalOf } from './context.js';
import { exactBodyOf } from './exact-body.js';
import { chatRequest, completionRequests } from './requests.js';
import { type ChatChunk, ChatRequest, CompletionRequest, type TextCompletion } from './schemas.js';
import { CHUNKS, streamed } from './sse.js';

/** Adds `POST /v1/chat/completions` and `POST /v1/completions`. */
export function addGenerationRoutes(app: App, deps: Deps): void {
  app.post('/v1/chat/completions', async (context) => {
    const body = await bodyOf(context, ChatRequest);
    const info = modelNamed(deps, body.model);
    const request = chatRequest(body, info, context.get('owner'), await exactBodyOf(context, body));
    const tally = new Tally();
    const heading = headingOf(info, 'chatcmpl');
    const { chunks, signal } = await beginChat(context, deps, { info, request, heading, tally, ...body });
    if (!body.stream) return context.json(await chatCompletion(chunks, heading, tally));
    return streamed(context, withUsage(chunks, body, tally), signal, CHUNKS);
  });

  app.post('/v1/completions', async (context) => {
    const body = await bodyOf(context, CompletionRequest);
    const info = modelNamed(deps, body.model);
    const requests = completionRequests(body, info, context.get('owner'));
    const tally = new Tally();
    const { events, signal } = await begin(context, deps, { requests, tally, ...body });
    const heading = headingOf(info, 'cmpl');
    const chunks = textChunks(events, heading);
    if (!body.stream) return context.json(await textCompletion(chunks, heading, tally));
    return streamed(context, withUsage(chunks, body, tally), signal, CHUNKS);
  });
}

/** Starts a chat completion; see `begin`. */
export async function beginChat(
  context: RequestContext,
  deps: Deps,
  {
    info,
    request,
    heading,
    tally,
    stream,
  }: {
    info: ServedModelInfo;
    request: GenerateRequest;
    heading: Heading;
    tally: Tally;
    stream?: boolean | undefined;
  },
): Promise<{ chunks: AsyncGenerator<ChatChunk>; signal: AbortSignal }> {
  const { events, signal } = await begin(context, deps, { requests: [request], tally, stream });
  return { chunks: chatChunks(events, heading, { ...request.calls, form: info.form }, tally), signal };
}

/** Milliseconds for which a streamed response delays its headers, so that an early error can have its own status. */
const STATUS_PATIENCE = 1000;

/**
 * Starts the engine's calls one after the other. Errors of the first call are thrown before this resolves, so that they get a status; a
 * streamed response waits at most STATUS_PATIENCE for that, and later errors become events. `tally` has the usage when the events have ended.
 */
async function begin(
  context: RequestContext,
  deps: Deps,
  {
    requests,
    tally,
    stream,
  }: { requests: readonly GenerateRequest[]; tally: Tally; stream?: boolean | undefined },
): Promise<{ events: Events; signal: AbortSignal }> {
  const { engine, log, limits } = deps;
  const began = performance.now();
  const signal = signalOf(context, deps);
  const [{ model }] = requests as [GenerateRequest];
  const facts = context.get('facts');
  if (log.texts) {
    facts.prompt = requests.map(({ prompt }) =>
      prompt.kind === 'messages' && prompt.image
        ? { ...prompt, image: `${prompt.image.length} bytes` }
        : prompt,
    );
  }
  facts.model = model;
  context.get('cleanups').push(() => {
    deps.metrics.tokens.inc({ model, kind: 'read' }, tally.readTokens);
    deps.metrics.tokens.inc({ model, kind: 'reused' }, tally.reusedTokens);
    deps.metrics.tokens.inc({ model, kind: 'written' }, tally.writtenTokens);
    facts.prompt_tokens = tally.promptTokens;
    facts.reused_tokens = tally.reusedTokens;
    facts.completion_tokens = tally.writtenTokens;
  });
  const calls = requests.flatMap((request, i) =>
    portionsOf(request, limits.answers).map(
      ({ first, portion }) =>
        async function* (admitted: () => void): Events {
          const stream = engine.stream('generate', portion, signal);
          try {
            for (let next = await stream.next(); ; next = await stream.next()) {
              if (next.done) return tally.end(next.value);
              if (next.value.kind === 'admitted') admitted();
              tally.add(next.value);
              yield 'choice' in next.value
                ? { ...next.value, choice: i * request.n + first + next.value.choice }
                : next.value;
            }
          } finally {
            // A client that stops reading also cancels the engine's call.
            await stream.return(undefined as never);
          }
        },
    ),
  );
  const events = timedEvents(inTurn(calls, signal), deps, model, began, facts);
  const prepared = events.next();
  const patience = new Promise((resolve) => {
    if (stream) setTimeout(resolve, STATUS_PATIENCE).unref();
  });
  await Promise.race([prepared, patience]);
  const all = async function* (): Events {
    try {
      const first = await prepared;
      if (first.done) return;
      yield first.value;
      yield* events;
    } finally {
      await events.return();
    }
  };
  return { events: all(), signal };
}

/** Splits a request for more answers than the engine generates concurrently. */
function portionsOf(request: GenerateRequest, most: number): { first: number; portion: GenerateRequest }[] {
  return Array.from({ length: Math.ceil(request.n / most) }, (_, i) => {
    const first = i * most;
    const portion = { ...request, seed: request.seed + first, n: Math.min(most, request.n - first) };
    return { first, portion };
  });
}

/**
 * The events of several calls, each of which is queued after the previous one was admitted, so that a request with many prompts takes only
 * one place in the queue.
 */
async function* inTurn(calls: readonly ((admitted: () => void) => Events)[], signal: AbortSignal): Events {
  let over = false;
  const gates = calls.map(() => {
    let open = (): void => {};
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    return { open, opened };
  });
  const stop = (): void => {
    over = true;
    for (const { open } of gates) open();
  };
  signal.addEventListener('abort', stop, { once: true });
  gates[0]!.open();
  const turns = calls.map(async function* (call, i): Events {
    await gates[i]!.opened;
    if (over) return;
    try {
      yield* call(() => gates[i + 1]?.open());
    } catch (error) {
      stop();
      throw error;
    }
  });
  try {
    yield* merged(turns, signal);
  } finally {
    stop();
    signal.removeEventListener('abort', stop);
  }
}

/** Passes events through, and measures the time to the first token and between tokens. */
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
 * Adds the usage to the last chunk, or to a separate chunk if the client requested it. Chunks with a finish reason are held back until the
 * usage is known.
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
