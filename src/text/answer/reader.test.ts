/** Parsing of generated answers, independent of how the text is split. */
import { describe, expect, test } from 'vitest';
import { type AnswerForm, type CallForm, FUNCTION_ELEMENTS, HERMES, KNOWN_CALLS, THINK } from './form.js';
import { type AnswerPart, AnswerReader, type Reading } from './reader.js';

const history = { takesText: false, ids: 'any' as const, thoughtKey: 'reasoning_content' };
function formOf(calls: CallForm | undefined): AnswerForm {
  return { calls, thoughts: [THINK], thinks: true, history };
}

const TOOLS = [
  {
    name: 'w',
    parameters: {
      type: 'object',
      properties: {
        t: { type: 'string' },
        n: { type: 'integer' },
        x: { type: 'number' },
        b: { type: 'boolean' },
        o: { $ref: '#/$defs/O' },
        l: { type: 'array', items: { type: 'string' } },
        m: { anyOf: [{ type: 'string' }, { type: 'null' }] },
        e: { enum: ['1', '2'] },
      },
      $defs: { O: { type: 'object', properties: { k: {} } } },
    },
  },
  { name: 'now', parameters: { type: 'object', properties: {} } },
  { name: 'get-it.now' },
];

interface Answer {
  content: string;
  thought: string;
  /** `name(arguments)` of each. */
  calls: string[];
}

/** Joins parts as a client does. */
function joined(parts: readonly AnswerPart[]): Answer {
  const answer: Answer = { content: '', thought: '', calls: [] };
  for (const part of parts) {
    if (part.kind === 'call') answer.calls[part.index] = `${part.name}:`;
    else if (part.kind === 'arguments') answer.calls[part.index] += part.text;
    else answer[part.kind] += part.text;
  }
  return answer;
}

function read(pieces: readonly string[], reading: Reading): Answer {
  const reader = new AnswerReader(reading);
  return joined([...pieces.flatMap((piece) => reader.push(piece)), ...reader.end()]);
}

/** Reads a text at once, and expects the same result when it is split at each position, into single characters and at random. */
function readAll(text: string, reading: Reading): Answer {
  const whole = read([text], reading);
  expect(read(Array.from(text), reading)).toEqual(whole);
  for (let at = 1; at < text.length; at++) {
    expect(read([text.slice(0, at), text.slice(at)], reading)).toEqual(whole);
  }
  let seed = text.length;
  const random = (): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 1;
    return seed;
  };
  for (let round = 0; round < 20; round++) {
    const pieces: string[] = [];
    for (let at = 0; at < text.length; ) {
      const end = at + 1 + (random() % 7);
      pieces.push(text.slice(at, end));
      at = end;
    }
    expect(read(pieces, reading)).toEqual(whole);
  }
  return whole;
}

type Case = [text: string, calls: string[], content?: string, thought?: string];

function holds(form: CallForm | undefined, cases: readonly Case[], more: Partial<Reading> = {}): void {
  test.each(cases)('%j', (text, calls, content = '', thought = '') => {
    const reading = { form: formOf(form), ...(form && { tools: TOOLS }), ...more };
    expect(readAll(text, reading)).toEqual({ content, thought, calls });
  });
}

const tag = (body: string): string => `<tool_call>\n${body}\n</tool_call>`;

describe('an object in marks', () => {
  holds(HERMES, [
    [tag('{"name": "w", "arguments": {"t": "x"}}'), ['w:{"t": "x"}']],
    ['<tool_call>{"name":"w","arguments":{"t":"x"}}</tool_call>', ['w:{"t":"x"}']],
    // The model's own JSON, unchanged.
    [
      tag('{"name": "w", "arguments": {"x": 1.0, "n": 12345678901234567890, "y": -0.0, "z": 1E5}}'),
      ['w:{"x": 1.0, "n": 12345678901234567890, "y": -0.0, "z": 1E5}'],
    ],
    [
      tag('{"name": "w", "arguments": {"2": 1, "1": 2, "__proto__": 3}}'),
      ['w:{"2": 1, "1": 2, "__proto__": 3}'],
    ],
    [tag('{"name": "w", "arguments": {"t": "\\u00e9\\n\\"é😀"}}'), ['w:{"t": "\\u00e9\\n\\"é😀"}']],
    // Marks within strings are text.
    [
      tag('{"name": "w", "arguments": {"t": "ends with </tool_call> here"}}'),
      ['w:{"t": "ends with </tool_call> here"}'],
    ],
    [
      tag('{"name": "w", "arguments": {"t": "<tool_call>{\\"name\\": \\"now\\"}</tool_call>"}}'),
      ['w:{"t": "<tool_call>{\\"name\\": \\"now\\"}</tool_call>"}'],
    ],
    [
      tag('{"name": "w", "arguments": {"t": "} ] </think> <think> \\\\"}}'),
      ['w:{"t": "} ] </think> <think> \\\\"}'],
    ],
    // No arguments.
    [tag('{"name": "now"}'), ['now:{}']],
    [tag('{"name": "now", "arguments": null}'), ['now:{}']],
    [tag('{"name": "now", "arguments": {}}'), ['now:{}']],
    [tag('{"name": "now", "arguments": ""}'), ['now:{}']],
    // Other names and orders of the members.
    [tag('{"name": "w", "parameters": {"t": "x"}}'), ['w:{"t": "x"}']],
    [tag('{"arguments": {"t": "x"}, "name": "w"}'), ['w:{"t": "x"}']],
    [
      tag('{"id": 1, "type": "function", "function": {"name": "w", "arguments": {"t": "x"}}}'),
      ['w:{"t": "x"}'],
    ],
    [tag('{"name": "w", "arguments": "{\\"n\\": 12345678901234567890}"}'), ['w:{"n": 12345678901234567890}']],
    [tag('{"name": "w", "arguments": {"t": "x"}, "more": [1, {"a": "</tool_call>"}]}'), ['w:{"t": "x"}']],
    // Several calls, in one pair of marks or in pairs of their own.
    [
      tag('{"name": "w", "arguments": {"t": "x"}}\n{"name": "w", "arguments": {"t": "y"}}'),
      ['w:{"t": "x"}', 'w:{"t": "y"}'],
    ],
    [tag('[{"name": "w", "arguments": {"t": "x"}}, {"name": "now"}]'), ['w:{"t": "x"}', 'now:{}']],
    [`${tag('{"name": "now"}')}\n${tag('{"name": "now"}')}\n`, ['now:{}', 'now:{}']],
    [`${tag('{"name": "now"}')}${tag('{"name": "now"}')}`, ['now:{}', 'now:{}']],
    ['<tool_call>{"name": "now"}\n<tool_call>{"name": "w"}</tool_call>', ['now:{}', 'w:{}']],
    // Text around calls.
    [`I look.\n\n${tag('{"name": "now"}')}\n`, ['now:{}'], 'I look.'],
    [`A ${tag('{"name": "now"}')} and b `, ['now:{}'], 'A  and b '],
    [`${tag('{"name": "now"}')}\n\nDone.\n`, ['now:{}'], 'Done.\n'],
    // Common mistakes of models.
    [
      tag('{"name": "w", "arguments": {"t": "line one\nline two\t."}}'),
      ['w:{"t": "line one\\nline two\\t."}'],
    ],
    [tag('{"name": "w", "arguments": {"t": "x"}'), ['w:{"t": "x"}']],
    [tag('{"name": "w", "arguments": {"t": "x"'), ['w:{"t": "x"\n}']],
    [tag('{"name": "w", "arguments": {"t": "x"}}}'), ['w:{"t": "x"}']],
    [tag('{"name": "w", "arguments": {"l": ["a", "b",], "t": "x",}}'), ['w:{"l": ["a", "b"], "t": "x"}']],
    [
      tag("{'name': 'w', 'arguments': {'b': True, 'm': None, 't': 'say \"hi\"'}}"),
      ['w:{"b": true, "m": null, "t": "say \\"hi\\""}'],
    ],
    [tag('{"name": "w", "arguments": {"t": "\\d+\\\'"}}'), ['w:{"t": "\\\\d+\'"}']],
    [tag('{"name": "w", "arguments": {"t": "say "hi" now"}}'), ['w:{"t": "say \\"hi\\" now"}']],
    [tag('<function=w>\n<parameter=t>\nx\n</parameter>\n</function>'), ['w:{"t": "x"}']],
    // Cut off.
    ['<tool_call>{"name": "w", "arguments": {"t": "x"}}', ['w:{"t": "x"}']],
    ['<tool_call>{"name": "w", "arguments": {"t": "x', ['w:{"t": "x']],
    ['<tool_call>{"name": "w", "arguments": {"n": 12', ['w:{"n": 12']],
    ['<tool_call>{"name": "w", "arguments": {"t": "a\\', ['w:{"t": "a']],
    ['<tool_call>{"nam', [], '<tool_call>{"nam'],
    ['Hello <tool_', [], 'Hello <tool_'],
    // No calls.
    ['<tool_call>{"name": </tool_call>', [], '<tool_call>{"name": </tool_call>'],
    ['<tool_call>[1]</tool_call>', [], '<tool_call>[1]</tool_call>'],
    ['<tool_call></tool_call>', [], '<tool_call></tool_call>'],
    ['<tool_call>{"name": ""}</tool_call>', [], '<tool_call>{"name": ""}</tool_call>'],
    [
      '<tool_call>{"a": 1}</tool_call> then <tool_call>{"name": "now"}</tool_call>',
      ['now:{}'],
      '<tool_call>{"a": 1}</tool_call> then',
    ],
    ['The mark <tool_call> opens a call.', [], 'The mark <tool_call> opens a call.'],
    ['{"name": "now", "arguments": {}}', [], '{"name": "now", "arguments": {}}'],
    ['a < b <toolbox>\n\n  c\n', [], 'a < b <toolbox>\n\n  c\n'],
    ['', [], ''],
    [' \n', [], ' \n'],
    // Thoughts.
    [
      '<think>\nOne could write <tool_call>{"name": "now"}</tool_call>.\n</think>\n\nNo.',
      [],
      'No.',
      'One could write <tool_call>{"name": "now"}</tool_call>.',
    ],
    [`<think>a\n\nb</think>\n${tag('{"name": "now"}')}`, ['now:{}'], '', 'a\n\nb'],
    [`<think>a</think>Text.\n${tag('{"name": "now"}')}<think>b</think>`, ['now:{}'], 'Text.', 'a\n\nb'],
    ['<think>cut </thi', [], '', 'cut </thi'],
    ['<think>\n\n</think>\n\nHi', [], 'Hi'],
    ['</think>\n\nHi', [], 'Hi'],
    ['Say <think>x</think>.', [], 'Say <think>x</think>.'],
  ]);
});

describe('elements', () => {
  const one = (key: string, value: string): string =>
    `<tool_call>\n<function=w>\n<parameter=${key}>\n${value}\n</parameter>\n</function>\n</tool_call>`;
  holds(FUNCTION_ELEMENTS, [
    [one('t', 'Paris'), ['w:{"t": "Paris"}']],
    [one('t', 'if a < b:\n    c("</x>")\n\nend'), ['w:{"t": "if a < b:\\n    c(\\"</x>\\")\\n\\nend"}']],
    [one('t', '\n two \n'), ['w:{"t": "\\n two \\n"}']],
    [one('t', ''), ['w:{"t": ""}']],
    [one('t', '42'), ['w:{"t": "42"}']],
    [one('t', 'null'), ['w:{"t": "null"}']],
    [one('t', '{"a": 1}'), ['w:{"t": "{\\"a\\": 1}"}']],
    [one('t', '"quoted"'), ['w:{"t": "\\"quoted\\""}']],
    [
      one('t', 'a </parameter> b </function> c </tool_call> d'),
      ['w:{"t": "a </parameter> b </function> c </tool_call> d"}'],
    ],
    [one('t', 'x\n</function>\n</tool_call>\ny'), ['w:{"t": "x\\n</function>\\n</tool_call>\\ny"}']],
    [one('n', '12345678901234567890'), ['w:{"n": 12345678901234567890}']],
    [one('x', '1.0'), ['w:{"x": 1.0}']],
    [one('x', '5'), ['w:{"x": 5}']],
    [one('n', 'many'), ['w:{"n": "many"}']],
    [one('b', 'True'), ['w:{"b": true}']],
    [one('b', 'false'), ['w:{"b": false}']],
    [one('o', '{\n  "k": [1.0, "</parameter>"]\n}'), ['w:{"o": {\n  "k": [1.0, "</parameter>"]\n}}']],
    [one('o', "{'k': None}"), ['w:{"o": {"k": null}}']],
    [one('l', '["a", "b"]'), ['w:{"l": ["a", "b"]}']],
    [one('m', 'null'), ['w:{"m": null}']],
    [one('m', 'None'), ['w:{"m": null}']],
    [one('m', 'nothing'), ['w:{"m": "nothing"}']],
    [one('m', '5'), ['w:{"m": "5"}']],
    [one('e', '1'), ['w:{"e": "1"}']],
    [one('unknown', '7'), ['w:{"unknown": 7}']],
    [one('unknown', 'seven words'), ['w:{"unknown": "seven words"}']],
    [one('unknown', '2024-01-02'), ['w:{"unknown": "2024-01-02"}']],
    ['<tool_call>\n<function=now>\n</function>\n</tool_call>', ['now:{}']],
    [
      '<tool_call>\n<function=w>\n<parameter=t>\nx\n</parameter>\n<parameter=n>\n5\n</parameter>\n</function>\n</tool_call>',
      ['w:{"t": "x", "n": 5}'],
    ],
    [
      '<tool_call>\n<function=w>\n<parameter=t>\nx\n</parameter>\n</function>\n<function=now>\n</function>\n</tool_call>',
      ['w:{"t": "x"}', 'now:{}'],
    ],
    [`${one('t', 'x')}\n${one('t', 'y')}\n`, ['w:{"t": "x"}', 'w:{"t": "y"}']],
    // On one line, without the mark around, without a closing element, as JSON after all, with Windows' line ends.
    ['<tool_call><function=w><parameter=t>Paris</parameter></function></tool_call>', ['w:{"t": "Paris"}']],
    [
      'Well.\n<function=w>\n<parameter=t>\nx\n</parameter>\n</function>\n</tool_call>',
      ['w:{"t": "x"}'],
      'Well.',
    ],
    ['<tool_call>\n<function=w>\n<parameter=t>\nx\n</function>\n</tool_call>', ['w:{"t": "x"}']],
    ['<tool_call>\n<function=w>{"t": "x"}</function>\n</tool_call>', ['w:{"t": "x"}']],
    ['<tool_call>\n{"name": "w", "arguments": {"t": "x"}}\n</tool_call>', ['w:{"t": "x"}']],
    [
      '<tool_call>\r\n<function=w>\r\n<parameter=t>\r\nx\r\n</parameter>\r\n</function>\r\n</tool_call>',
      ['w:{"t": "x"}'],
    ],
    // Cut off.
    ['<tool_call>\n<function=w>\n<parameter=t>\nif a', ['w:{"t": "if a']],
    ['<tool_call>\n<function=w>\n<parameter=n>\n12', ['w:{"n": 12']],
    ['<tool_call>\n<function=w', [], '<tool_call>\n<function=w'],
    // No calls.
    ['A <function=foo> is no tool.', [], 'A <function=foo> is no tool.'],
    ['Write <function=w> there, and it is called.', [], 'Write <function=w> there, and it is called.'],
    ['It begins with <function=w>', [], 'It begins with <function=w>'],
    ['Use <tool_call> and <function=NAME>.', [], 'Use <tool_call> and <function=NAME>.'],
  ]);
});

describe("Python's calls in marks", () => {
  const lfm2 = KNOWN_CALLS.find(([evidence]) => evidence === '<|tool_call_start|>')![1];
  const marked = (calls: string): string => `<|tool_call_start|>[${calls}]<|tool_call_end|>`;
  holds(lfm2, [
    [marked("w(t='Paris', n=5)"), ['w:{"t": "Paris", "n": 5}']],
    [marked('w(t="it\'s", x=1.0)'), ['w:{"t": "it\'s", "x": 1.0}']],
    [marked("w(t='it\\'s')"), ['w:{"t": "it\'s"}']],
    [marked("w(t='it's')"), ['w:{"t": "it\'s"}']],
    [marked("w(t=')]<|tool_call_end|>, n=1')"), ['w:{"t": ")]<|tool_call_end|>, n=1"}']],
    [marked('w(t="""a\n"b"\n""")'), ['w:{"t": "a\\n\\"b\\"\\n"}']],
    [marked("w(t=r'\\d', m=None, b=False)"), ['w:{"t": "\\\\d", "m": null, "b": false}']],
    [marked("w(t='\\x41\\u00e9\\U0001F600')"), ['w:{"t": "A\\u00e9😀"}']],
    [
      marked("w(o={'k': [1, 2.50, {'z': ()}]}, l=['a', 'b'])"),
      ['w:{"o": {"k": [1, 2.50, {"z": []}]}, "l": ["a", "b"]}'],
    ],
    [marked('w(n=12345678901234567890)'), ['w:{"n": 12345678901234567890}']],
    [marked('w(b=true, m=null)'), ['w:{"b": true, "m": null}']],
    [marked('now()'), ['now:{}']],
    [marked("w(t='a'), now(), w( t = 'b' , )"), ['w:{"t": "a"}', 'now:{}', 'w:{"t": "b"}']],
    [marked("w('Paris', 5)"), ['w:{"t": "Paris", "n": 5}']],
    [marked('get-it.now()'), ['get-it.now:{}']],
    [`${marked('now()')}I look.`, ['now:{}'], 'I look.'],
    [`${marked('now()')}\n${marked('now()')}`, ['now:{}', 'now:{}']],
    ['<|tool_call_start|>now()<|tool_call_end|>', ['now:{}']],
    [marked('{"name": "w", "arguments": {"t": "x"}}'), ['w:{"t": "x"}']],
    ["<|tool_call_start|>[w(t='Par", ['w:{"t": "Par']],
    ["<|tool_call_start|>[w(t='Paris', n", ['w:{"t": "Paris"']],
    ['[now()]', [], '[now()]'],
    ['<|tool_call_start|>[]<|tool_call_end|>', [], '<|tool_call_start|>[]<|tool_call_end|>'],
  ]);
});

describe('calls without a mark', () => {
  const llama: CallForm = {
    style: 'object',
    opens: [],
    marks: ['<|python_tag|>'],
    closes: [],
    first: '{"name": "',
    between: '", "parameters": ',
    last: '}',
  };
  holds(llama, [
    ['{"name": "w", "parameters": {"t": "x"}}', ['w:{"t": "x"}']],
    ['\n{"type": "function", "name": "w", "parameters": {"x": 1.0}}', ['w:{"x": 1.0}']],
    ['<|python_tag|>{"name": "w", "parameters": {"t": "x"}}', ['w:{"t": "x"}']],
    ['<|python_tag|>w.call(t="x")', ['w:{"t": "x"}']],
    [
      '{"name": "now", "parameters": {}}; {"name": "w", "parameters": {"t": "y"}}',
      ['now:{}', 'w:{"t": "y"}'],
    ],
    ['{"name": "Ada", "parameters": {"t": "x"}}', [], '{"name": "Ada", "parameters": {"t": "x"}}'],
    ['{"name": "w", "age": 36}', [], '{"name": "w", "age": 36}'],
    ['{"a": 1}', [], '{"a": 1}'],
    ['Call {"name": "now", "parameters": {}}', [], 'Call {"name": "now", "parameters": {}}'],
    ['{"name": "w", "parameters": {"t": "x', ['w:{"t": "x']],
    ['{"name": "w"', [], '{"name": "w"'],
    ['Hello.', [], 'Hello.'],
  ]);
});

describe('a name followed by its arguments', () => {
  const mistral: CallForm = {
    style: 'named',
    opens: ['[TOOL_CALLS]'],
    closes: [],
    first: '[TOOL_CALLS]',
    between: '[CALL_ID]idofcall0[ARGS]',
    last: '',
  };
  const kimi: CallForm = {
    style: 'named',
    opens: ['<|tool_calls_section_begin|>', '<|tool_call_begin|>'],
    closes: ['<|tool_call_end|>', '<|tool_calls_section_end|>'],
    first: '<|tool_calls_section_begin|><|tool_call_begin|>functions.',
    between: ':0<|tool_call_argument_begin|>',
    last: '<|tool_call_end|><|tool_calls_section_end|>',
  };
  const deepseek: CallForm = {
    style: 'named',
    opens: ['<|calls|>', '<|call|>', '<|sep|>'],
    closes: ['<|/call|>', '<|/calls|>'],
    first: '<|calls|><|call|>function<|sep|>',
    between: '\n```json\n',
    last: '\n```<|/call|><|/calls|>',
  };
  describe("Mistral's", () =>
    holds(mistral, [
      ['[TOOL_CALLS]w[CALL_ID]abc123DEF[ARGS]{"t": "[TOOL_CALLS]"}', ['w:{"t": "[TOOL_CALLS]"}']],
      ['[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]w[ARGS]{"n": 1}', ['now:{}', 'w:{"n": 1}']],
      ['[TOOL_CALLS][{"name": "w", "arguments": {"t": "x"}, "id": "123456789"}]', ['w:{"t": "x"}']],
      ['[TOOL_CALLS]w{"n": 1}', ['w:{"n": 1}']],
      ['Hi [TOOL_CALLS] and [ARGS]', [], 'Hi [TOOL_CALLS] and [ARGS]'],
    ]));
  describe("Kimi's", () =>
    holds(kimi, [
      [
        '<|tool_calls_section_begin|><|tool_call_begin|>functions.w:0<|tool_call_argument_begin|>{"t": "x"}<|tool_call_end|><|tool_call_begin|>functions.get-it.now:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>',
        ['w:{"t": "x"}', 'get-it.now:{}'],
      ],
    ]));
  describe("DeepSeek's", () =>
    holds(deepseek, [
      [
        'So.<|calls|><|call|>function<|sep|>w\n```json\n{"t": "x"}\n```<|/call|>\n<|call|>function<|sep|>now\n```json\n{}\n```<|/call|><|/calls|>',
        ['w:{"t": "x"}', 'now:{}'],
        'So.',
      ],
    ]));
});

describe("GLM's elements", () => {
  const glm: CallForm = {
    style: 'elements',
    opens: ['<tool_call>'],
    closes: ['</tool_call>'],
    first: '<tool_call>',
    between: '\n',
    last: '</tool_call>',
    elements: {
      head: '',
      key: '<arg_key>',
      keyEnd: '</arg_key>\n<arg_value>',
      valueEnd: '</arg_value>\n',
      end: '',
    },
  };
  holds(glm, [
    [
      '<tool_call>w\n<arg_key>t</arg_key>\n<arg_value>a < b</arg_value>\n<arg_key>n</arg_key>\n<arg_value>5</arg_value>\n</tool_call>',
      ['w:{"t": "a < b", "n": 5}'],
    ],
    ['<tool_call>now</tool_call>', ['now:{}']],
    [
      '<tool_call>w<arg_key>t</arg_key><arg_value>x</arg_value></tool_call><tool_call>now</tool_call>',
      ['w:{"t": "x"}', 'now:{}'],
    ],
  ]);
});

describe('a thought that the prompt opened', () => {
  holds(
    HERMES,
    [
      ['I ponder it.\n</think>\n\nHello.', [], 'Hello.', 'I ponder it.'],
      ['<think>\nTwice.</think>Hi', [], 'Hi', 'Twice.'],
      [
        `a\n\n${tag('{"name": "now"}')}\n</think>${tag('{"name": "w"}')}`,
        ['w:{}'],
        '',
        `a\n\n${tag('{"name": "now"}')}`,
      ],
      ['never closed\n', [], '', 'never closed'],
      ['\n</think>\n\nHi', [], 'Hi'],
      ['x</think>', [], '', 'x'],
      ['x</think></think>Hi', [], 'Hi', 'x'],
    ],
    { thinking: THINK },
  );
});

describe('without tools', () => {
  holds(undefined, [
    ['<tool_call>{"name": "now"}</tool_call>', [], '<tool_call>{"name": "now"}</tool_call>'],
    ['<think>a</think>  b \n c ', [], 'b \n c ', 'a'],
  ]);
});

test('a call comes in pieces: its name first, then its arguments as they are written', () => {
  const reader = new AnswerReader({ form: formOf(HERMES), tools: TOOLS });
  expect(reader.push('Look: <tool_call>{"name": "w", "argum')).toEqual([{ kind: 'content', text: 'Look:' }]);
  expect(reader.push('ents": {"t": "Pa')).toEqual([
    { kind: 'call', index: 0, id: expect.stringMatching(/^call_[0-9a-f]{24}$/), name: 'w' },
    { kind: 'arguments', index: 0, text: '{"t": "Pa' },
  ]);
  expect(reader.push('ris"')).toEqual([{ kind: 'arguments', index: 0, text: 'ris' }]);
  expect(reader.push('}}</tool_call>')).toEqual([{ kind: 'arguments', index: 0, text: '"}' }]);
  expect(reader.end()).toEqual([]);
});

test('text is emitted as soon as it cannot be a mark', () => {
  const reader = new AnswerReader({ form: formOf(HERMES), tools: TOOLS });
  expect(reader.push('a < b <tool')).toEqual([{ kind: 'content', text: 'a < b' }]);
  expect(reader.push('box>')).toEqual([{ kind: 'content', text: ' <toolbox>' }]);
});

test('a thought is streamed', () => {
  const reader = new AnswerReader({ form: formOf(undefined), thinking: THINK });
  expect(reader.push('I pon')).toEqual([{ kind: 'thought', text: 'I pon' }]);
  expect(reader.push('der.\n</thi')).toEqual([{ kind: 'thought', text: 'der.' }]);
  expect(reader.push('nk>\n\nHi')).toEqual([{ kind: 'content', text: 'Hi' }]);
});

test("an id given by the model is kept, and others have the template's form", () => {
  const form = {
    ...formOf(HERMES),
    history: { takesText: false, ids: 'short' as const, thoughtKey: 'reasoning_content' },
  };
  const reader = new AnswerReader({ form, tools: TOOLS });
  const parts = reader.push(tag('{"id": "abcDEF123", "name": "now"}') + tag('{"name": "now"}'));
  const ids = parts.flatMap((part) => (part.kind === 'call' ? [part.id] : []));
  expect(ids).toEqual(['abcDEF123', expect.stringMatching(/^[A-Za-z0-9]{9}$/)]);
});
