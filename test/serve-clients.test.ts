/** The server with unmodified clients: OpenAI's and Vercel's. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateObject, generateText, streamText } from 'ai';
import { Ajv } from 'ajv';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { CHATML, TOOLS } from '../src/text/testing/chat-templates.js';
import { build } from './testing/heddle.js';
import { type Served, serve, writeTinyModel } from './testing/server.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-serve-clients-'));
let served: Served;
let openai: OpenAI;
beforeAll(async () => {
  build();
  await writeTinyModel(join(root, 'tiny'), { template: CHATML });
  await writeTinyModel(join(root, 'plain'), { seed: 2 });
  await writeTinyModel(join(root, 'calling'), { seed: 3, template: TOOLS });
  served = await serve([
    join(root, 'tiny'),
    join(root, 'plain'),
    join(root, 'calling'),
    '--data',
    join(root, 'data'),
    '--threads',
    '1',
  ]);
  openai = new OpenAI({ baseURL: `${served.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  expect(await served.stop()).toBe(0);
  rmSync(root, { recursive: true, force: true });
});

const messages = [{ role: 'user' as const, content: 'the cat sat on the mat' }];
const chat = { model: 'tiny', messages, seed: 3, max_tokens: 12 };

describe('the openai package', () => {
  test('lists and finds models', async () => {
    const models = await openai.models.list();
    expect(models.data.map(({ id }) => id)).toEqual(['tiny', 'plain', 'calling']);
    expect((await openai.models.retrieve('plain')).object).toBe('model');
    await expect(openai.models.retrieve('none')).rejects.toMatchObject({
      status: 404,
      code: 'model_not_found',
    });
  });

  test('streams the text of the whole answer, with usage at the end', async () => {
    const whole = await openai.chat.completions.create(chat);
    const stream = await openai.chat.completions.create({
      ...chat,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    let usage: OpenAI.CompletionUsage | null | undefined;
    let finish: string | null = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage;
    }
    expect(text).toBe(whole.choices[0]!.message.content);
    expect(finish).toBe(whole.choices[0]!.finish_reason);
    expect(usage!.completion_tokens).toBe(whole.usage!.completion_tokens);
    expect(usage!.total_tokens).toBe(usage!.prompt_tokens + usage!.completion_tokens);
  });

  test('the next turn processes only new tokens', async () => {
    const first = await openai.chat.completions.create({ ...chat, seed: 8 });
    const answer = first.choices[0]!.message;
    const next = [...messages, answer, { role: 'user' as const, content: 'the dog sat on the log' }];
    const second = await openai.chat.completions.create({ ...chat, messages: next });
    const { prompt_tokens, prompt_tokens_details } = second.usage!;
    // All but the answer, at the least, was known.
    expect(prompt_tokens_details!.cached_tokens).toBeGreaterThan(15);
    expect(prompt_tokens_details!.cached_tokens).toBeLessThan(prompt_tokens);
  });

  test('a token limit beyond the context is reduced', async () => {
    const { choices, usage } = await openai.chat.completions.create({
      ...chat,
      max_tokens: 1e6,
      stop: 'the',
    });
    expect(choices[0]!.message.content).toBeTypeOf('string');
    expect(usage!.completion_tokens).toBeLessThan(4096);
  });

  test('several answers, each with a seed of its own', async () => {
    const { choices } = await openai.chat.completions.create({ ...chat, n: 3, temperature: 1 });
    const alone = await openai.chat.completions.create({ ...chat, seed: 4, temperature: 1 });
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(choices[1]!.message.content).toBe(alone.choices[0]!.message.content);
    expect(new Set(choices.map(({ message }) => message.content)).size).toBeGreaterThan(1);
  });

  test('log probabilities belong to the generated tokens', async () => {
    const { choices } = await openai.chat.completions.create({
      ...chat,
      temperature: 0,
      logprobs: true,
      top_logprobs: 3,
    });
    const { content } = choices[0]!.logprobs!;
    const bytes = content!.flatMap((token) => token.bytes!);
    expect(new TextDecoder().decode(Uint8Array.from(bytes))).toBe(choices[0]!.message.content);
    for (const { logprob, token, top_logprobs: top } of content!) {
      expect(logprob).toBeLessThanOrEqual(0);
      // The likeliest is what is taken.
      expect(top[0]).toMatchObject({ token, logprob });
      expect(top[1]!.logprob).toBeLessThanOrEqual(top[0]!.logprob);
      expect(top).toHaveLength(3);
    }
  });

  test('ends before a stop string', async () => {
    const whole = await openai.chat.completions.create({ ...chat, max_tokens: 40 });
    const text = whole.choices[0]!.message.content!;
    const stop = text.slice(10, 13);
    const cut = await openai.chat.completions.create({ ...chat, max_tokens: 40, stop });
    expect(cut.choices[0]).toMatchObject({
      message: { content: text.slice(0, text.indexOf(stop)) },
      finish_reason: 'stop',
    });
  });

  test('completions of several prompts, of text and of tokens', async () => {
    const { choices, usage } = await openai.completions.create({
      model: 'plain',
      prompt: ['the cat', 'the dog'],
      max_tokens: 5,
      seed: 1,
      n: 2,
      logprobs: 2,
    });
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    // Bytes that are no character are told as they are.
    const told = choices[0]!.logprobs!.tokens!.join('').replace(/bytes:\\x[0-9a-f]{2}/g, '\ufffd');
    expect(told).toBe(choices[0]!.text);
    expect(usage!.completion_tokens).toBe(20);
    const one = await openai.completions.create({
      model: 'plain',
      prompt: 'the dog',
      max_tokens: 5,
      seed: 1,
    });
    expect(one.choices[0]!.text).toBe(choices[2]!.text);
    const ids = await openai.completions.create({ model: 'plain', prompt: [3, 4, 5], max_tokens: 2 });
    expect(ids.usage!.prompt_tokens).toBe(3);
  });

  test('a prompt is echoed, with its log probabilities', async () => {
    const said = 'the cat sat on the mat, ünïcödé';
    const echoed = { model: 'plain', max_tokens: 0, echo: true, logprobs: 2 };
    const { choices, usage } = await openai.completions.create({ ...echoed, prompt: said });
    const [echo] = choices as [OpenAI.CompletionChoice];
    expect([echo.text, echo.finish_reason, usage!.completion_tokens]).toEqual([said, 'length', 0]);
    const { tokens, token_logprobs, top_logprobs, text_offset } = echo.logprobs!;
    expect([token_logprobs![0], top_logprobs![0]]).toEqual([null, null]);
    expect(Object.keys(top_logprobs![1]!)).toHaveLength(2);
    for (const [i, token] of tokens!.entries()) {
      if (!token.startsWith('bytes:')) expect(said.slice(text_offset![i]).startsWith(token)).toBe(true);
    }
    // A token is as likely when it is read as when it was written there.
    const ids = Array.from({ length: 50 }, (_, i) => (i * 37 + 9) % 250);
    const [read] = (await openai.completions.create({ ...echoed, prompt: [...ids, 40] })).choices;
    const [written] = (
      await openai.completions.create({
        model: 'plain',
        prompt: ids,
        max_tokens: 1,
        logprobs: 0,
        temperature: 0,
        logit_bias: { '40': 100 },
      })
    ).choices;
    expect(read!.logprobs!.token_logprobs!.at(-1)).toBeCloseTo(written!.logprobs!.token_logprobs![0]!, 4);
    const [goesOn] = (
      await openai.completions.create({ ...echoed, prompt: [3, 4, 5], n: 2, max_tokens: 4, seed: 1 })
    ).choices;
    expect(goesOn!.logprobs!.tokens).toHaveLength(7);
    const stream = await openai.completions.create({
      model: 'plain',
      prompt: 'the cat',
      echo: true,
      max_tokens: 3,
      temperature: 0,
      stream: true,
    });
    const pieces = [];
    for await (const chunk of stream) pieces.push(chunk.choices[0]!.text);
    expect(pieces[0]).toBe('the cat');
  });

  test('embeddings have unit length, alone or in a batch, as numbers or bytes', async () => {
    const input = ['the cat sat', 'the dog sat on the log '.repeat(60), 'the cat sat'];
    // The client asks for base64 by default, and decodes it.
    const batch = await openai.embeddings.create({ model: 'tiny', input });
    const one = await openai.embeddings.create({ model: 'tiny', input: input[1]!, encoding_format: 'float' });
    expect(batch.data.map(({ index }) => index)).toEqual([0, 1, 2]);
    const [first, second, third] = batch.data.map(({ embedding }) => embedding);
    expect(first).toEqual(third);
    expect(one.data[0]!.embedding).toEqual(Array.from(second!, Math.fround));
    for (const vector of [first!, second!]) {
      expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    }
    expect(first).not.toEqual(second);
    const { usage } = await openai.embeddings.create({ model: 'tiny', input: [[3, 4, 5], [6]] });
    expect(usage).toEqual({ prompt_tokens: 4, total_tokens: 4 });
    for (const [body, param] of [
      [{ input: '' }, 'input'],
      [{ input: [] }, 'input'],
      [{ input: 'a', dimensions: 3 }, 'dimensions'],
      [{ input: ['a', ''] }, 'input.1'],
    ] as const) {
      const refused = openai.embeddings.create({ model: 'tiny', ...body } as OpenAI.EmbeddingCreateParams);
      await expect(refused).rejects.toMatchObject({ status: 400, param });
    }
    await expect(openai.embeddings.create({ model: 'tiny', input: [[9999]] })).rejects.toMatchObject({
      status: 400,
    });
  });

  test("a model without a template continues the conversation's text", async () => {
    const said = await openai.chat.completions.create({ ...chat, model: 'plain', temperature: 0 });
    const continued = await openai.completions.create({
      model: 'plain',
      prompt: messages[0]!.content,
      max_tokens: 12,
      temperature: 0,
      stop: '\n\n',
    });
    expect(said.choices[0]!.message.content).toBe(continued.choices[0]!.text);
    const system = openai.chat.completions.create({
      ...chat,
      model: 'plain',
      messages: [{ role: 'system', content: 'be kind' }, ...messages],
    });
    await expect(system).rejects.toThrow(/no chat template/);
  });

  test('biases and penalties change the answer', async () => {
    const { choices } = await openai.chat.completions.create({
      ...chat,
      temperature: 0,
      logit_bias: { '40': 100 },
      max_tokens: 3,
      logprobs: true,
    });
    const [first, ...rest] = choices[0]!.logprobs!.content!.map(({ token }) => token);
    expect(rest).toEqual([first, first]);
    const penalized = await openai.chat.completions.create({
      ...chat,
      temperature: 0,
      logit_bias: { '40': 100 },
      frequency_penalty: 2,
      max_tokens: 90,
      logprobs: true,
    });
    const tokens = penalized.choices[0]!.logprobs!.content!.map(({ token }) => token);
    expect(tokens[1]).toBe(first);
    expect(new Set(tokens).size).toBeGreaterThan(1);
  });

  test.each([
    ['a misspelled parameter', { ...chat, temprature: 1 }, 'unknown_parameter', 'temprature'],
    ['a temperature', { ...chat, temperature: 3 }, 'invalid_value', 'temperature'],
    [
      'an image',
      { ...chat, messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
      'invalid_value',
      'messages.0.content.0',
    ],
    [
      'more than the context holds',
      { ...chat, messages: [{ role: 'user', content: 'the cat '.repeat(3000) }] },
      'context_length_exceeded',
      null,
    ],
    [
      'tools',
      { ...chat, tools: [{ type: 'function', function: { name: 'f' } }] },
      'tools_not_supported',
      'tools',
    ],
    ['a state that is not there', { ...chat, state: `state-${'0'.repeat(24)}` }, 'state_not_found', null],
  ])('refuses %s, with the reason', async (_, body, code, param) => {
    const failed = openai.chat.completions.create(body as OpenAI.ChatCompletionCreateParamsNonStreaming);
    await expect(failed).rejects.toMatchObject({ code, param });
  });
});

describe('formats', () => {
  const schema = {
    type: 'object',
    properties: {
      city: { type: 'string', maxLength: 12 },
      degrees: { type: 'integer', minimum: -40, maximum: 50 },
    },
    required: ['city', 'degrees'],
    additionalProperties: false,
  };
  const validate = new Ajv().compile(schema);

  test.each([1, 2, 3, 4, 5])('an answer is valid for its JSON schema, seed %i', async (seed) => {
    const { choices } = await openai.chat.completions.create({
      ...chat,
      seed,
      temperature: 1.5,
      max_tokens: 60,
      response_format: { type: 'json_schema', json_schema: { name: 'weather', schema, strict: true } },
    });
    expect(choices[0]!.finish_reason).toBe('stop');
    expect(validate(JSON.parse(choices[0]!.message.content!))).toBe(true);
  });

  test('a JSON object, streamed', async () => {
    const stream = openai.chat.completions.stream({
      ...chat,
      model: 'plain',
      n: 2,
      max_tokens: 40,
      response_format: { type: 'json_object' },
    });
    const { choices } = await stream.finalChatCompletion();
    for (const { message } of choices) expect(typeof JSON.parse(message.content!)).toBe('object');
  });

  test('a schema that cannot be enforced is refused before anything is generated', async () => {
    const refused = openai.chat.completions.create({
      ...chat,
      stream: true,
      response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { not: {} } } },
    });
    await expect(refused).rejects.toMatchObject({ status: 400, message: expect.stringContaining('#/not') });
  });

  const tools = [{ type: 'function' as const, function: { name: 'look_up', parameters: schema } }];

  test('a tool is called, and its result is read', async () => {
    const asked = { ...chat, model: 'calling', tools, max_tokens: 120 };
    const { choices } = await openai.chat.completions.create({ ...asked, tool_choice: 'required' });
    const { message, finish_reason: reason } = choices[0]!;
    const call = message.tool_calls![0] as OpenAI.ChatCompletionMessageFunctionToolCall;
    expect(reason).toBe('tool_calls');
    expect(message.content).toBeNull();
    expect(call.function.name).toBe('look_up');
    expect(validate(JSON.parse(call.function.arguments))).toBe(true);
    const told = { role: 'tool' as const, tool_call_id: call.id, content: '21 degrees' };
    const next = await openai.chat.completions.create({ ...asked, messages: [...messages, message, told] });
    expect(next.usage!.prompt_tokens_details!.cached_tokens).toBeGreaterThan(50);
  });

  test('a call is streamed', async () => {
    const stream = openai.chat.completions.stream({
      ...chat,
      model: 'calling',
      tools,
      tool_choice: { type: 'function', function: { name: 'look_up' } },
      max_tokens: 120,
    });
    const { choices } = await stream.finalChatCompletion();
    const [call] = choices[0]!.message.tool_calls!;
    expect(
      validate(JSON.parse((call as OpenAI.ChatCompletionMessageFunctionToolCall).function.arguments)),
    ).toBe(true);
  });

  test('a text answer with tools stays text', async () => {
    const { choices } = await openai.chat.completions.create({ ...chat, model: 'calling', tools });
    expect(choices[0]!.message.tool_calls).toBeUndefined();
    expect(choices[0]!.message.content).not.toBe('');
  });
});

describe("Vercel's AI SDK", () => {
  const model = () =>
    createOpenAICompatible({
      name: 'heddle',
      baseURL: `${served.url}/v1`,
      includeUsage: true,
      supportsStructuredOutputs: true,
    })('tiny');

  test('streams text', async () => {
    const result = streamText({
      model: model(),
      prompt: 'the cat',
      maxOutputTokens: 12,
      seed: 3,
      maxRetries: 0,
    });
    let text = '';
    for await (const piece of result.textStream) text += piece;
    const whole = await generateText({
      model: model(),
      prompt: 'the cat',
      maxOutputTokens: 12,
      seed: 3,
      maxRetries: 0,
    });
    expect(text).toBe(whole.text);
    expect((await result.usage).outputTokens).toBe(whole.usage.outputTokens);
    expect(whole.text.length).toBeGreaterThan(0);
  });

  test('gets an object of a schema', async () => {
    const schema = z.object({
      name: z.string().max(20),
      age: z.number().int().min(0).max(120),
      tags: z.array(z.enum(['a', 'b'])).max(3),
    });
    const { object } = await generateObject({
      model: model(),
      schema,
      prompt: 'who is it?',
      maxOutputTokens: 200,
      seed: 2,
      maxRetries: 0,
    });
    expect(schema.parse(object)).toEqual(object);
  });
});
