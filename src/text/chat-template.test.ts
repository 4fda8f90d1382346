/** Chat templates: found in the files where transformers looks, and rendered like Python's Jinja. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DataError, TokenizerError } from '../errors.js';
import { type ChatMessage, type ChatRenderOptions, ChatTemplate } from './chat-template.js';
import { readExactJson } from './exact-json.js';
import { ALTERNATING, CHATML, DOCUMENTS, HEADERS, THINKING } from './testing/chat-templates.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'heddle-chat-template-'));
});
afterAll(() => rm(folder, { recursive: true }));

let made = 0;
/** Creates a folder with these files; values other than strings are written as JSON. */
async function folderWith(files: Record<string, unknown>): Promise<string> {
  const path = join(folder, String(made++));
  await mkdir(path);
  for (const [name, contents] of Object.entries(files)) {
    await writeFile(join(path, name), typeof contents === 'string' ? contents : JSON.stringify(contents));
  }
  return path;
}

const SPECIAL = { bos_token: '<s>', eos_token: '</s>' };

/** Of the source itself. */
function templateOf(source: string): ChatTemplate {
  return new ChatTemplate({
    sources: { default: source },
    origin: 'models/some/chat_template.jinja',
    variables: SPECIAL,
  });
}

/** Of a folder with these files. */
async function loaded(files: Record<string, unknown>): Promise<ChatTemplate> {
  return (await ChatTemplate.load(await folderWith(files)))!;
}

const user = (content: string): ChatMessage => ({ role: 'user', content });
const assistant = (content: string): ChatMessage => ({ role: 'assistant', content });
const system = (content: string): ChatMessage => ({ role: 'system', content });

// The expected texts were rendered by Python's Jinja 3.1 with the settings of transformers.
describe('rendering', () => {
  const conversation = [user('hi'), assistant('hello'), user('and?')];
  const prompt: ChatRenderOptions = { addGenerationPrompt: true };

  test('a role and a text between two tokens', async () => {
    const chatml = templateOf(CHATML);
    const written =
      '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n<|im_start|>user\nand?<|im_end|>\n';
    expect(await chatml.render(conversation)).toBe(written);
    expect(await chatml.render(conversation, prompt)).toBe(`${written}<|im_start|>assistant\n`);
    expect(await chatml.render([system('be brief'), ...conversation])).toBe(
      `<|im_start|>system\nbe brief<|im_end|>\n${written}`,
    );
  });

  test('headers, special tokens, variables and tools', async () => {
    const headers = templateOf(HEADERS);
    const variables = { day: '01 Jan 2025' };
    expect(
      await headers.render([system(' be brief\n'), user('hi'), assistant(' hello '), user('and?')], {
        ...prompt,
        variables,
      }),
    ).toBe(
      '<s><|start_header_id|>system<|end_header_id|>\n\nToday: 01 Jan 2025\nbe brief<|eot_id|>' +
        '<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>' +
        '<|start_header_id|>assistant<|end_header_id|>\n\nhello<|eot_id|>' +
        '<|start_header_id|>user<|end_header_id|>\n\nand?<|eot_id|>' +
        '<|start_header_id|>assistant<|end_header_id|>\n\n',
    );
    const tools = [{ name: 'sum', parameters: { a: 'ü' }, none: [] }];
    expect(await headers.render([user('hi')], { tools, variables })).toBe(
      '<s><|start_header_id|>system<|end_header_id|>\n\nToday: 01 Jan 2025\n' +
        '{\n  "name": "sum",\n  "parameters": {\n    "a": "ü"\n  },\n  "none": []\n}\n<|eot_id|>' +
        '<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>',
    );
  });

  test('the day, in English', async () => {
    const month = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
    const today = (): string => {
      const now = new Date();
      const day = String(now.getDate()).padStart(2, '0');
      return `${day} ${month[now.getMonth()]} ${now.getFullYear()}`;
    };
    // Midnight may pass meanwhile.
    const days = [today()];
    const written = await templateOf(HEADERS).render([user('hi')]);
    days.push(today());
    expect(days).toContain(/Today: (.*)\n/.exec(written)![1]);

    const parts = await templateOf(
      "{{ strftime_now('%Y|%y|%m|%-m|%d|%H|%I|%M|%S|%j|%p|%a|%A|%b|%B|%%|%Q') }}",
    ).render([]);
    expect(parts).toMatch(
      /^20\d\d\|\d\d\|[01]\d\|1?\d\|[0-3]\d\|[0-2]\d\|[01]\d\|[0-5]\d\|[0-5]\d\|[0-3]\d\d\|[AP]M\|[A-Z][a-z]{2}\|[A-Z][a-z]+day\|[A-Z][a-z]{2}\|[A-Z][a-z]+\|%\|%Q$/,
    );
  });

  test('a default system message, and documents', async () => {
    const granite = templateOf(DOCUMENTS);
    expect(await granite.render([user('hi')], prompt)).toBe(
      '<|start_of_role|>system<|end_of_role|>You are a helpful assistant.<|end_of_text|>\n' +
        '<|start_of_role|>user<|end_of_role|>hi<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>',
    );
    const documents = [
      { title: 'A', text: 'one' },
      { title: 'B', text: 'two' },
    ];
    const messages = [user('hi'), { role: 'tool', content: 'x' }, assistant('yo')];
    expect(await granite.render(messages, { documents })).toBe(
      '<|start_of_role|>system<|end_of_role|>You are a helpful assistant. Answer from the documents.<|end_of_text|>\n' +
        '<|start_of_role|>document 1<|end_of_role|>A: one<|end_of_text|>\n' +
        '<|start_of_role|>document 2<|end_of_role|>B: two<|end_of_text|>\n' +
        '<|start_of_role|>user<|end_of_role|>hi<|end_of_text|>\n' +
        '<|start_of_role|>assistant<|end_of_role|>yo<|end_of_text|>\n',
    );
    expect(await granite.render([system('sys'), user('hi')])).toBe(
      '<|start_of_role|>system<|end_of_role|>sys<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>hi<|end_of_text|>\n',
    );
  });

  test('thoughts, which are kept only in the last answer', async () => {
    const thinking = templateOf(THINKING);
    const thought = '<think>\nhm\n</think>\n\n';
    expect(
      await thinking.render([
        user('hi'),
        assistant(`${thought}  hello`),
        user('and?'),
        assistant(`${thought}no`),
      ]),
    ).toBe(
      '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n  hello<|im_end|>\n' +
        `<|im_start|>user\nand?<|im_end|>\n<|im_start|>assistant\n${thought}no<|im_end|>\n`,
    );
    const ending = async (options: ChatRenderOptions): Promise<string> =>
      (await thinking.render([user('hi')], options)).split('hi<|im_end|>\n')[1]!;
    expect(await ending(prompt)).toBe('<|im_start|>assistant\n<think>\n');
    expect(await ending({ ...prompt, variables: { enable_thinking: false } })).toBe(
      '<|im_start|>assistant\n',
    );
  });

  test('a conversation that the template refuses, whose message is in the error', async () => {
    const alternating = templateOf(ALTERNATING);
    expect(await alternating.render(conversation)).toBe('<s>[INST] hi [/INST]hello</s>[INST] and? [/INST]');
    await expect(alternating.render([user('a'), user('b')])).rejects.toThrow(
      'models/some/chat_template.jinja: the chat template refuses these messages: Roles must alternate: user, assistant, user, ...',
    );
    // The template can be used again.
    expect(await alternating.render([user('a')])).toBe('<s>[INST] a [/INST]');
  });

  test("Python's strip removes the given characters, else white space", async () => {
    const written = await templateOf(
      `{{ messages[0].content.strip('\\n') }}|{{ messages[0].content.lstrip(' \\n') }}|{{ messages[0].content.rstrip('b\\n') }}|{{ messages[0].content.strip() }}`,
    ).render([user('\n a bb\n')]);
    expect(written).toBe(' a bb|a bb\n|\n a |a bb');
  });

  test('ranges up to the 100,000 that the sandbox allows', async () => {
    const range = templateOf(
      `{% for i in range(messages[0].content) %}{% if loop.last %}{{ i }}{% endif %}{% endfor %} {{ range(7, 1, -2) | join(',') }} {{ range(3, 3) | length }}`,
    );
    expect(await range.render([{ role: 'user', content: 100_000 }])).toBe('99999 7,5,3 0');
    await expect(range.render([{ role: 'user', content: 100_001 }])).rejects.toThrow(/Range too big/);
  });

  test('missing tools, documents and tokens are None', async () => {
    const probe = templateOf(
      '{{ tools is none }} {{ documents is none }} {{ pad_token is defined }} {{ bos_token is defined }}',
    );
    expect(await probe.render([])).toBe('True True False True');
  });

  test('variables override special tokens, and nothing overrides the messages', async () => {
    const variables = { bos_token: '<b>', messages: [user('no')], range: 'r' };
    const probe = templateOf('{{ bos_token }}{{ eos_token }}{{ messages[0].content }}{{ range }}');
    expect(await probe.render([user('yes')], { variables })).toBe('<b></s>yesr');
  });

  describe('arguments of calls', () => {
    const calling = (args: unknown): ChatMessage => ({
      role: 'assistant',
      content: '',
      tool_calls: [{ id: 'c', type: 'function', function: { name: 'w', arguments: args } }],
    });
    const each = templateOf(
      '{% for m in messages %}{% for c in m.tool_calls %}{% for k, v in c.function.arguments | items %}{{ k }}={{ v }};{% endfor %}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}',
    );
    const joined = templateOf(
      "{% for m in messages %}{% for c in m.tool_calls %}{{ 'args: ' + c.function.arguments }}{% endfor %}{% endfor %}",
    );

    test('as JSON text are parsed, with exact numbers and the order of the keys', async () => {
      expect(await each.render([calling('{"2": 1.0, "1": 2512292042121000001, "a": null}')])).toBe(
        '2=1.0;1=2512292042121000001;a=None;{"2": 1.0, "1": 2512292042121000001, "a": null}',
      );
      expect(await each.render([calling(' ')])).toBe('{}');
    });

    test('as objects are used as they are', async () => {
      expect(await each.render([calling({ b: 1, a: [1.5, true] })])).toBe(
        'b=1;a=[1.5, True];{"b": 1, "a": [1.5, true]}',
      );
    });

    test('stay text for a template that needs text, and if they are not JSON', async () => {
      expect(await joined.render([calling('{"a":  1.0}')])).toBe('args: {"a":  1.0}');
      expect(await joined.render([calling('{"a": ')])).toBe('args: {"a": ');
      await expect(joined.render([calling({ a: 1 })])).rejects.toThrow(/can only concatenate str/);
    });
  });

  test('tools and variables from `readExactJson`', async () => {
    const tools = readExactJson('[{"2": 1.0, "1": 12345678901234567890}]') as unknown[];
    const variables = readExactJson('{"ratio": 2.0}') as Map<string, unknown>;
    expect(
      await templateOf('{{ tools | tojson }} {{ ratio }} {{ eos_token }}').render([], { tools, variables }),
    ).toBe('[{"2": 1.0, "1": 12345678901234567890}] 2.0 </s>');
  });

  test('concurrent renderings are independent', async () => {
    const chatml = templateOf(CHATML);
    const texts = await Promise.all(['a', 'b', 'c'].map((text) => chatml.render([user(text)])));
    expect(texts).toEqual(['a', 'b', 'c'].map((text) => `<|im_start|>user\n${text}<|im_end|>\n`));
  });

  test('messages that are not plain data are refused', async () => {
    const chatml = templateOf(CHATML);
    await expect(chatml.render([{ role: 'user', content: () => 1 }])).rejects.toBeInstanceOf(DataError);
    expect(await chatml.render([user('a')])).toBe('<|im_start|>user\na<|im_end|>\n');
  });
});

describe('where templates are found', () => {
  const render = async (files: Record<string, unknown>, options?: ChatRenderOptions): Promise<string> =>
    (await loaded(files)).render([user('hi')], options);

  test('the .jinja file first, then the tokenizer, then the old file', async () => {
    const files = {
      'chat_template.jinja': 'jinja',
      'tokenizer_config.json': { chat_template: 'config' },
      'chat_template.json': { chat_template: 'old' },
    };
    expect(await render(files)).toBe('jinja');
    const { 'chat_template.jinja': _, ...others } = files;
    expect(await render(others)).toBe('config');
    expect(await render({ 'chat_template.json': files['chat_template.json'] })).toBe('old');
    expect(await render({ ...others, 'tokenizer_config.json': { chat_template: null } })).toBe('old');
    expect((await loaded(others)).origin).toMatch(/tokenizer_config\.json$/);
  });

  test('nowhere', async () => {
    expect(await ChatTemplate.load(await folderWith({}))).toBeUndefined();
    expect(await ChatTemplate.load(await folderWith({ 'tokenizer_config.json': SPECIAL }))).toBeUndefined();
  });

  test('by name, with the one for tools if there are tools', async () => {
    const list = [
      { name: 'default', template: 'plain' },
      { name: 'tool_use', template: 'tools' },
    ];
    expect(await render({ 'tokenizer_config.json': { chat_template: list } })).toBe('plain');
    expect(await render({ 'tokenizer_config.json': { chat_template: list } }, { tools: [] })).toBe('tools');
    const alone = { 'tokenizer_config.json': { chat_template: list.slice(0, 1) } };
    expect(await render(alone, { tools: [] })).toBe('plain');
    const odd = { 'tokenizer_config.json': { chat_template: [{ name: 'rag', template: 'x' }] } };
    await expect(render(odd)).rejects.toThrow(/tokenizer_config\.json has chat templates named rag/);
  });

  test('special tokens by their text, in every spelling of the config', async () => {
    const config = {
      bos_token: '<s>',
      eos_token: { __type: 'AddedToken', content: '</s>', lstrip: false },
      pad_token: null,
      image_token: '<image>',
      add_bos_token: true,
      additional_special_tokens: ['<a>', { content: '<b>' }],
    };
    const source =
      "{{ bos_token }}{{ eos_token }}{{ image_token }}{{ additional_special_tokens | join('') }}{{ pad_token is defined }}{{ add_bos_token is defined }}";
    expect(await render({ 'chat_template.jinja': source, 'tokenizer_config.json': config })).toBe(
      '<s></s><image><a><b>FalseFalse',
    );
  });

  test('a damaged file is refused with its path', async () => {
    const load = async (files: Record<string, unknown>): Promise<unknown> =>
      ChatTemplate.load(await folderWith(files));
    for (const [name, contents] of [
      ['tokenizer_config.json', '{"chat_template": "x'],
      ['tokenizer_config.json', { chat_template: 7 }],
      ['tokenizer_config.json', { chat_template: [] }],
      ['tokenizer_config.json', { chat_template: [{ name: 'default' }] }],
      ['chat_template.json', '[1,'],
      ['chat_template.json', { chat_template: {} }],
      ['chat_template.jinja', 'x'.repeat(2 ** 20 + 1)],
    ] as const) {
      const loading = load({ [name]: contents });
      await expect(loading).rejects.toBeInstanceOf(TokenizerError);
      await expect(loading).rejects.toThrow(name);
    }
    const blocked = await folderWith({});
    await mkdir(join(blocked, 'chat_template.jinja'));
    await expect(ChatTemplate.load(blocked)).rejects.toThrow(/chat_template\.jinja cannot be read/);
  });
});
