/** Markdown as chat models write it. */
import { expect, test } from 'vitest';
import { parseInline, parseMarkdown } from './markdown.js';

test('paragraphs, headings, rules and quotes', () => {
  expect(parseMarkdown('# A *title* #\ntext\nmore\n\n---\n> said\n> again\nafter')).toEqual([
    { kind: 'heading', level: 1, parts: ['A ', { kind: 'em', parts: ['title'] }] },
    { kind: 'paragraph', parts: ['text\nmore'] },
    { kind: 'rule' },
    { kind: 'quote', blocks: [{ kind: 'paragraph', parts: ['said\nagain'] }] },
    { kind: 'paragraph', parts: ['after'] },
  ]);
});

test('code is as it is written, also before its end has come', () => {
  const code = 'if (a) {\n\n    b(**c**);\n}';
  const expected = [
    { kind: 'paragraph', parts: ['So:'] },
    { kind: 'code', text: code },
  ];
  expect(parseMarkdown(`So:\n\`\`\`ts\n${code}\n\`\`\``)).toEqual(expected);
  expect(parseMarkdown(`So:\n\`\`\`ts\n${code}`)).toEqual(expected);
});

test('lists, in lists, with code, and with loose items', () => {
  const paragraph = (text: string) => ({ kind: 'paragraph', parts: [text] });
  const text = '3. one\n   - a\n   - b\n\n4. two\n   ```\n   x\n   ```\n\nend';
  expect(parseMarkdown(text)).toEqual([
    {
      kind: 'list',
      start: 3,
      items: [
        [paragraph('one'), { kind: 'list', start: undefined, items: [[paragraph('a')], [paragraph('b')]] }],
        [paragraph('two'), { kind: 'code', text: 'x' }],
      ],
    },
    paragraph('end'),
  ]);
});

test('tables have as many cells a row as their head', () => {
  expect(parseMarkdown('| a | b |\n|---|:-:|\n| 1 \\| 2 |\n| `x` | y | z |')).toEqual([
    {
      kind: 'table',
      head: [['a'], ['b']],
      rows: [
        [['1 | 2'], []],
        [[{ kind: 'code', text: 'x' }], ['y']],
      ],
    },
  ]);
});

test('what only looks like a mark stays as it is', () => {
  for (const text of [
    '2 * 3 * 4, snake_case_name and 5*',
    'it costs $5 or $6',
    '<b onclick="x()">no</b>',
    '[x](javascript:alert(1))',
    'an unfinished **bold and `code',
  ]) {
    expect(parseInline(text)).toEqual([text]);
  }
});

test('marks within a line', () => {
  expect(
    parseInline('**b *i*** `**c**` \\*n\\* ~~d~~ $x_1 * y_2$ \\[c*d*e\\] [to **it**](https://a.b/c)'),
  ).toEqual([
    { kind: 'strong', parts: ['b ', { kind: 'em', parts: ['i'] }] },
    ' ',
    { kind: 'code', text: '**c**' },
    ' ',
    ...['*', 'n', '*', ' '],
    { kind: 'del', parts: ['d'] },
    ' ',
    { kind: 'math', text: '$x_1 * y_2$' },
    ' ',
    { kind: 'math', text: '\\[c*d*e\\]' },
    ' ',
    { kind: 'link', to: 'https://a.b/c', parts: ['to ', { kind: 'strong', parts: ['it'] }] },
  ]);
});

test('a long text of marks that do not end stays as it is', () => {
  const text = '[a **b ~~c *d _e '.repeat(4000);
  expect(parseMarkdown(text)).toEqual([{ kind: 'paragraph', parts: [text] }]);
});

test('code in an item of a list has all of its empty lines', () => {
  expect(parseMarkdown('1. Write:\n   ```\n   import x\n\n\n   def f():\n   ```\n\n\n2. Run')).toEqual([
    {
      kind: 'list',
      start: 1,
      items: [
        [
          { kind: 'paragraph', parts: ['Write:'] },
          { kind: 'code', text: 'import x\n\n\ndef f():' },
        ],
        [{ kind: 'paragraph', parts: ['Run'] }],
      ],
    },
  ]);
});

test.each(['>', '- ', '1. ', '> - '])('thousands of %j within each other are shown', (mark) => {
  let depth = 0;
  for (let blocks = parseMarkdown(`${mark.repeat(20_000)}x`); ; depth++) {
    const [block] = blocks;
    if (block?.kind === 'quote') blocks = [...block.blocks];
    else if (block?.kind === 'list') blocks = [...block.items[0]!];
    else {
      expect(JSON.stringify(block)).toMatch(/x"/);
      break;
    }
  }
  expect(depth).toBe(16);
});
