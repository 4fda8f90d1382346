/** A conversation as a tree: the requests that continue from a turn, and the layout of the rows. */
import { expect, test } from 'vitest';
import type { StoredState } from '../api.js';
import {
  merged,
  messagesOf,
  pathTo,
  requestFor,
  rowsOf,
  standOf,
  type Turn,
  titleOf,
} from './conversation.js';

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

/** The same turn without a state. */
const { state: _, ...stopped } = turn('c', 'b', { status: 'stopped' });

/** A turn that waits for its answer. */
const { state: __, ...next } = turn('n', undefined, { said: 'next', answer: '', status: 'writing' });

test('continues from the state after a turn, sending only the new message', () => {
  const tree = [turn('a', undefined), turn('b', 'a')];
  expect(requestFor(tree, { ...next, parent: 'b' })).toEqual({
    state: 'state-b',
    messages: [{ role: 'user', content: 'next' }],
  });
});

test('starts without a state', () => {
  expect(requestFor([turn('a', undefined)], next)).toEqual({ messages: [{ role: 'user', content: 'next' }] });
});

test('sends the messages since the nearest state, without a failed turn', () => {
  const { state: _, ...failed } = turn('d', 'c', { status: 'failed', answer: '' });
  const tree = [turn('a', undefined), turn('b', 'a'), stopped, failed];
  expect(requestFor(tree, { ...next, parent: 'd' })).toEqual({
    state: 'state-b',
    messages: [
      { role: 'user', content: 'say c' },
      { role: 'assistant', content: 'answer c' },
      { role: 'user', content: 'next' },
    ],
  });
});

test('continues from a fork without the messages of the turns before it', () => {
  const tree = [turn('a', undefined), turn('f', 'a', { kind: 'fork', said: '', answer: '' })];
  expect(requestFor(tree, { ...next, parent: 'f' })).toEqual({
    state: 'state-f',
    messages: [{ role: 'user', content: 'next' }],
  });
  expect(messagesOf(tree, 'f')).toEqual([
    { role: 'user', content: 'say a' },
    { role: 'assistant', content: 'answer a' },
  ]);
});

test('a continued answer is sent as far as it came, after the state before its turn', () => {
  const tree = [turn('a', undefined), turn('b', 'a')];
  expect(requestFor(tree, tree[1]!, 'answer b')).toEqual({
    state: 'state-a',
    messages: [
      { role: 'user', content: 'say b' },
      { role: 'assistant', content: 'answer b' },
    ],
  });
});

test('a system prompt and thoughts are sent again with their turns', () => {
  const { state: _, ...first } = turn('a', undefined, { system: 'Be brief.', thoughts: 'Hm.' });
  expect(requestFor([first], { ...next, parent: 'a' })).toEqual({
    messages: [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'say a' },
      { role: 'assistant', content: 'answer a', reasoning_content: 'Hm.' },
      { role: 'user', content: 'next' },
    ],
  });
});

test('a message after a failed or unanswered turn follows the turn before it', () => {
  const tree = [
    turn('a', undefined),
    turn('b', 'a', { status: 'failed', answer: '' }),
    turn('c', 'a', { status: 'stopped', answer: '' }),
    turn('d', 'a', { status: 'stopped', answer: 'half' }),
  ];
  expect(['a', 'b', 'c', 'd', undefined].map((head) => standOf(tree, head))).toEqual([
    'a',
    'a',
    'a',
    'd',
    undefined,
  ]);
  expect(standOf([turn('a', undefined, { status: 'failed', answer: '' })], 'a')).toBeUndefined();
});

test('draws the first branch in the column of its parent, and every other branch in a new column', () => {
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

test('the name, if any, is the title', () => {
  expect(titleOf(turn('a', undefined, { said: ' two\n words ' }))).toBe('two words');
  expect(titleOf(turn('a', undefined, { state: { ...stateOf('a'), name: 'named' } }))).toBe('named');
});

test('the trees of two tabs have the turns of both, each as it was changed last', () => {
  const mine = [turn('a', undefined, { changed: 3 }), turn('b', 'a', { changed: 4, answer: 'long' })];
  const theirs = [
    turn('a', undefined, { changed: 9, answer: 'later' }),
    turn('b', 'a', { changed: 2, answer: 'lo' }),
    turn('c', 'a', { changed: 5 }),
  ];
  const both = [theirs[0], mine[1], theirs[2]];
  expect(merged(mine, theirs)).toEqual(both);
  expect(merged(theirs, mine)).toEqual(both);
  expect(merged(mine, [])).toEqual(mine);
});

test('an answer that arrives is not ended by a tab that has found it half', () => {
  const mine = [turn('a', undefined, { changed: 3, status: 'writing' })];
  const theirs = [turn('a', undefined, { changed: 3, status: 'stopped' })];
  expect(merged(mine, theirs, new Set(['a']))).toEqual(mine);
  // Whoever only looks on takes it as it is told.
  expect(merged(mine, theirs)).toEqual(theirs);
});
