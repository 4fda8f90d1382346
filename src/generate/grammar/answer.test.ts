/** Answers that were demanded are calls that are read as such, in each form that templates have, whatever the model would like to write. */
import { Ajv2020 as Ajv } from 'ajv/dist/2020.js';
import { describe, expect, test } from 'vitest';
import { Random } from '../../nn/index.js';
import { FUNCTION_ELEMENTS, HERMES, KNOWN_CALLS, THINK } from '../../text/answer/form.js';
import { type AnswerForm, AnswerReader, type CallForm, joinedParts, Vocabulary } from '../../text/index.js';
import { tinyTokenizer } from '../../text/testing/tiny.js';
import { afterThought, callNode, maybeAfterThought } from './answer.js';
import { Constraint } from './constraint.js';
import { choice, type Node } from './node.js';
import { schemaNode } from './schema/compiler.js';
import { TokenTree } from './token-tree.js';

const vocabulary = Vocabulary.of(tinyTokenizer);
const tree = new TokenTree(vocabulary);
const END = 0;

const TOOLS = [
  {
    name: 'look_up',
    parameters: {
      type: 'object',
      properties: {
        city: { type: 'string' },
        unit: { enum: ['C', 'F'] },
        days: { type: 'integer', minimum: 1, maximum: 14 },
        exact: { type: 'boolean' },
        where: { $ref: '#/$defs/Place' },
      },
      required: ['city', 'days'],
      additionalProperties: false,
      $defs: {
        Place: {
          type: 'object',
          properties: { x: { type: 'integer' } },
          required: ['x'],
          additionalProperties: false,
        },
      },
    },
  },
  { name: 'now', parameters: { type: 'object', properties: {}, additionalProperties: false } },
  { name: 'get-it' },
];

const ajv = new Ajv({ strict: false });
const valid = (name: string): ((value: unknown) => boolean) =>
  ajv.compile(TOOLS.find((tool) => tool.name === name)?.parameters ?? { type: 'object' });

/** What a model of random wishes writes under a grammar with so many tokens. */
function written(grammar: Node, seed: number, maxTokens: number): string {
  const random = new Random(seed);
  const constraint = new Constraint(grammar, tree, [END]);
  const liking = Float32Array.from(vocabulary.bytes, () => 6 * random.uniform());
  const bytes: number[] = [];
  for (let left = maxTokens; left > 0; left--) {
    const logits = liking.map((like) => like + 6 * random.uniform());
    constraint.steer(logits, left);
    const id = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    if (id === END) break;
    bytes.push(...vocabulary.bytes[id]!);
    if (constraint.chosen(id)) break;
  }
  return Buffer.from(bytes).toString();
}

const FORMS: Record<string, CallForm> = {
  hermes: HERMES,
  elements: FUNCTION_ELEMENTS,
  lfm2: KNOWN_CALLS.find(([evidence]) => evidence === '<|tool_call_start|>')![1],
  llama: {
    style: 'object',
    opens: [],
    closes: [],
    first: '{"name": "',
    between: '", "parameters": ',
    last: '}',
  },
  mistral: {
    style: 'object',
    opens: ['[TOOL_CALLS]'],
    closes: [],
    first: '[TOOL_CALLS][{"name": "',
    between: '", "arguments": ',
    last: ', "id": "idofcall0"}]',
  },
  'mistral, named': {
    style: 'named',
    opens: ['[TOOL_CALLS]'],
    closes: [],
    first: '[TOOL_CALLS]',
    between: '[CALL_ID]idofcall0[ARGS]',
    last: '',
  },
  glm: {
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
  },
};

function read(text: string, calls: CallForm, thinking: boolean) {
  const form: AnswerForm = {
    calls,
    thoughts: [THINK],
    thinks: true,
    history: { takesText: false, ids: 'any' as const, thoughtKey: 'reasoning_content' },
  };
  const reader = new AnswerReader({ form, tools: TOOLS, ...(thinking && { thinking: THINK }) });
  return joinedParts([...reader.push(text), ...reader.end()]);
}

describe.each(Object.entries(FORMS))('%s', (_, form) => {
  test.each([
    ['', (node: Node) => node],
    [' behind a thought that is open', (node: Node) => afterThought(node, THINK)],
    [' with a thought or without', (node: Node) => maybeAfterThought(node, THINK)],
  ])('a call is demanded%s', (name, wrap) => {
    const grammar = wrap(callNode(TOOLS, form));
    for (let seed = 0; seed < 12; seed++) {
      const text = written(grammar, seed, 200);
      const { content, calls } = read(text, form, name.includes('open'));
      expect([content, calls.length], text).toEqual(['', 1]);
      const [{ name: called, arguments: json }] = calls as [(typeof calls)[0]];
      expect(valid(called)(JSON.parse(json)), text).toBe(true);
    }
  });
});

test('a value in a format, or a call', () => {
  const schema = {
    type: 'object',
    properties: { a: { type: 'integer' } },
    required: ['a'],
    additionalProperties: false,
  };
  const grammar = choice(schemaNode(schema), callNode(TOOLS, HERMES));
  let called = 0;
  for (let seed = 0; seed < 30; seed++) {
    const text = written(grammar, seed, 150);
    const { content, calls } = read(text, HERMES, false);
    called += calls.length;
    if (calls.length > 0) expect(content).toBe('');
    else expect(ajv.validate(schema, JSON.parse(content)), text).toBe(true);
  }
  expect(called).toBeGreaterThan(0);
  expect(called).toBeLessThan(30);
});

test('special tokens that are marks may come where the grammar has their text', () => {
  const id = vocabulary.bytes.length;
  const mark = new TextEncoder().encode('<|mark|>');
  const marked = {
    bytes: [...vocabulary.bytes, mark],
    special: new Set([...vocabulary.special, id]),
  } as Vocabulary;
  const form = { ...HERMES, first: '<|mark|>{"name": "' };
  const first = (marks: Set<number>): number[] => {
    const constraint = new Constraint(callNode(TOOLS, form), new TokenTree(marked, marks), [END]);
    const logits = new Float32Array(id + 1).fill(0);
    constraint.steer(logits, 500);
    return [...logits.keys()].filter((token) => logits[token] === 0);
  };
  expect(first(new Set([id]))).toContain(id);
  expect(first(new Set())).not.toContain(id);
});
