import { expect, test } from 'vitest';
import { StopStrings } from '../../generate/index.js';
import { HeldTokens } from './held-tokens.js';

/** Tells the tokens of texts, with stop strings; as [token, offset] where they are told. */
function told(tokens: readonly string[], stops: readonly string[]) {
  const stream = { push: (id: number) => tokens[id]!, end: () => '' };
  const teller = new HeldTokens(stream);
  const watch = new StopStrings(stops);
  const steps: [string, number][][] = [];
  let text = '';
  const add = (some: readonly { token: string; offset: number }[], more: string): void => {
    text += more;
    steps.push(some.map(({ token, offset }) => [token, offset]));
    // Nothing is told of which the answer has no text, but tokens without any.
    for (const { token, offset } of some) if (token !== '') expect(offset).toBeLessThan([...text].length);
  };
  for (const [id, token] of tokens.entries()) {
    if (watch.stopped) break;
    const more = watch.push(token);
    add(teller.push({ id, token, bytes: [], logprob: 0, top: [] }, more), more);
  }
  const rest = watch.end();
  add(teller.give(rest), rest);
  if (!watch.stopped) add(teller.rest(), '');
  return { text, steps, all: steps.flat() };
}

test('a token is told when its text is', () => {
  const { steps } = told(['a', 'b🐋', 'c'], []);
  expect(steps.slice(0, 3)).toEqual([[['a', 0]], [['b🐋', 1]], [['c', 3]]]);
});

test('what a stop string cuts off is not told', () => {
  expect(told(['Hel', 'lo', ' wor', 'ld', ' end'], [' world'])).toMatchObject({
    text: 'Hello',
    all: [
      ['Hel', 0],
      ['lo', 3],
    ],
  });
  // A token of which a part is in the text is.
  expect(told(['Hel', 'lo wor', 'ld'], [' world']).all).toEqual([
    ['Hel', 0],
    ['lo wor', 3],
  ]);
});

test('stop strings that never come change nothing but when', () => {
  const tokens = [' of', ' the', ' state', ' of', ' qq'];
  expect(told(tokens, [' of qqq', ' the qqq']).all).toEqual(told(tokens, []).all);
  expect(told(tokens, [' of qqq', ' the qqq']).steps).not.toEqual(told(tokens, []).steps);
});

test('tokens that say nothing yet, and at the end', () => {
  expect(told(['', '', '鯨', ''], []).all).toEqual([
    ['', 0],
    ['', 0],
    ['鯨', 0],
    ['', 1],
  ]);
  expect(told(['a', '', ''], ['x']).all).toHaveLength(3);
});
