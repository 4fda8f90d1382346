/** Conversations of other servers and other models, adapted to a template. */
import { expect, test } from 'vitest';
import { NO_FORM } from './form.js';
import { historyMessages } from './history.js';

const called = (args: string, id = 'call_1') => ({
  role: 'assistant',
  content: '',
  tool_calls: [{ id, type: 'function', function: { name: 'w', arguments: args } }],
});
const formWith = (history: Partial<typeof NO_FORM.history>) => ({
  ...NO_FORM,
  history: { ...NO_FORM.history, ...history },
});

test('arguments are kept as text; those that are not an object are dropped if the template requires objects', () => {
  const read = (args: string, takesText: boolean): unknown => {
    const [message] = historyMessages([called(args)], formWith({ takesText }));
    return (message!.tool_calls as ReturnType<typeof called>['tool_calls'])[0]!.function.arguments;
  };
  for (const takesText of [false, true]) {
    expect(read('{"x": 1.0, "n": 12345678901234567890}', takesText)).toBe(
      '{"x": 1.0, "n": 12345678901234567890}',
    );
  }
  expect([read('Paris', true), read('Paris', false), read('5', false)]).toEqual(['Paris', '{}', '{}']);
});

test("ids of other servers are converted to the template's form, consistently for a call and its result", () => {
  const messages = [
    called('{}', 'call_abc'),
    { role: 'tool', content: '1', tool_call_id: 'call_abc' },
    called('{}', 'abcDEF123'),
  ];
  const [first, result, second] = historyMessages(messages, formWith({ ids: 'short' })) as [
    ReturnType<typeof called>,
    { tool_call_id: string },
    ReturnType<typeof called>,
  ];
  expect(first.tool_calls[0]!.id).toMatch(/^[A-Za-z0-9]{9}$/);
  expect(result.tool_call_id).toBe(first.tool_calls[0]!.id);
  expect(second.tool_calls[0]!.id).toBe('abcDEF123');
  expect(historyMessages(messages, NO_FORM)).toEqual(messages);
});

test('a thought has the name that the template uses', () => {
  const [message] = historyMessages(
    [{ role: 'assistant', content: 'a', reasoning_content: 'b' }],
    formWith({ thoughtKey: 'thinking' }),
  );
  expect(message).toMatchObject({ content: 'a', thinking: 'b' });
});
