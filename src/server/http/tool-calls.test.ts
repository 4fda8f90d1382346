/** Calls in a text, however it is cut. */
import { describe, expect, test } from 'vitest';
import { type Said, ToolCallReader } from './tool-calls.js';

const CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "</x>"}}\n</tool_call>';

function read(pieces: readonly string[]): Said[] {
  const reader = new ToolCallReader();
  const said = [...pieces.flatMap((piece) => reader.push(piece)), ...reader.end()];
  // Texts that follow each other are one.
  const joined: Said[] = [];
  for (const part of said) {
    const last = joined.at(-1);
    if (last && 'content' in last && 'content' in part) {
      joined.splice(-1, 1, { content: last.content + part.content });
    } else joined.push(part);
  }
  return joined;
}

const call = (args: object) => ({
  call: {
    id: expect.stringMatching(/^call_/),
    type: 'function',
    function: { name: 'add', arguments: JSON.stringify(args) },
  },
});

describe('tool calls', () => {
  test('are found wherever the text is cut', () => {
    const text = `I add. ${CALL} and then${CALL}`;
    for (let size = 1; size < 30; size++) {
      const pieces = text.match(new RegExp(`[^]{1,${size}}`, 'g'))!;
      const args = { a: 1, b: '</x>' };
      expect(read(pieces)).toEqual([
        { content: 'I add. ' },
        call(args),
        { content: ' and then' },
        call(args),
      ]);
    }
  });

  test('text is let through as soon as it is certainly none', () => {
    const reader = new ToolCallReader();
    expect(reader.push('a < b <tool')).toEqual([{ content: 'a < b ' }]);
    expect(reader.push('box>')).toEqual([{ content: '<toolbox>' }]);
  });

  test.each([
    ['<tool_call>{"name": "add"}</tool_call>', [call({})]],
    ['<tool_call>{"name": "add", "arguments": {"a": 2}}', [call({ a: 2 })]],
    ['<tool_call>{"name": </tool_call>', [{ content: '<tool_call>{"name": </tool_call>' }]],
    ['<tool_call>{"nam', [{ content: '<tool_call>{"nam' }]],
    ['<tool_call>[1]</tool_call>', [{ content: '<tool_call>[1]</tool_call>' }]],
    ['', []],
  ])('%j', (text, said) => {
    expect(read([text])).toEqual(said);
  });
});
