/** /v1/responses with OpenAI's client, and with plain requests. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TOOLS } from '../src/text/testing/chat-templates.js';
import { build } from './testing/heddle.js';
import { writeScriptedModel } from './testing/scripted-model.js';
import { post, type Served, type State, serve } from './testing/server.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-serve-responses-'));
let served: Served;
let openai: OpenAI;

const CALL =
  '<tool_call>\n{"name": "weather", "arguments": {"city": "Wien", "id": 2512292042121000001}}\n</tool_call>';
/** Calls when it is asked, after a thought, and speaks when it is told. */
const SCRIPTS = {
  user: `<think>\nOne must look it up.\n</think>\n\nI ask.${CALL}`,
  tool: 'Es regnet in Wien: 9 °C 🌧, they say.',
};

/** Wants a user to have said something, as many templates do. */
const ASKED = `
{%- set ns = namespace(asked=false) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set ns.asked = true %}{% endif %}
    {{- '[' + message.role + ']' + message.content + '\\n' }}
{%- endfor %}
{%- if not ns.asked %}{{- raise_exception('nobody asks anything') }}{% endif %}`;

beforeAll(async () => {
  build();
  await writeScriptedModel(join(root, 'calling'), SCRIPTS, TOOLS);
  await writeScriptedModel(join(root, 'strict'), { user: 'I obey.' }, ASKED);
  const folders = [join(root, 'calling'), join(root, 'strict')];
  served = await serve([...folders, '--data', join(root, 'data'), '--threads', '1']);
  openai = new OpenAI({ baseURL: `${served.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  expect(await served.stop()).toBe(0);
  rmSync(root, { recursive: true, force: true });
});

const tools = [
  {
    type: 'function' as const,
    name: 'weather',
    description: 'Tells the weather.',
    strict: true,
    parameters: {
      type: 'object',
      properties: { city: { type: 'string' }, id: { type: 'integer' } },
      required: ['city', 'id'],
      additionalProperties: false,
    },
  },
];
const asked = { model: 'calling', input: 'What is the weather?', tools, temperature: 0 };

describe('the openai package', () => {
  test('an answer is a list of items: a thought, a message and a call', async () => {
    const response = await openai.responses.create(asked);
    expect(response.status).toBe('completed');
    expect(response.output).toMatchObject([
      {
        type: 'reasoning',
        content: [{ type: 'reasoning_text', text: expect.stringMatching(/^\s*One must look it up\.\s*$/) }],
        summary: [],
      },
      {
        type: 'message',
        role: 'assistant',
        content: [{ type: 'output_text', text: expect.stringMatching(/^\s*I ask\.$/) }],
      },
      { type: 'function_call', name: 'weather', arguments: expect.stringContaining('2512292042121000001') },
    ]);
    expect(response.output_text.trim()).toBe('I ask.');
    const { input_tokens, output_tokens, total_tokens, output_tokens_details } = response.usage!;
    expect(total_tokens).toBe(input_tokens + output_tokens);
    expect(output_tokens_details.reasoning_tokens).toBeGreaterThan(0);
    expect(output_tokens_details.reasoning_tokens).toBeLessThan(output_tokens);
  });

  test('streamed events build the same response', async () => {
    const whole = await openai.responses.create(asked);
    const stream = openai.responses.stream({ ...asked, reasoning: { summary: 'auto' } });
    const types: string[] = [];
    let last = -1;
    const deltas: Record<string, string> = {};
    for await (const event of stream) {
      types.push(event.type);
      expect(event.sequence_number).toBe(last + 1);
      last = event.sequence_number;
      if ('delta' in event) deltas[event.type] = (deltas[event.type] ?? '') + event.delta;
    }
    const response = await stream.finalResponse();
    expect(types.slice(0, 2)).toEqual(['response.created', 'response.in_progress']);
    expect(types.at(-1)).toBe('response.completed');
    for (const item of [0, 1, 2]) {
      expect(types.filter((type) => type === 'response.output_item.added')).toHaveLength(3);
      expect(response.output[item]!.type).toBe(whole.output[item]!.type);
    }
    expect(deltas['response.output_text.delta']).toBe(whole.output_text);
    expect(deltas['response.function_call_arguments.delta']).toBe(
      (whole.output[2] as OpenAI.Responses.ResponseFunctionToolCall).arguments,
    );
    // The thoughts are the summary, where one is asked for.
    expect(deltas['response.reasoning_summary_text.delta']).toBe(deltas['response.reasoning_text.delta']);
    expect(response.output_text).toBe(whole.output_text);
  });

  test('a conversation continues with its items in the next request', async () => {
    const first = await openai.responses.create(asked);
    const call = first.output.find((item) => item.type === 'function_call')!;
    const second = await openai.responses.create({
      ...asked,
      input: [
        { role: 'user', content: asked.input },
        ...(first.output as OpenAI.Responses.ResponseInputItem[]),
        { type: 'function_call_output', call_id: call.call_id, output: 'rain' },
      ],
    });
    expect(second.output_text).toBe(SCRIPTS.tool);
    // What was read before is known, but for the mark that the answer began with.
    expect(second.usage!.input_tokens_details.cached_tokens).toBeGreaterThan(first.usage!.input_tokens - 40);
  });

  test('the same, by the id of the response before, or of its items', async () => {
    const first = await openai.responses.create(asked);
    const call = first.output.find((item) => item.type === 'function_call')!;
    const output = { type: 'function_call_output' as const, call_id: call.call_id, output: 'rain' };
    const second = await openai.responses.create({
      ...asked,
      input: [output],
      previous_response_id: first.id,
    });
    const third = await openai.responses.create({
      ...asked,
      input: [
        { role: 'user', content: asked.input },
        ...first.output.map(({ id }) => ({ type: 'item_reference' as const, id: id! })),
        output,
      ],
    });
    for (const response of [second, third]) expect(response.output_text).toBe(SCRIPTS.tool);
    expect(second.usage!.input_tokens).toBe(third.usage!.input_tokens);
    expect(second.previous_response_id).toBe(first.id);
    const fourth = await openai.responses.create({
      ...asked,
      input: 'And now?',
      previous_response_id: second.id,
    });
    expect(fourth.usage!.input_tokens).toBeGreaterThan(second.usage!.input_tokens);
  });

  test('responses are stored unless `store` is false, and can be deleted', async () => {
    const kept = await openai.responses.create({ ...asked, metadata: { a: 'b' } });
    expect(await openai.responses.retrieve(kept.id)).toMatchObject({ id: kept.id, metadata: { a: 'b' } });
    const items = await openai.responses.inputItems.list(kept.id);
    expect(items.data).toMatchObject([{ type: 'message', role: 'user', content: [{ text: asked.input }] }]);
    await openai.responses.delete(kept.id);
    await expect(openai.responses.retrieve(kept.id)).rejects.toMatchObject({ status: 404 });
    const passing = await openai.responses.create({ ...asked, store: false });
    await expect(
      openai.responses.create({ ...asked, previous_response_id: passing.id }),
    ).rejects.toMatchObject({
      status: 400,
      code: 'previous_response_not_found',
    });
  });

  test('instructions are the system message, and do not apply to the next response', async () => {
    const plain = await openai.responses.create({ ...asked, tools: [] });
    const instructed = await openai.responses.create({ ...asked, tools: [], instructions: 'Be brief.' });
    const said = await openai.responses.create({
      ...asked,
      tools: [],
      input: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: asked.input },
      ],
    });
    expect(instructed.usage!.input_tokens).toBe(said.usage!.input_tokens);
    expect(instructed.usage!.input_tokens).toBeGreaterThan(plain.usage!.input_tokens);
  });

  test('an answer follows its schema, and is parsed', async () => {
    const response = await openai.responses.parse({
      model: 'calling',
      input: 'Who?',
      text: {
        format: {
          type: 'json_schema',
          name: 'who',
          strict: true,
          schema: {
            type: 'object',
            properties: { age: { type: 'integer', minimum: 1, maximum: 9 } },
            required: ['age'],
            additionalProperties: false,
          },
        },
      },
    });
    expect((response.output_parsed as unknown as { age: number }).age).toBeGreaterThan(0);
    expect(response.text!.format).toMatchObject({ type: 'json_schema' });
  });

  test('a truncated answer is marked as incomplete', async () => {
    const response = await openai.responses.create({ ...asked, max_output_tokens: 3 });
    expect(response).toMatchObject({
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
    });
    const events = [];
    for await (const event of await openai.responses.create({ ...asked, max_output_tokens: 3, stream: true }))
      events.push(event.type);
    expect(events.at(-1)).toBe('response.incomplete');
  });

  test('log probabilities', async () => {
    const { output } = await openai.responses.create({
      model: 'calling',
      input: [
        { role: 'user', content: 'q' },
        { type: 'function_call', call_id: 'c', name: 'f', arguments: '' },
        { type: 'function_call_output', call_id: 'c', output: [{ type: 'input_text', text: 'r' }] },
      ],
      include: ['message.output_text.logprobs'],
      top_logprobs: 2,
      temperature: 0,
    });
    const [part] = (output[0] as OpenAI.Responses.ResponseOutputMessage).content as [
      OpenAI.Responses.ResponseOutputText,
    ];
    expect(part.logprobs!.map(({ token }) => token).join('')).toContain('Es regnet');
    expect(part.logprobs![0]!.top_logprobs).toHaveLength(2);
  });
});

test.each<[string, object, string, RegExp]>([
  [
    'an image',
    { input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'u' }] }] },
    'input.0.content.0',
    /image/,
  ],
  ['an item that nobody knows', { input: [{ type: 'computer_call' }] }, 'input.0.type', /computer_call/],
  ['a tool of OpenAI', { tools: [{ type: 'web_search' }] }, 'tools.0.type', /web_search/],
  ['an item that is not there', { input: [{ type: 'item_reference', id: 'msg_x' }] }, 'input.0', /msg_x/],
  ['a conversation of OpenAI', { conversation: 'conv_1' }, 'conversation', /previous_response_id/],
  ['an answer in the background', { background: true }, 'background', /waits/],
  ['a stored prompt', { prompt: { id: 'p' } }, 'prompt', /stored/],
  ['nothing', { input: [] }, 'input', /nothing/],
])('%s is refused', async (_, body, param, reason) => {
  const answer = await post(`${served.url}/v1/responses`, { model: 'calling', input: 'q', ...body });
  expect(answer.status).toBe(400);
  expect(await answer.json()).toMatchObject({ error: { param, message: expect.stringMatching(reason) } });
});

test.each<[string, object]>([
  [
    'nulls everywhere',
    {
      instructions: null,
      previous_response_id: null,
      store: null,
      tools: null,
      tool_choice: null,
      text: null,
      reasoning: null,
      include: null,
      metadata: null,
      truncation: null,
      max_output_tokens: null,
      conversation: null,
      background: null,
      prompt: null,
      temperature: null,
      top_p: null,
      top_logprobs: null,
      user: null,
      service_tier: null,
      safety_identifier: null,
      prompt_cache_key: null,
      stream: null,
      stream_options: null,
      max_tool_calls: null,
      parallel_tool_calls: null,
    },
  ],
  [
    'neutral values',
    {
      background: false,
      truncation: 'auto',
      service_tier: 'default',
      text: { format: { type: 'text' }, verbosity: 'medium' },
      reasoning: { effort: null, summary: null },
      include: ['reasoning.encrypted_content'],
      tool_choice: 'auto',
      parallel_tool_calls: true,
      store: true,
      stream_options: { include_obfuscation: true },
    },
  ],
  [
    'a developer and texts as parts',
    {
      input: [
        { role: 'developer', content: 'x' },
        { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'a' }] },
      ],
    },
  ],
  [
    'an answer that another server gave',
    {
      input: [
        { role: 'user', content: 'a' },
        {
          type: 'reasoning',
          id: 'rs_1',
          summary: [{ type: 'summary_text', text: 't' }],
          encrypted_content: 'x',
          content: null,
        },
        {
          type: 'message',
          id: 'msg_1',
          role: 'assistant',
          status: 'completed',
          phase: null,
          content: [{ type: 'output_text', text: 'b', annotations: [], logprobs: [] }],
        },
        { role: 'user', content: 'c' },
      ],
    },
  ],
  [
    'a refusal',
    {
      input: [
        { role: 'user', content: 'a' },
        { role: 'assistant', content: [{ type: 'refusal', refusal: 'no' }] },
        { role: 'user', content: 'c' },
      ],
    },
  ],
  ['-1 for none', { max_output_tokens: -1, top_p: -1 }],
])('%s is accepted', async (_, body) => {
  const answer = await post(`${served.url}/v1/responses`, { model: 'calling', input: 'q', ...body });
  expect([answer.status, await answer.json()]).toMatchObject([200, { status: 'completed' }]);
});

test('instructions alone can be a state if the template requires more messages', async () => {
  const instructions = { role: 'system', content: 'Obey. '.repeat(100) };
  const made = await post(`${served.url}/v1/states`, { model: 'strict', messages: [instructions] });
  const state = (await made.json()) as State;
  expect([made.status, state.tokens]).toEqual([201, expect.any(Number)]);
  expect(state.tokens).toBeGreaterThan(600);
  const asked = {
    model: 'strict',
    state: state.id,
    messages: [{ role: 'user', content: 'well?' }],
    temperature: 0,
  };
  const answer = (await (
    await post(`${served.url}/v1/chat/completions`, asked)
  ).json()) as OpenAI.ChatCompletion;
  expect(answer.choices[0]!.message.content).toBe('I obey.');
  expect(answer.usage!.prompt_tokens_details!.cached_tokens).toBe(state.tokens);
  const alone = { model: 'strict', messages: [instructions] };
  const refused = await post(`${served.url}/v1/chat/completions`, alone);
  expect([refused.status, await refused.text()]).toEqual([
    400,
    expect.stringContaining('nobody asks anything'),
  ]);
});
