/** Responses that are kept, and those that make room. */
import { expect, test } from 'vitest';
import { KeptResponses } from './kept.js';
import type { ModelResponse } from './schemas.js';

const kept = (id: string, text: string) => ({
  response: { id } as ModelResponse,
  input: [{ type: 'message' as const, role: 'user' as const, content: text, id: undefined }],
  items: [],
});

test('the ones used least recently make room; each belongs to an owner', () => {
  const responses = new KeptResponses(600);
  responses.put('ada', kept('resp_1', 'a'.repeat(150)));
  responses.put('ada', kept('resp_2', 'b'.repeat(150)));
  expect(responses.get('ada', 'resp_1')).toBeDefined();
  expect(responses.get('ben', 'resp_1')).toBeUndefined();
  responses.put('ada', kept('resp_3', 'c'.repeat(150)));
  expect(['resp_1', 'resp_2', 'resp_3'].map((id) => responses.get('ada', id)?.response.id)).toEqual([
    'resp_1',
    undefined,
    'resp_3',
  ]);
  expect(responses.delete('ada', 'resp_1')).toBe(true);
  expect(responses.delete('ada', 'resp_1')).toBe(false);
  // What is too large alone is not kept.
  responses.put('ada', kept('resp_4', 'd'.repeat(900)));
  expect(responses.get('ada', 'resp_4')).toBeUndefined();
  responses.put('ada', kept('resp_5', 'e'));
  expect(responses.get('ada', 'resp_5')).toBeDefined();
});
