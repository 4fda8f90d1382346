/** Tools and variables as the request's text has them. */
import { expect, test } from 'vitest';
import { readExactJson } from '../../text/index.js';
import { exactTools, exactVariables } from './exact-body.js';
import { Tool } from './messages.js';

const parameters =
  '{"type": "object", "properties": {"2": {"default": 1.0}, "1": {"maximum": 9007199254740993}}}';
const exact = new Map<string, unknown>([
  ['type', 'object'],
  [
    'properties',
    new Map<string, unknown>([
      ['2', new Map([['default', 1]])],
      ['1', new Map([['maximum', 9007199254740993n]])],
    ]),
  ],
]);

test.each([
  ['in a function', `{"type": "function", "function": {"name": "w", "parameters": ${parameters}}}`],
  ['beside the type', `{"type": "function", "name": "w", "parameters": ${parameters}}`],
])('parameters %s keep their numbers and the order of their keys', (_, tool) => {
  const body = `{"tools": [{"function": {"name": "other"}}, ${tool}]}`;
  const tools = (JSON.parse(body) as { tools: unknown[] }).tools.map((one) => Tool.parse(one));
  const [other, same] = exactTools(tools, readExactJson(body) as Map<string, never>);
  expect(other).toEqual({ type: 'function', function: { name: 'other' } });
  expect(same).toEqual({ type: 'function', function: { name: 'w', parameters: exact } });
  const { properties } = Object.fromEntries(exact) as { properties: Map<string, unknown> };
  expect([...properties.keys()]).toEqual(['2', '1']);
});

test("the template's variables are as the body has them", () => {
  const body = readExactJson('{"chat_template_kwargs": {"ratio": 1.0, "id": 9007199254740993}}');
  expect(exactVariables({ enable_thinking: true, ratio: 1 }, body as Map<string, never>)).toEqual(
    new Map<string, unknown>([
      ['enable_thinking', true],
      ['ratio', 1],
      ['id', 9007199254740993n],
    ]),
  );
  expect(exactVariables({ enable_thinking: true }, new Map())).toEqual({ enable_thinking: true });
});
