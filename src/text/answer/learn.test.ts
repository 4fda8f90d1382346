/** Learning the form of calls and thoughts from chat templates. The templates are similar to published ones, reduced to the parts that render answers. */
import { describe, expect, test } from 'vitest';
import { ChatTemplate } from '../chat-template.js';
import { FUNCTION_ELEMENTS, HERMES, THINK } from './form.js';
import { generationPromptOf, learnAnswerForm, openThought } from './learn.js';
import { joinedParts } from './message.js';
import { AnswerReader } from './reader.js';

const TOOLS = `{%- for t in tools or [] %}{{- (t | tojson) + '\\n' }}{%- endfor %}`;

/** Messages between marks, with what an answer has behind its text. */
const chatml = (answer: string, more = ''): string =>
  `${TOOLS}${more}{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + (m.content or '') }}${answer}{{- '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}`;

function learn(source: string, tokens: readonly string[] = []) {
  const template = new ChatTemplate({ sources: { default: source }, origin: 'test.jinja' });
  return learnAnswerForm(template, (name) => tokens.includes(name));
}

const calls = (one: string): string =>
  `{%- for c in m.tool_calls or [] %}{%- set f = c.function %}${one}{%- endfor %}`;

const hermes = calls(
  `{{- '\\n<tool_call>\\n{"name": "' + f.name + '", "arguments": ' + (f.arguments | tojson) + '}\\n</tool_call>' }}`,
);
const elements = calls(
  `{{- '\\n<tool_call>\\n<function=' + f.name + '>\\n' }}{%- for k, v in f.arguments | items %}{{- '<parameter=' + k + '>\\n' }}{{- v }}{{- '\\n</parameter>\\n' }}{%- endfor %}{{- '</function>\\n</tool_call>' }}`,
);
const invoke = `{%- if m.tool_calls %}{{- '<minimax:tool_call>\\n' }}${calls(
  `{{- '<invoke name="' + f.name + '">\\n' }}{%- for k, v in f.arguments | items %}{{- '<parameter name="' + k + '">' }}{{- v }}{{- '</parameter>\\n' }}{%- endfor %}{{- '</invoke>\\n' }}`,
)}{{- '</minimax:tool_call>' }}{%- endif %}`;
const python = `{%- if m.tool_calls %}{{- '<|tool_call_start|>[' }}${calls(
  `{{- f.name + '(' }}{%- for k, v in f.arguments | items %}{%- if v is string %}{{- k + '="' + v + '"' }}{%- else %}{{- k + '=' }}{{- v }}{%- endif %}{%- if not loop.last %}{{- ', ' }}{%- endif %}{%- endfor %}{{- ')' }}{%- if not loop.last %}{{- ', ' }}{%- endif %}`,
)}{{- ']<|tool_call_end|>' }}{%- endif %}`;
const llama = `{%- if m.tool_calls %}{%- if m.tool_calls | length > 1 %}{{- raise_exception('one call at a time') }}{%- endif %}${calls(
  `{{- '{"name": "' + f.name + '", "parameters": ' + (f.arguments | tojson) + '}' }}`,
)}{%- endif %}`;
const mistral = `{%- if m.tool_calls %}{{- '[TOOL_CALLS][' }}${calls(
  `{%- if c.id | length != 9 %}{{- raise_exception('ids have 9 signs') }}{%- endif %}{{- '{"name": "' + f.name + '", "arguments": ' + (f.arguments | tojson) + ', "id": "' + c.id + '"}' }}{%- if not loop.last %}{{- ', ' }}{%- endif %}`,
)}{{- ']' }}{%- endif %}`;
const named = `{%- if m.tool_calls %}{{- '<|calls|>' }}${calls(
  `{{- '<|call|>functions.' + f.name + ':0<|argument|>' + (f.arguments | tojson) + '<|/call|>' }}`,
)}{{- '<|/calls|>' }}{%- endif %}`;
const glm = calls(
  `{{- '\\n<tool_call>' + f.name + '\\n' }}{%- for k, v in f.arguments | items %}{{- '<arg_key>' + k + '</arg_key>\\n<arg_value>' }}{{- v }}{{- '</arg_value>\\n' }}{%- endfor %}{{- '</tool_call>' }}`,
);
const thinking = `{%- if m.role == 'assistant' %}{{- '<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' }}{%- endif %}`;

describe('calls', () => {
  test.each([
    ['objects in marks', chatml(hermes), HERMES],
    ['behind a thought that there is not', chatml(thinking + hermes), HERMES],
    ['elements', chatml(elements), FUNCTION_ELEMENTS],
    [
      'elements that the template only speaks of',
      chatml('', "{{- '<tool_call>\\n<function=NAME>\\n' }}"),
      FUNCTION_ELEMENTS,
    ],
    ['objects that it only speaks of', chatml('', "{{- 'Write <tool_call>{...}</tool_call>' }}"), HERMES],
    ['nothing at all', chatml(''), HERMES],
  ])('%s', async (_, source, form) => {
    const { calls: learned } = await learn(source);
    expect(learned).toEqual(form);
  });

  test('a template without tools has no calls', async () => {
    expect((await learn(chatml(hermes).replace(TOOLS, ''))).calls).toBeUndefined();
  });

  test("LFM2's marks, as a call, in the list of tools, or among the tokens", async () => {
    const python_ = await learn(chatml(python));
    expect(python_.calls).toMatchObject({
      style: 'python',
      opens: ['<|tool_call_start|>'],
      closes: ['<|tool_call_end|>'],
      first: '<|tool_call_start|>[',
      last: ')]<|tool_call_end|>',
    });
    const listed = await learn(chatml('', "{{- '<|tool_list_start|>[]<|tool_list_end|>' }}"));
    expect(listed.calls?.style).toBe('python');
    expect((await learn(chatml(''), ['<|tool_call_start|>'])).calls).toEqual(listed.calls);
  });

  test('Llama 3 has no marks and one call at a time', async () => {
    expect((await learn(chatml(llama))).calls).toEqual({
      style: 'object',
      opens: [],
      closes: [],
      first: '{"name": "',
      between: '", "parameters": ',
      last: '}',
    });
  });

  test('arguments that are not JSON are kept for templates that do not iterate over them', async () => {
    expect((await learn(chatml(hermes))).history.takesText).toBe(true);
    expect((await learn(chatml(elements))).history.takesText).toBe(false);
  });

  test("Mistral's ids have nine signs", async () => {
    const { calls: learned, history } = await learn(chatml(mistral));
    expect(history.ids).toBe('short');
    expect(learned).toMatchObject({
      style: 'object',
      opens: ['[TOOL_CALLS]'],
      first: '[TOOL_CALLS][{"name": "',
    });
  });

  // Calls rendered by a template are read back.
  test.each([
    ['objects', hermes],
    ['elements', elements],
    ['elements with attributes', invoke],
    ['Python', python],
    ["Mistral's", mistral],
    ['names with arguments behind them', named],
    ["GLM's", glm],
  ])('%s are read back', async (_, answer) => {
    const template = new ChatTemplate({ sources: { default: chatml(answer) }, origin: 'test.jinja' });
    const form = await learnAnswerForm(template);
    const tools = ['look_up', 'get-it'].map((name) => ({
      name,
      parameters: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } } },
    }));
    const given = { city: 'Paris', days: 3 };
    const user = { role: 'user', content: 'hi' };
    const rendered = await template.render([
      user,
      {
        role: 'assistant',
        content: '',
        tool_calls: tools.map(({ name }) => ({
          id: '123456789',
          type: 'function',
          function: { name, arguments: given },
        })),
      },
    ]);
    const before = await template.render([user], { addGenerationPrompt: true });
    const text = rendered.slice(before.length).replace(/<\|im_end\|>\s*$/, '');
    const reader = new AnswerReader({ form, tools });
    const said = joinedParts([...reader.push(text), ...reader.end()]);
    expect(said.content).toBe('');
    expect(said.calls.map(({ name, arguments: json }) => [name, JSON.parse(json)])).toEqual([
      ['look_up', given],
      ['get-it', given],
    ]);
  });
});

describe('thoughts', () => {
  test('are known by their marks', async () => {
    expect(await learn(chatml(thinking))).toMatchObject({ thoughts: [THINK], thinks: true });
    const own = chatml(thinking.replace('<think>', '<|ponder|>').replace('</think>', '<|/ponder|>'));
    expect((await learn(own)).thoughts).toEqual([{ open: '<|ponder|>', close: '<|/ponder|>' }, THINK]);
    expect(await learn(chatml(''))).toMatchObject({ thoughts: [THINK], thinks: false });
    expect((await learn(chatml(''), ['[THINK]'])).thoughts[0]).toEqual({
      open: '[THINK]',
      close: '[/THINK]',
    });
  });

  test('have the name that the template uses', async () => {
    expect((await learn(chatml(thinking))).history.thoughtKey).toBe('reasoning_content');
    const other = await learn(chatml(thinking.replace('m.reasoning_content', 'm.thinking')));
    expect(other).toMatchObject({ thoughts: [THINK], history: { thoughtKey: 'thinking' } });
  });

  test('may be opened by the generation prompt', async () => {
    const form = await learn(chatml(thinking));
    const opened = (prompt: string) => openThought(generationPromptOf('<a>hi', `<a>hi${prompt}`), form);
    expect(opened('<|im_start|>assistant\n<think>\n')).toEqual(THINK);
    expect(opened('<|im_start|>assistant\n<think>\n\n</think>\n\n')).toBeUndefined();
    expect(opened('<|im_start|>assistant\n')).toBeUndefined();
    expect(openThought(generationPromptOf('<think> hi', '<think> hi!'), form)).toBeUndefined();
  });
});

test('a template that renders nothing gives no form', async () => {
  const form = await learn("{{ raise_exception('never') }}<think>");
  expect(form).toMatchObject({ calls: undefined, thoughts: [] });
});
