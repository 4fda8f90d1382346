/** A conversation as a tree: what is sent to go on from a turn, and where its rows are drawn. */
import { expect, test } from 'vitest';
import type { StoredState } from '../api.js';
import { continuation, messagesOf, pathTo, rowsOf, type Turn, titleOf } from './conversation.js';

const stateOf = (id: string): StoredState => ({
  id: `state-${id}`,
  model: 'm',
  created: 0,
  tokens: 1,
  bytes: 1,
});

const turn = (id: string, parent: string | undefined, change: Partial<Turn> = {}): Turn => ({
  id,
  parent,
  kind: 'turn',
  said: `say ${id}`,
  answer: `answer ${id}`,
  status: 'done',
  state: stateOf(id),
  ...change,
});

/** The same turn without a memory. */
const { state: _, ...stopped } = turn('c', 'b', { status: 'stopped' });

test('goes on from the memory after a turn, with what is said alone', () => {
  expect(continuation([turn('a', undefined), turn('b', 'a')], 'b', 'next')).toEqual({
    state: 'state-b',
    messages: [{ role: 'user', content: 'next' }],
  });
});

test('goes on from the beginning without a memory', () => {
  expect(continuation([turn('a', undefined)], undefined, 'first')).toEqual({
    messages: [{ role: 'user', content: 'first' }],
  });
});

test('says again what came since the nearest memory, and nothing of a turn that failed', () => {
  const { state: _, ...failed } = turn('d', 'c', { status: 'failed' });
  const tree = [turn('a', undefined), turn('b', 'a'), stopped, failed];
  expect(continuation(tree, 'd', 'next')).toEqual({
    state: 'state-b',
    messages: [
      { role: 'user', content: 'say c' },
      { role: 'assistant', content: 'answer c' },
      { role: 'user', content: 'next' },
    ],
  });
});

test('goes on from a fork without the messages of the turns before it', () => {
  const tree = [turn('a', undefined), turn('f', 'a', { kind: 'fork', said: '', answer: '' })];
  expect(continuation(tree, 'f', 'next')).toEqual({
    state: 'state-f',
    messages: [{ role: 'user', content: 'next' }],
  });
  expect(messagesOf(tree, 'f')).toEqual([
    { role: 'user', content: 'say a' },
    { role: 'assistant', content: 'answer a' },
  ]);
});

test('draws the first branch in the column of its parent, and every other in one of its own', () => {
  const tree = [
    turn('a', undefined),
    turn('b', 'a'),
    turn('c', 'b'),
    turn('d', 'a'),
    turn('e', 'd'),
    turn('f', undefined),
  ];
  expect(rowsOf(tree).map(({ turn, column, from }) => [turn.id, column, from?.row, from?.column])).toEqual([
    ['a', 0, undefined, undefined],
    ['b', 0, 0, 0],
    ['c', 0, 1, 0],
    ['d', 1, 0, 0],
    ['e', 1, 3, 1],
    ['f', 2, undefined, undefined],
  ]);
  expect(pathTo(tree, 'e').map(({ id }) => id)).toEqual(['a', 'd', 'e']);
});

test('a name is the title where there is one', () => {
  expect(titleOf(turn('a', undefined, { said: ' two\n words ' }))).toBe('two words');
  expect(titleOf(turn('a', undefined, { state: { ...stateOf('a'), name: 'named' } }))).toBe('named');
});
