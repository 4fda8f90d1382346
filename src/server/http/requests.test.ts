/** What real clients send, and what the engine is asked for then. */
import { describe, expect, test } from 'vitest';
import { IN_WORDS } from '../../schema-issues.js';
import { answerGrammar } from '../engine/answer-grammar.js';
import type { ServedModelInfo } from '../engine/protocol.js';
import { ApiError, invalid } from './api-error.js';
import { chatRequest, closed, completionRequests } from './requests.js';
import { ResponsesRequest } from './responses/schemas.js';
import { ChatRequest, CompletionRequest } from './schemas.js';

const info: ServedModelInfo = {
  id: 'tiny',
  created: 0,
  fingerprint: 'fp',
  archiveKey: 'key',
  pattern: 'M',
  parameters: 1,
  hiddenSize: 1,
  vocabulary: 1,
  context: 4096,
  chat: true,
  images: false,
  tools: true,
  form: {
    calls: undefined,
    thoughts: [],
    thinks: false,
    history: { takesText: false, ids: 'any' as const, thoughtKey: 'reasoning_content' },
  },
};

function chat(body: object) {
  const sent = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }], ...body };
  const result = ChatRequest.safeParse(JSON.parse(JSON.stringify(sent)), IN_WORDS);
  if (!result.success) throw invalid(result.error);
  return chatRequest(result.data, info, 'anyone');
}

function complete(body: object) {
  const result = CompletionRequest.safeParse({ model: 'tiny', prompt: 'hi', ...body }, IN_WORDS);
  if (!result.success) throw invalid(result.error);
  return completionRequests(result.data, info, 'anyone');
}

/** Each part that is expected, or its absence. */
function holds(request: object, expected: object): void {
  const told = Object.keys(expected).map((key) => [key, (request as Record<string, unknown>)[key]]);
  expect(Object.fromEntries(told)).toMatchObject(expected);
}

/** A conversation with these messages after a question. */
const asked = (...more: object[]) => ({ messages: [{ role: 'user', content: 'q' }, ...more] });
const messagesOf = (body: object): unknown[] => {
  const { prompt } = chat(body);
  return prompt.kind === 'messages' ? prompt.messages.slice(1) : [];
};

const call = { id: 'c1', type: 'function', function: { name: 'w', arguments: '{"t":"x"}' } };
/** A call with these arguments, whose JSON text is as `JSON.stringify` writes it. */
const called = (args: unknown, id = 'c1') => [
  {
    role: 'assistant',
    content: '',
    tool_calls: [{ id, type: 'function', function: { name: 'w', arguments: JSON.stringify(args) } }],
  },
];

describe('messages that are sent back', () => {
  // biome-ignore format: a line for each
  test.each<[string, object[], unknown[]]>([
    ["the openai package's message of an answer", [{ role: 'assistant', content: 'a', refusal: null, annotations: [], audio: null, function_call: null, tool_calls: null, parsed: null }], [{ role: 'assistant', content: 'a' }]],
    ['a parsed answer with its object', [{ role: 'assistant', content: '{"a":1}', parsed: { a: 1 } }], [{ role: 'assistant', content: '{"a":1}' }]],
    ['thoughts of DeepSeek, vLLM and LiteLLM', [{ role: 'assistant', content: 'a', reasoning_content: 't', provider_specific_fields: {} }], [{ role: 'assistant', content: 'a', reasoning_content: 't' }]],
    ['thoughts of OpenRouter', [{ role: 'assistant', content: 'a', reasoning: 't', reasoning_details: [{ type: 'reasoning.text', text: 't' }] }], [{ role: 'assistant', content: 'a', reasoning_content: 't' }]],
    ["LiteLLM's thinking blocks", [{ role: 'assistant', content: 'a', thinking_blocks: [{ type: 'thinking', thinking: 't', signature: 's' }] }], [{ role: 'assistant', content: 'a' }]],
    [
      'thoughts among the parts',
      [
        {
          role: 'assistant',
          content: [
            { type: 'thinking', thinking: 't' },
            { type: 'text', text: 'a' },
          ],
        },
      ],
      [{ role: 'assistant', content: 'a' }],
    ],
    ['a refusal', [{ role: 'assistant', content: null, refusal: 'no' }], [{ role: 'assistant', content: 'no' }]],
    ['a refusal as a part', [{ role: 'assistant', content: [{ type: 'refusal', refusal: 'no' }] }], [{ role: 'assistant', content: 'no' }]],
    ['nulls everywhere', [{ role: 'assistant', content: null, name: null, tool_calls: null, reasoning_content: null, refusal: null }], [{ role: 'assistant', content: '' }]],
    ['calls with an index, put together from deltas', [{ role: 'assistant', content: '', tool_calls: [{ index: 0, ...call }] }], called({ t: 'x' })],
    ['calls that `runTools` has parsed', [{ role: 'assistant', content: null, tool_calls: [{ ...call, function: { ...call.function, parsed_arguments: { t: 'x' } } }] }], called({ t: 'x' })],
    ['a call without id and type', [{ role: 'assistant', content: null, tool_calls: [{ function: call.function }] }], called({ t: 'x' }, 'call_0')],
    ['arguments as an object', [{ role: 'assistant', content: null, tool_calls: [{ ...call, function: { name: 'w', arguments: { t: 'x' } } }] }], called({ t: 'x' })],
    ['arguments null', [{ role: 'assistant', content: null, tool_calls: [{ ...call, function: { name: 'w', arguments: null } }] }], called({})],
    ['arguments that are missing', [{ role: 'assistant', tool_calls: [{ ...call, function: { name: 'w' } }] }], called({})],
    ['arguments that are empty', [{ role: 'assistant', content: null, tool_calls: [{ ...call, function: { name: 'w', arguments: '' } }] }], called({})],
    ['arguments that were cut off', [{ role: 'assistant', content: null, tool_calls: [{ ...call, function: { name: 'w', arguments: '{"t":["x","y' } }] }], called({ t: ['x', 'y'] })],
    [
      'the call of an old client, and its result',
      [
        { role: 'assistant', content: null, function_call: { name: 'w', arguments: '{"t":"x"}' } },
        { role: 'function', name: 'w', content: 'r' },
      ],
      [...called({ t: 'x' }, 'call_0'), { role: 'tool', name: 'w', content: 'r' }],
    ],
    ["autogen's result with its tool's name", [{ role: 'tool', tool_call_id: 'c1', name: 'w', content: 'r' }], [{ role: 'tool', tool_call_id: 'c1', name: 'w', content: 'r' }]],
    ['a result in parts, with a mark for a cache', [{ role: 'tool', tool_call_id: 'c1', content: [{ type: 'text', text: 'r', cache_control: { type: 'ephemeral' } }] }], [{ role: 'tool', tool_call_id: 'c1', content: 'r' }]],
    ['a result that is nothing', [{ role: 'tool', tool_call_id: 'c1', content: null, is_error: false }], [{ role: 'tool', tool_call_id: 'c1', content: '' }]],
    [
      'parts of /v1/responses',
      [
        {
          role: 'user',
          content: [
            { type: 'input_text', text: 'a' },
            { type: 'input_text', text: 'b' },
          ],
        },
      ],
      [{ role: 'user', content: 'ab' }],
    ],
    ['no parts at all', [{ role: 'user', content: [] }], [{ role: 'user', content: '' }]],
    ['parts that are texts', [{ role: 'user', content: ['a', 'b'] }], [{ role: 'user', content: 'ab' }]],
    ['a named user', [{ role: 'user', name: 'ada', content: 'a' }], [{ role: 'user', name: 'ada', content: 'a' }]],
    ['a developer', [{ role: 'developer', content: 'a' }], [{ role: 'system', content: 'a' }]],
    ['a weight for fine-tuning, an id and a time', [{ role: 'user', content: 'a', weight: 1, id: 'm1', timestamp: 3 }], [{ role: 'user', content: 'a' }]],
  ])('%s', (_, sent, expected) => expect(messagesOf(asked(...sent))).toEqual(expected));
});

const tool = { type: 'function', function: { name: 'w', parameters: { type: 'object' } } };

describe('parameters', () => {
  // biome-ignore format: a line for each
  test.each<[string, object, object]>([
    [
      'openai-python with everything null',
      {
        temperature: null,
        top_p: null,
        n: null,
        stop: null,
        seed: null,
        logit_bias: null,
        logprobs: null,
        top_logprobs: null,
        max_tokens: null,
        max_completion_tokens: null,
        tools: null,
        tool_choice: null,
        response_format: null,
        stream: null,
        stream_options: null,
        user: null,
        store: null,
        metadata: null,
        prediction: null,
        reasoning_effort: null,
        service_tier: null,
        verbosity: null,
        modalities: null,
        audio: null,
        web_search_options: null,
        functions: null,
        function_call: null,
        parallel_tool_calls: null,
        presence_penalty: null,
        frequency_penalty: null,
        prompt_cache_key: null,
        prompt_cache_retention: null,
        safety_identifier: null,
      },
      { n: 1, stop: [] },
    ],
    ['LM Studio: -1 for none', { max_tokens: -1, top_k: -1, seed: -1, temperature: 0.5 }, { temperature: 0.5, topK: undefined, maxTokens: undefined }],
    ['-1 for none elsewhere', { max_completion_tokens: -1, top_p: -1, temperature: -1, top_logprobs: -1 }, { temperature: undefined, topP: undefined, logprobs: undefined }],
    ['a seed that is negative', { seed: -7 }, { seed: 4294967289 }],
    ['a seed beyond 32 bits', { seed: 2 ** 40 + 5 }, { seed: 5 }],
    ['llama.cpp clients', { cache_prompt: true, id_slot: -1, n_predict: 9, repeat_penalty: 1.1, min_p: 0, typical_p: 1, mirostat: 0, xtc_probability: 0, dry_multiplier: 0, timings_per_token: true, samplers: ['top_k'], grammar: '' }, { maxTokens: 9, repetitionPenalty: 1.1 }],
    ['SillyTavern', { include_reasoning: true, enable_web_search: false, custom_url: '', chat_completion_source: 'custom', user_name: 'a', char_name: 'b', group_names: [], top_a: 0, logit_bias: {} }, { n: 1 }],
    ['Open WebUI', { user: { id: '1', role: 'admin' }, chat_id: 'c', session_id: 's', features: { web_search: false }, tool_ids: [], files: [], variables: {}, background_tasks: {} }, { n: 1 }],
    ['Ollama clients', { options: { num_ctx: 4096 }, keep_alive: '5m', think: false }, { prompt: { variables: { enable_thinking: false, thinking: false } } }],
    ["Ollama's limit", { num_predict: 7 }, { maxTokens: 7 }],
    ["Ollama's options", { options: { num_predict: 7, temperature: 0.5, stop: ['x'], repeat_penalty: 1.1, num_ctx: 4096 } }, { maxTokens: 7, temperature: 0.5, stop: ['x'], repetitionPenalty: 1.1 }],
    ["a parameter before Ollama's options", { temperature: 0, max_tokens: 3, top_p: null, options: { temperature: 0.5, num_predict: 7, top_p: 0.5 } }, { temperature: 0, maxTokens: 3, topP: 0.5 }],
    ['no options, as PHP writes them', { options: [] }, { n: 1 }],
    ["Ollama's JSON", { format: 'json' }, { format: { kind: 'json' } }],
    ["Ollama's schema", { format: { type: 'object', properties: {} } }, { format: { kind: 'schema', schema: { type: 'object', properties: {} } } }],
    ['both formats', { format: 'json', response_format: { type: 'text' } }, { format: undefined }],
    ['no format of Ollama', { format: '' }, { format: undefined }],
    ['OpenRouter clients such as Cline', { transforms: ['middle-out'], provider: { order: [] }, models: ['a', 'b'], route: 'fallback', usage: { include: true }, stream: true, stream_options: { include_usage: true } }, { n: 1 }],
    ['Continue', { prediction: { type: 'content', content: 'x' }, stop: ['/src/', ''], max_tokens: 4096 }, { stop: ['/src/'] }],
    ["LangChain's defaults", { temperature: 0.7, top_p: 1, frequency_penalty: 0, presence_penalty: 0, n: 1, stream: false, logit_bias: undefined, stream_options: undefined, service_tier: 'auto', parallel_tool_calls: true }, { temperature: 0.7, topP: 1 }],
    ['LlamaIndex', { max_tokens: 100, tool_choice: 'auto', tools: [{ ...tool, function: { ...tool.function, description: '', strict: false } }], parallel_tool_calls: false }, { maxTokens: 100 }],
    ['aider', { extra_body: {}, num_ctx: 8192, headers: {}, stream: true, temperature: 0 }, { temperature: 0 }],
    ['a store and its metadata', { store: true, metadata: { a: 'b', n: 3 }, service_tier: 'flex', safety_identifier: 'x', verbosity: 'low' }, { n: 1 }],
    ['no alternatives', { logprobs: false, top_logprobs: 0 }, { logprobs: undefined }],
    ['alternatives as Together counts them', { logprobs: 3 }, { logprobs: 3 }],
    ['alternatives as OpenAI counts them', { logprobs: true, top_logprobs: 2 }, { logprobs: 2 }],
    ['an empty stop', { stop: '' }, { stop: [] }],
    ['stops that are empty or null', { stop: ['', null, 'x'] }, { stop: ['x'] }],
    ['nothing to write', { max_tokens: 0 }, { maxTokens: 0 }],
    ['thinking of GLM and DeepSeek', { thinking: { type: 'disabled' } }, { prompt: { variables: { enable_thinking: false, thinking: false } } }],
    ['thinking of OpenAI', { reasoning_effort: 'none' }, { prompt: { variables: { enable_thinking: false, thinking: false } } }],
    ['how much to think', { reasoning_effort: 'high' }, { prompt: { variables: { reasoning_effort: 'high' } } }],
    ['how much to think, at OpenRouter', { reasoning: { effort: 'low', exclude: false } }, { prompt: { variables: { reasoning_effort: 'low' } } }],
    ['thinking of Qwen', { enable_thinking: true }, { prompt: { variables: { enable_thinking: true, thinking: true } } }],
    ["the template's own variables", { enable_thinking: true, chat_template_kwargs: { enable_thinking: false, x: null } }, { prompt: { variables: { enable_thinking: false, thinking: true, x: null } } }],
    ["OpenAI's schema", { response_format: { type: 'json_schema', json_schema: { name: 'x', strict: true, description: null, schema: { type: 'object' } } } }, { format: { kind: 'schema', schema: { type: 'object' } } }],
    ["llama.cpp's schema", { response_format: { type: 'json_schema', schema: { type: 'array' } } }, { format: { kind: 'schema', schema: { type: 'array' } } }],
    ["Together's schema", { response_format: { type: 'json_object', schema: { type: 'object' } } }, { format: { kind: 'schema', schema: { type: 'object' } } }],
    ["LM Studio's bare schema", { response_format: { type: 'json_schema', json_schema: { type: 'object', properties: {} } } }, { format: { kind: 'schema', schema: { type: 'object', properties: {} } } }],
    ['a schema that is null', { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: null } } }, { format: { kind: 'json' } }],
    ['text as a format', { response_format: { type: 'text', schema: null } }, { format: undefined }],
    ['no tools', { tools: [], tool_choice: 'none' }, { format: undefined }],
    ['tools, none of which may be called', { tools: [tool], tool_choice: 'none' }, { format: undefined }],
    ["Mistral's word for required", { tools: [tool], tool_choice: 'any' }, { calls: { demanded: true, tools: [{ name: 'w', parameters: { type: 'object' } }] } }],
    ['one that must be called', { tools: [tool, { type: 'function', function: { name: 'v' } }], tool_choice: { type: 'function', function: { name: 'v' } } }, { calls: { demanded: true, tools: [{ name: 'v', parameters: { type: 'object' } }] } }],
    ['some that may be called', { tools: [tool, { type: 'function', function: { name: 'v' } }], tool_choice: { type: 'allowed_tools', allowed_tools: { mode: 'auto', tools: [{ type: 'function', function: { name: 'w' } }] } } }, { prompt: { tools: [tool] } }],
    ['a tool without type, parameters null', { tools: [{ function: { name: 'w', description: null, parameters: null, strict: null } }] }, { prompt: { tools: [{ type: 'function', function: { name: 'w' } }] } }],
    ['a tool of an MCP server', { tools: [{ type: 'function', function: { name: 'files.read:v2' }, cache_control: { type: 'ephemeral' } }] }, { prompt: { tools: [{ type: 'function', function: { name: 'files.read:v2' } }] } }],
    ['a tool as /v1/responses has it', { tools: [{ type: 'function', name: 'w', parameters: {} }] }, { prompt: { tools: [{ type: 'function', function: { name: 'w', parameters: {} } }] } }],
    ['nulls inside a schema stay', { tools: [{ type: 'function', function: { name: 'w', parameters: { properties: { a: { default: null } } } } }] }, { prompt: { tools: [{ function: { parameters: { properties: { a: { default: null } } } } }] } }],
    ['old functions that are none', { functions: [], function_call: 'none' }, { n: 1 }],
    ['no model, where there is one', { model: null }, { model: 'tiny' }],
  ])('%s', (_, sent, expected) => holds(chat(sent), expected));

  // biome-ignore format: a line for each
  test.each<[string, object, object]>([
    ['forty prompts', { prompt: Array.from({ length: 40 }, (_, i) => `${i}`) }, { prompt: { kind: 'text', text: '0' } }],
    ['texts and tokens side by side', { prompt: ['a', [1, 2]] }, { prompt: { text: 'a' } }],
    ['a suffix that is empty', { suffix: '' }, { maxTokens: 16 }],
    ['as many as are chosen from', { n: 3, best_of: 3 }, { n: 3 }],
    ['a prompt alone', { max_tokens: 0, echo: true, logprobs: 1 }, { maxTokens: 0, echo: true, logprobs: 1 }],
    ['lm-eval', { echo: true, max_tokens: 1, temperature: 0, logprobs: 1, seed: 1234 }, { echo: true }],
    ['logprobs that are off', { logprobs: false }, { logprobs: undefined }],
    ['nulls', { suffix: null, best_of: null, echo: null, logprobs: null, max_tokens: null }, { maxTokens: 16 }],
  ])('of completions: %s', (_, sent, expected) => holds(complete(sent)[0]!, expected));

  // biome-ignore format: a line for each
  test.each<[string, object, string, RegExp]>([
    [
      'an image',
      asked({
        role: 'user',
        content: [
          { type: 'text', text: 'a' },
          { type: 'image_url', image_url: { url: 'u' } },
        ],
      }),
      'messages.1.content.1',
      /image/,
    ],
    ['a sound', asked({ role: 'user', content: [{ type: 'input_audio', input_audio: {} }] }), 'messages.1.content.0', /audio/],
    ['a file', asked({ role: 'user', content: [{ type: 'file', file: {} }] }), 'messages.1.content.0', /a file/],
    ['a part that nobody knows', asked({ role: 'user', content: [{ type: 'smell' }] }), 'messages.1.content.0', /'smell'/],
    ['a role that nobody knows', asked({ role: 'model', content: 'a' }), 'messages.1.role', /expected "system", .* or "function", and it is "model"/],
    ['an answer that is begun', asked({ role: 'assistant', content: 'a', prefix: true }), 'messages.1.prefix', /begun/],
    ['a tool that is no function', { tools: [{ type: 'web_search_preview' }] }, 'tools.0.type', /web_search_preview/],
    ['a tool without a name', { tools: [{ type: 'function', function: {} }] }, 'tools.0.function.name', /it is missing: expected a text/],
    ['a tool that is not there', { tools: [tool], tool_choice: { type: 'function', function: { name: 'x' } } }, 'tool_choice', /x/],
    ['old functions', { functions: [{ name: 'f' }] }, 'functions', /tools/],
    ['sound for an answer', { modalities: ['text', 'audio'] }, 'modalities', /text/],
    ['a search', { web_search_options: {} }, 'web_search_options', /search/],
    ['another sampler', { typical_p: 0.5 }, 'typical_p', /sampler/],
    ['another grammar', { guided_regex: 'a+' }, 'guided_regex', /response_format/],
    ["a template of the client's own", { chat_template: '{{ messages }}' }, 'chat_template', /template/],
    ['an unknown format of Ollama', { format: 'yaml' }, 'format', /json/],
    ['a letter left out', { temprature: 0 }, 'temprature', /'temperature'/],
    ['letters swapped', { max_tokesn: 3 }, 'max_tokesn', /'max_tokens'/],
    ['words parted otherwise', { maxTokens: 3 }, 'maxTokens', /'max_tokens'/],
    ['a temperature', { temperature: 3 }, 'temperature', /2/],
    ['a temperature as a text', { temperature: '0.5' }, 'temperature', /expected a number, and it is "0.5"/],
    ['a seed between numbers', { seed: 1.5 }, 'seed', /whole number/],
    ['a bias on a token of another tokenizer', { logit_bias: { 0: 1, 50256: -100 } }, 'logit_bias.50256', /the token 50256 is not one of the 1 of tiny/],
    ['parameters of a tool that are a list', { tools: [{ type: 'function', function: { name: 'w', parameters: { type: 'array' } } }] }, 'tools.0.function.parameters', /expected the schema of an object, and its type is "array"/],
    ['a bias of a word', { logit_bias: { yes: 5 } }, 'logit_bias.yes', /id of a token/],
    ['too many stops', { stop: Array(65).fill('a') }, 'stop', /expected at most 64 items, and it has 65/],
  ])('%s is refused', (_, sent, param, reason) => {
    let refused: unknown;
    try {
      chat(sent);
    } catch (error) {
      refused = error;
    }
    expect(refused).toBeInstanceOf(ApiError);
    expect((refused as ApiError).body.error).toMatchObject({ param, message: expect.stringMatching(reason) });
  });

  test('a parameter that is not taken is named', () => {
    expect(() => chat({ max_token: 3 })).toThrow(
      "the parameter 'max_token' does not exist: write 'max_tokens'",
    );
    expect(() => chat({ options: { mirostat: 2 } })).toThrow("the parameter 'mirostat' is not supported: ");
    expect(() => chat({ options: 'num_predict 7' })).toThrow("the parameter 'options' is not supported: ");
  });

  test('parameters of one interface in another: the same ones are taken, and none is left out silently', () => {
    holds(chat({ max_output_tokens: 3 }), { maxTokens: 3 });
    holds(chat({ max_output_tokens: 3, max_tokens: 5 }), { maxTokens: 5 });
    holds(chat({ max_new_tokens: 3, max_completion_tokens: null }), { maxTokens: 3 });
    holds(complete({ max_completion_tokens: 3 })[0]!, { maxTokens: 3 });
    holds(complete({ response_format: { type: 'json_object' } })[0]!, { format: { kind: 'json' } });
    const response = ResponsesRequest.parse({ input: 'hi', max_tokens: 3 });
    expect(response.max_output_tokens).toBe(3);
    const format = { input: 'hi', response_format: { type: 'json_object' } };
    expect(() => ResponsesRequest.parse(format)).toThrow(/'text'/);
    expect(() => ResponsesRequest.parse({ input: 'hi', format: 'json' })).toThrow(/'text'/);
    expect(() => ResponsesRequest.parse({ input: ['hi'] })).toThrow(/expected an item/);
  });

  test('empty objects as PHP writes them, and seeds of 64 bits', () => {
    const tools = [{ type: 'function', function: { name: 'w', parameters: [] } }];
    holds(chat({ tools, logit_bias: [], stream_options: [], metadata: [] }), { bias: undefined });
    const schema = { type: 'object', properties: [], additionalProperties: false };
    const format = { type: 'json_schema', json_schema: { name: 'x', schema } };
    const request = chat({ response_format: format });
    expect(() => answerGrammar(request, info.form, {})).not.toThrow();
    const { seed } = chat({ seed: 2 ** 63 + 2 ** 20 });
    expect(Number.isSafeInteger(seed)).toBe(true);
    expect(seed).not.toBe(chat({ seed: 2 ** 63 }).seed);
    holds(chat({ min_p: 0.05 }), { minP: 0.05 });
  });

  test('the best of several is refused', () => {
    expect(() => complete({ best_of: 2 })).toThrow(/best_of/);
    expect(() => complete({ suffix: 'x' })).toThrow(/suffix/);
  });
});

test.each([
  ['{"a": 1', { a: 1 }],
  ['{"a": "x\\"y', { a: 'x"y' }],
  ['{"a": [1, {"b": 2', { a: [1, { b: 2 }] }],
  ['{"a": 1, "b": tru', { a: 1 }],
  ['{"a": 1, "b', { a: 1 }],
  ['{"a": "x\\', undefined],
  ['{"a', undefined],
])('%s is closed', (json, expected) => {
  const values = closed(json).flatMap((text) => {
    try {
      return [JSON.parse(text) as unknown];
    } catch {
      return [];
    }
  });
  expect(values[0]).toEqual(expected);
});
