/**
 * Chat templates of recent hybrids, written after the structure of the published ones: the calls and thoughts that each renders
 * are read back, with thinking switched on and off.
 */
import { describe, expect, test } from 'vitest';
import { ChatTemplate } from '../chat-template.js';
import { historyMessages } from './history.js';
import { generationPromptOf, learnAnswerForm, openThought } from './learn.js';
import { joinedParts } from './message.js';
import { AnswerReader } from './reader.js';

/** Calls as elements after the text, as in Qwen3.5 and Nemotron 3. */
const ELEMENTS = `{%- for c in m.tool_calls or [] %}{%- set c = c.function if c.function is defined else c %}{{- '\\n\\n' if loop.first and m.content else '' }}{{- '\\n' if not loop.first else '' }}{{- '<tool_call>\\n<function=' + c.name + '>\\n' }}{%- if c.arguments is mapping %}{%- for k, v in c.arguments | items %}{{- '<parameter=' + k + '>\\n' }}{{- v | tojson | safe if v is mapping or (v is sequence and v is not string) else v | string }}{{- '\\n</parameter>\\n' }}{%- endfor %}{%- endif %}{{- '</function>\\n</tool_call>' }}{%- endfor %}`;
const chatml = (thought: string, calls: string, prompt: string, told: string): string =>
  `{%- if tools %}{{- '<|im_start|>system\\n# Tools\\n\\n<tools>' }}{%- for t in tools %}{{- '\\n' + (t | tojson) }}{%- endfor %}{{- '\\n</tools>\\n${told}' }}{%- if messages[0].role == 'system' %}{{- '\\n\\n' + messages[0].content }}{%- endif %}{{- '<|im_end|>\\n' }}{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}{%- for m in messages %}{%- if m.role == 'user' %}{{- '<|im_start|>user\\n' + m.content + '<|im_end|>\\n' }}{%- elif m.role == 'assistant' %}{{- '<|im_start|>assistant\\n' }}${thought}{{- m.content or '' }}${calls}{{- '<|im_end|>\\n' }}{%- elif m.role == 'tool' %}{%- if loop.previtem is not defined or loop.previtem.role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}{{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}{%- if loop.last or loop.nextitem.role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}${prompt}{%- endif %}`;
const THOUGHT = `{%- if m.reasoning_content %}{{- '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{%- endif %}`;

const kimi = (id: string): string =>
  `{%- if tools -%}<|im_system|>tool_declare<|im_middle|>{{ tools | tojson }}<|im_end|>{%- endif -%}{%- for m in messages -%}{%- if m.role == 'user' -%}<|im_user|>user<|im_middle|>{%- elif m.role == 'assistant' -%}<|im_assistant|>assistant<|im_middle|>{%- else -%}<|im_system|>{{ m.role }}<|im_middle|>{%- endif -%}{%- if m.role == 'assistant' and m.get('tool_calls') -%}{%- if m.content -%}{{ m.content }}{%- endif -%}{{- '<|tool_calls_section_begin|>' -}}{%- for c in m.tool_calls -%}{%- set formatted_id = ${id} -%}{{ '<|tool_call_begin|>' }}{{ formatted_id }}{{ '<|tool_call_argument_begin|>' }}{% if c.function.arguments is string %}{{ c.function.arguments }}{% else %}{{ c.function.arguments | tojson }}{% endif %}{{ '<|tool_call_end|>' }}{%- endfor -%}{{- '<|tool_calls_section_end|>' -}}{%- elif m.role == 'tool' -%}{{ '## Return of ' + m.tool_call_id + '\\n' }}{{ m.content }}{%- else -%}{{ m.content }}{%- endif -%}<|im_end|>{%- endfor -%}{%- if add_generation_prompt -%}<|im_assistant|>assistant<|im_middle|>{%- endif -%}`;

const python = `{%- if m.tool_calls %}{{- '<|tool_call_start|>[' }}{%- for c in m.tool_calls %}{{- c.function.name + '(' }}{%- for k, v in c.function.arguments | items %}{{- k + '=' }}{{- v | tojson }}{%- if not loop.last %}{{- ', ' }}{%- endif %}{%- endfor %}{{- ')' }}{%- if not loop.last %}{{- ', ' }}{%- endif %}{%- endfor %}{{- ']<|tool_call_end|>' }}{%- endif %}`;
const minimax = `{%- if m.tool_calls %}{{- '\\n<minimax:tool_call>\\n' }}{%- for c in m.tool_calls %}{{- '<invoke name="' + c.function.name + '">\\n' }}{%- for k, v in c.function.arguments | items %}{{- '<parameter name="' + k + '">' }}{{- v | tojson if v is not string else v }}{{- '</parameter>\\n' }}{%- endfor %}{{- '</invoke>\\n' }}{%- endfor %}{{- '</minimax:tool_call>' }}{%- endif %}`;
const hermes = `{%- for c in m.tool_calls or [] %}{{- '\\n<tool_call>\\n{"name": "' + c.function.name + '", "arguments": ' }}{{- c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}`;
const ling = `{{- '<role>SYSTEM</role>' }}{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n' }}{%- endif %}{%- if tools %}{{- '# Tools\\n\\n<tools>' }}{%- for t in tools %}{{- '\\n' + (t | tojson) }}{%- endfor %}{{- '\\n</tools>\\nFor each call return JSON within <tool_call></tool_call>\\n' }}{%- endif %}{{- 'detailed thinking ' + ('on' if enable_thinking else 'off') + '<|role_end|>' }}{%- for m in messages %}{%- if m.role == 'user' %}{{- '<role>HUMAN</role>' + m.content + '<|role_end|>' }}{%- elif m.role == 'assistant' %}{{- '<role>ASSISTANT</role>' }}${THOUGHT}{{- m.content or '' }}${hermes}{{- '<|role_end|>' }}{%- elif m.role == 'tool' %}{{- '<role>OBSERVATION</role>\\n<tool_response>\\n' + m.content + '\\n</tool_response><|role_end|>' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<role>ASSISTANT</role>' }}{%- endif %}`;

const TOLD =
  'Call with <tool_call>\\n<function=example_function_name>\\n<parameter=example_parameter_1>\\nvalue_1\\n</parameter>\\n</function>\\n</tool_call>';
const OPENED = `{{- '<think>\\n\\n</think>\\n\\n' if enable_thinking is defined and enable_thinking is false else '<think>\\n' }}`;

/** The template, the style of its calls, and whether the prompt opens a thought unless thinking is off. */
const FAMILIES: Readonly<Record<string, readonly [template: string, style: string, opens: boolean]>> = {
  'Qwen3.5': [chatml(THOUGHT, ELEMENTS, OPENED, TOLD), 'elements', true],
  'Nemotron 3': [
    chatml(
      THOUGHT,
      ELEMENTS,
      `{{- '<think></think>' if enable_thinking is defined and not enable_thinking else '<think>\\n' }}`,
      TOLD,
    ),
    'elements',
    true,
  ],
  LFM2: [chatml('', python, '', ''), 'python', false],
  'Kimi, names written by the template': [
    kimi("'functions.' + c.function.name + ':' + loop.index0 | string"),
    'named',
    false,
  ],
  'Kimi, names in the ids': [kimi('c.id'), 'named', false],
  'MiniMax M2': [chatml(THOUGHT, minimax, `{{- '<think>\\n' }}`, ''), 'elements', true],
  Ling: [ling, 'object', false],
};

const TOOLS = ['look_up', 'get-it'].map((name) => ({
  type: 'function',
  function: {
    name,
    parameters: {
      type: 'object',
      properties: { city: { type: 'string' }, days: { type: 'integer' }, near: { type: 'array' } },
    },
  },
}));
const CALLABLE = TOOLS.map(({ function: tool }) => tool);
const GIVEN = { city: 'São "Paulo"', days: 3, near: [1, 'two'] };
const CALLS = CALLABLE.map(({ name }, i) => ({
  id: `call_${i}00000000000000000000000`,
  type: 'function',
  function: { name, arguments: JSON.stringify(GIVEN) },
}));

describe.each(Object.entries(FAMILIES))('%s', (name, [source, style, opens]) => {
  const template = new ChatTemplate({ sources: { default: source }, origin: 'there.jinja' });
  const user = { role: 'user', content: 'hi' };

  test('its rendered calls are read back, split anywhere', async () => {
    const form = await learnAnswerForm(template);
    expect(form.calls?.style).toBe(style);
    const messages = [{ role: 'system', content: 'Be brief.' }, user];
    const answer = { role: 'assistant', content: 'Well.', tool_calls: CALLS };
    const options = { tools: TOOLS };
    const before = await template.render(messages, options);
    const after = await template.render(historyMessages([...messages, answer], form), options);
    const prefix = generationPromptOf(before, after);
    const text = prefix.slice(prefix.indexOf('Well.')).replace(/(?:<\|im_end\|>|<\|role_end\|>)\s*$/, '');
    const pieces = [[text], Array.from(text), text.split(/(?<=\n|>)/)];
    for (const cut of pieces) {
      const reader = new AnswerReader({ form, tools: CALLABLE });
      const said = joinedParts([...cut.flatMap((piece) => reader.push(piece)), ...reader.end()]);
      expect(said.content.trim()).toBe('Well.');
      expect(said.calls.map((call) => [call.name, JSON.parse(call.arguments)])).toEqual(
        CALLABLE.map((tool) => [tool.name, GIVEN]),
      );
    }
  });

  test('results and what follows them are rendered', async () => {
    const form = await learnAnswerForm(template);
    const results = CALLS.map(({ id }, i) => ({ role: 'tool', tool_call_id: id, content: `result ${i}` }));
    const answer = { role: 'assistant', content: '', tool_calls: CALLS };
    const text = await template.render(historyMessages([user, answer, ...results], form), {
      tools: TOOLS,
      addGenerationPrompt: true,
    });
    expect(text.indexOf('result 0')).toBeGreaterThan(text.indexOf('get-it'));
    expect(text.indexOf('result 1')).toBeGreaterThan(text.indexOf('result 0'));
    if (name === 'Kimi, names in the ids') {
      expect(text).toContain('<|tool_call_begin|>functions.get-it:1<|tool_call_argument_begin|>');
      expect(text).toContain('## Return of functions.look_up:0\nresult 0');
    }
  });

  test('thinking is on and off', async () => {
    const form = await learnAnswerForm(template);
    const prompt = async (variables: Readonly<Record<string, unknown>> = {}): Promise<string> => {
      const without = await template.render([user], { variables });
      return generationPromptOf(
        without,
        await template.render([user], { addGenerationPrompt: true, variables }),
      );
    };
    expect(openThought(await prompt(), form) !== undefined).toBe(opens);
    const off = openThought(await prompt({ enable_thinking: false }), form);
    expect(off !== undefined).toBe(name === 'MiniMax M2');
    const reader = new AnswerReader({ form, thinking: openThought(await prompt(), form) });
    const said = joinedParts([
      ...reader.push(`${opens ? '' : '<think>'}Hm.\n</think>\n\nYes.`),
      ...reader.end(),
    ]);
    expect([said.thought.trim(), said.content]).toEqual(['Hm.', 'Yes.']);
  });
});

test("Kimi's own ids are kept, and other ids are replaced by the position of their call", async () => {
  const template = new ChatTemplate({ sources: { default: kimi('c.id') }, origin: 'there.jinja' });
  const form = await learnAnswerForm(template);
  expect(form.history.ids).toBe('named');
  const call = (id: string, name: string) => ({ id, type: 'function', function: { name, arguments: '{}' } });
  const messages = [
    { role: 'assistant', content: '', tool_calls: [call('functions.a:7', 'a'), call('x', 'b')] },
    { role: 'tool', tool_call_id: 'x', content: '1' },
    { role: 'tool', tool_call_id: 'unknown', content: '2' },
  ];
  const [first, second, third] = historyMessages(messages, form);
  expect((first!.tool_calls as { id: string }[]).map(({ id }) => id)).toEqual([
    'functions.a:7',
    'functions.b:1',
  ]);
  expect(second!.tool_call_id).toBe('functions.b:1');
  expect(third!.tool_call_id).toBe('unknown');
});
