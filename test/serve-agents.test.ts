/** Agents with unmodified clients: a tool is called, its result is sent back, and the model answers. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { type AIMessageChunk, HumanMessage } from '@langchain/core/messages';
import { tool as langchainTool } from '@langchain/core/tools';
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai';
import { embed, generateObject, generateText, stepCountIs, streamText, tool } from 'ai';
import OpenAI from 'openai';
import { zodFunction, zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { TOOLS } from '../src/text/testing/chat-templates.js';
import { build } from './testing/heddle.js';
import { writeScriptedModel } from './testing/scripted-model.js';
import { type Served, serve } from './testing/server.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-serve-agents-'));
let served: Served;
let baseURL: string;

const ANSWER = 'Es regnet in Wien: 9 °C 🌧, they say.';
beforeAll(async () => {
  build();
  const user =
    '<think>\nOne must look it up.\n</think>\n\n<tool_call>\n{"name": "weather", "arguments": {"city": "Wien", "days": 2}}\n</tool_call>';
  await writeScriptedModel(join(root, 'agent'), { user, tool: ANSWER }, TOOLS);
  await writeScriptedModel(join(root, 'speaker'), { user: 'I say so, plainly.' }, TOOLS);
  const callOf = (city: string, days: number): string =>
    `<tool_call>\n{"name": "weather", "arguments": {"city": "${city}", "days": ${days}}}\n</tool_call>`;
  await writeScriptedModel(
    join(root, 'twice'),
    { user: `${callOf('Wien', 2)}\n${callOf('Graz', 3)}` },
    TOOLS,
  );
  const folders = ['agent', 'speaker', 'twice'].map((name) => join(root, name));
  served = await serve([...folders, '--data', join(root, 'data'), '--threads', '1']);
  baseURL = `${served.url}/v1`;
});
afterAll(async () => {
  expect(await served.stop()).toBe(0);
  rmSync(root, { recursive: true, force: true });
});

const Asked = z.object({ city: z.string(), days: z.number().int() });
const Person = z.object({
  name: z.string().max(8),
  age: z.number().int().min(0).max(120),
  tags: z.array(z.enum(['a', 'b'])).max(2),
});
const QUESTION = 'What is the weather in Wien?';

describe('the openai package', () => {
  const openai = (): OpenAI => new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 });

  test.each([false, true])('runTools, streamed: %s', async (stream) => {
    const calls: unknown[] = [];
    const body = {
      model: 'agent',
      temperature: 0,
      messages: [{ role: 'user' as const, content: QUESTION }],
      tools: [
        zodFunction({
          name: 'weather',
          parameters: Asked,
          function: (args) => {
            calls.push(args);
            return { sky: 'rain' };
          },
        }),
      ],
    };
    const runner = stream
      ? openai().chat.completions.runTools({ ...body, stream: true })
      : openai().chat.completions.runTools(body);
    expect(await runner.finalContent()).toBe(ANSWER);
    expect(calls).toEqual([{ city: 'Wien', days: 2 }]);
    expect(runner.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'tool', 'assistant']);
  });

  test('parse, with the parsed answer in the next request', async () => {
    const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'Who is it?' }];
    const asked = { model: 'speaker', seed: 4, response_format: zodResponseFormat(Person, 'person') };
    const { choices } = await openai().chat.completions.parse({ ...asked, messages });
    const [{ message }] = choices as [(typeof choices)[0]];
    expect(Person.parse(message.parsed)).toEqual(message.parsed);
    const next = await openai().chat.completions.create({
      model: 'speaker',
      temperature: 0,
      messages: [...messages, message, { role: 'user', content: 'And?' }],
    });
    expect(next.choices[0]!.message.content).toBe('I say so, plainly.');
  });

  test('a stream that was put together by hand, with its indices, reasoning and nulls, in the next request', async () => {
    const stream = await openai().chat.completions.create({
      model: 'agent',
      temperature: 0,
      stream: true,
      messages: [{ role: 'user', content: QUESTION }],
      tools: [zodFunction({ name: 'weather', parameters: Asked })],
    });
    const calls: {
      index: number;
      id: string;
      type: string;
      function: { name: string; arguments: string };
    }[] = [];
    let thoughts = '';
    for await (const { choices } of stream) {
      const delta = choices[0]!.delta as { tool_calls?: typeof calls; reasoning_content?: string };
      thoughts += delta.reasoning_content ?? '';
      for (const call of delta.tool_calls ?? []) {
        if (calls[call.index]) calls[call.index]!.function.arguments += call.function.arguments;
        else calls[call.index] = call;
      }
    }
    expect(thoughts.trim()).toBe('One must look it up.');
    const answer = {
      role: 'assistant',
      content: null,
      refusal: null,
      reasoning_content: thoughts,
      tool_calls: calls,
    };
    const next = await openai().chat.completions.create({
      model: 'agent',
      temperature: 0,
      messages: [
        { role: 'user', content: QUESTION },
        answer as unknown as OpenAI.ChatCompletionMessageParam,
        {
          role: 'tool',
          tool_call_id: calls[0]!.id,
          content: 'rain',
          name: 'weather',
        } as OpenAI.ChatCompletionToolMessageParam,
      ],
    });
    expect(next.choices[0]!.message.content).toBe(ANSWER);
  });

  test.each([
    [undefined, ['Wien', 'Graz']],
    [true, ['Wien', 'Graz']],
    [false, ['Wien']],
  ])('two calls with parallel_tool_calls %s give these', async (parallel, cities) => {
    const parameters = z.toJSONSchema(Asked) as Record<string, unknown>;
    const described = { name: 'weather', description: 'Tells the weather.', parameters, strict: true };
    const asked = {
      model: 'twice',
      temperature: 0,
      messages: [{ role: 'user' as const, content: QUESTION }],
      tools: [{ type: 'function' as const, function: described }],
      ...(parallel !== undefined && { parallel_tool_calls: parallel }),
    };
    const whole = await openai().chat.completions.create(asked);
    const streamed = await openai().chat.completions.stream(asked).finalChatCompletion();
    for (const { choices } of [whole, streamed]) {
      const [{ message, finish_reason: reason }] = choices as [OpenAI.ChatCompletion.Choice];
      const calls = message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[];
      const found = calls.map((call) => (JSON.parse(call.function.arguments) as { city: string }).city);
      expect([found, reason]).toEqual([cities, 'tool_calls']);
    }
    // The second call has the same length as the first: of a single one at most its beginning is written.
    const written = whole.usage!.completion_tokens;
    const all = await openai().chat.completions.create({ ...asked, parallel_tool_calls: true });
    const share = written / all.usage!.completion_tokens;
    expect(parallel === false ? share < 0.9 : share === 1, `${share}`).toBe(true);
    const { output, parallel_tool_calls: told } = await openai().responses.create({
      ...{ model: 'twice', temperature: 0, input: QUESTION, tools: [{ type: 'function', ...described }] },
      ...(parallel !== undefined && { parallel_tool_calls: parallel }),
    });
    const names = output.map((item) =>
      item.type === 'function_call' ? (JSON.parse(item.arguments) as { city: string }).city : item.type,
    );
    expect([names, told]).toEqual([cities, parallel !== false]);
  });

  test('responses.parse', async () => {
    const response = await openai().responses.parse({
      model: 'speaker',
      input: 'Who is it?',
      text: { format: zodTextFormat(Person, 'person') },
    });
    expect(Person.parse(response.output_parsed)).toEqual(response.output_parsed);
  });
});

describe.each([
  [
    "the AI SDK's default provider, which asks for responses",
    () => createOpenAI({ baseURL, apiKey: 'none' }),
  ],
  [
    "the same provider's chat",
    () => {
      const provider = createOpenAI({ baseURL, apiKey: 'none' });
      return (name: string) => provider.chat(name);
    },
  ],
  [
    'its provider for compatible servers',
    () =>
      createOpenAICompatible({
        name: 'heddle',
        baseURL,
        includeUsage: true,
        supportsStructuredOutputs: true,
      }),
  ],
] as const)('%s', (_, provider) => {
  const weather = tool({
    description: 'Tells the weather.',
    inputSchema: Asked,
    execute: async ({ city, days }) => ({ city, days, sky: 'rain' }),
  });
  const asked = (model = 'agent') => ({ model: provider()(model), maxRetries: 0, temperature: 0 });

  test('an agent in several steps', async () => {
    const result = await generateText({
      ...asked(),
      prompt: QUESTION,
      tools: { weather },
      stopWhen: stepCountIs(3),
    });
    expect(result.steps).toHaveLength(2);
    expect(result.steps[0]!.toolCalls).toMatchObject([
      { toolName: 'weather', input: { city: 'Wien', days: 2 } },
    ]);
    expect(result.text).toBe(ANSWER);
    // What the steps left is sent back, and a question after it.
    const next = await generateText({
      ...asked(),
      tools: { weather },
      stopWhen: stepCountIs(3),
      messages: [
        { role: 'user', content: QUESTION },
        ...result.response.messages,
        { role: 'user', content: 'And now?' },
      ],
    });
    expect(next.text).toBe(ANSWER);
  });

  test('the same, streamed', async () => {
    const result = streamText({ ...asked(), prompt: QUESTION, tools: { weather }, stopWhen: stepCountIs(3) });
    let text = '';
    for await (const piece of result.textStream) text += piece;
    expect(text).toBe(ANSWER);
    expect((await result.steps).map(({ finishReason }) => finishReason)).toEqual(['tool-calls', 'stop']);
    expect((await result.totalUsage).outputTokens).toBeGreaterThan(0);
  });

  test('an object of a schema', async () => {
    const { object } = await generateObject({ ...asked('speaker'), schema: Person, prompt: 'Who is it?' });
    expect(Person.parse(object)).toEqual(object);
  });
});

test('the AI SDK embeds', async () => {
  const model = createOpenAI({ baseURL, apiKey: 'none' }).embedding('speaker');
  const { embedding } = await embed({ model, value: 'the cat', maxRetries: 0 });
  expect(Math.hypot(...embedding)).toBeCloseTo(1, 4);
});

describe.each([false, true])("LangChain's ChatOpenAI, through responses: %s", (useResponsesApi) => {
  const model = (name: string) =>
    new ChatOpenAI({
      model: name,
      apiKey: 'none',
      temperature: 0,
      maxRetries: 0,
      useResponsesApi,
      configuration: { baseURL },
    });
  const weather = langchainTool(() => 'rain', {
    name: 'weather',
    description: 'Tells the weather.',
    schema: Asked,
  });

  test('streams', async () => {
    const chunks: AIMessageChunk[] = [];
    for await (const chunk of await model('speaker').stream('hello')) chunks.push(chunk);
    const all = chunks.reduce((before, chunk) => before.concat(chunk));
    expect(all.text).toBe('I say so, plainly.');
    const usage = all.usage_metadata as { output_tokens: number } | undefined;
    expect(usage!.output_tokens).toBeGreaterThan(0);
  });

  test('calls a tool, and reads its result', async () => {
    const agent = model('agent').bindTools([weather]);
    const messages: (HumanMessage | AIMessageChunk)[] = [new HumanMessage(QUESTION)];
    const answer = await agent.invoke(messages);
    expect(answer.tool_calls).toMatchObject([{ name: 'weather', args: { city: 'Wien', days: 2 } }]);
    const result = await weather.invoke(answer.tool_calls![0]!);
    const next = await agent.invoke([...messages, answer, result]);
    expect(next.text).toBe(ANSWER);
  });

  test('gives an object of a schema', async () => {
    const object = await model('speaker').withStructuredOutput(Person).invoke('Who is it?');
    expect(Person.parse(object)).toEqual(object);
  });
});

test("LangChain's embeddings", async () => {
  const embeddings = new OpenAIEmbeddings({
    model: 'speaker',
    apiKey: 'none',
    maxRetries: 0,
    configuration: { baseURL },
  });
  const [first, second] = await embeddings.embedDocuments(['the cat', 'the dog']);
  expect(first).toHaveLength(second!.length);
  expect(await embeddings.embedQuery('the cat')).toEqual(first);
});
