/** Templates that do harm: each ends in an error that names the file, and this process goes on. */
import { setTimeout as after } from 'node:timers/promises';
import { afterAll, describe, expect, test } from 'vitest';
import { TokenizerError } from '../errors.js';
import { ChatTemplate } from './chat-template.js';
import { TEMPLATE_LIMITS, type TemplateLimits, TemplateProcess } from './chat-template-process.js';

const ORIGIN = 'models/bad/chat_template.jinja';

async function render(source: string, limits: Partial<TemplateLimits> = {}): Promise<string> {
  const template = new ChatTemplate({ sources: { default: source }, origin: ORIGIN, limits });
  try {
    return await template.render([{ role: 'user', content: 'hi' }]);
  } finally {
    template.close();
  }
}

async function failure(source: string, limits: Partial<TemplateLimits> = {}): Promise<string> {
  const error = await render(source, limits).then(
    (text) => expect.fail(`it wrote ${text.slice(0, 100)}`),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(TokenizerError);
  const { message } = error as Error;
  expect(message.startsWith(`${ORIGIN}: the chat template `)).toBe(true);
  return message;
}

/** A value that doubles `times` over. */
const doubled = (first: string, sum: string, times: number, use: string): string =>
  `{% set ns = namespace(v=${first}) %}{% for i in range(${times}) %}{% set ns.v = ${sum} %}{% endfor %}${use}`;

describe('a template', () => {
  test('that is broken', async () => {
    for (const source of ['{% if %}', '{{ ', '{% for m in messages %}', '{% endif %}', '{{ "a }}']) {
      expect(await failure(source)).toMatch(/cannot be parsed: ./);
    }
    expect(await failure(`{{ ${'('.repeat(100_000)}1${')'.repeat(100_000)} }}`)).toMatch(/cannot be parsed/);
  });

  test('that fails', async () => {
    expect(await failure("{{ raise_exception('not like this') }}")).toMatch(
      /refuses these messages: not like this$/,
    );
    expect(await failure('{{ messages[0].nothing() }}')).toMatch(/fails on these messages: ./);
    expect(await failure("{{ 'a' | no_such_filter }}")).toMatch(/fails on these messages: ./);
    expect(await failure('{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}')).toMatch(/fails|ended|did not/);
  });

  test('that counts to a billion', async () => {
    expect(await failure('{% for i in range(10**9) %}x{% endfor %}')).toMatch(/at most 100000/);
  });

  test('that hardly ever ends leaves the event loop free, and is stopped', async () => {
    const time = 300;
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 10);
    const nested = '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}';
    expect(await failure(nested, { time })).toMatch(/did not end within 0\.3 s/);
    clearInterval(ticking);
    expect(ticks).toBeGreaterThan(3);
    // So is one that the parser cannot swallow: its time grows with the square of the blanks.
    expect(await failure(' '.repeat(400_000), { time })).toMatch(/did not end within 0\.3 s/);
  });

  test('that makes more than fits in memory', async () => {
    const wide = "'\u4e00'";
    for (const source of [
      doubled(wide, 'ns.v + ns.v', 28, '{{ ns.v | upper }}'),
      doubled("['x']", 'ns.v + ns.v', 40, '{{ ns.v | length }}'),
      doubled("'x '", 'ns.v + ns.v', 26, "{{ ns.v.split(' ') | length }}"),
    ]) {
      expect(await failure(source, { memory: 64 })).toMatch(/ended the process .* may take 64 MB/);
    }
  });

  test('that writes without measure', async () => {
    expect(await failure(doubled("'x'", 'ns.v + ns.v', 25, '{{ ns.v }}'))).toMatch(
      `made ${2 ** 25} characters of these messages, more than the ${TEMPLATE_LIMITS.length}`,
    );
    expect(await failure(doubled("'x'", 'ns.v + ns.v', 40, '{{ ns.v }}'))).toMatch(/fails on these messages/);
    expect((await render(doubled("'x'", 'ns.v + ns.v', 20, '{{ ns.v }}'))).length).toBe(2 ** 20);
  });

  test("that looks for JavaScript's insides finds nothing", async () => {
    const insides = [
      'messages.constructor',
      "messages['__proto__']",
      'messages[0].constructor',
      "messages[0]['__proto__']",
      "''.constructor",
      "raise_exception['constructor']",
      'range.constructor',
      'range.prototype',
      'globalThis',
      'process',
      'require',
      'namespace(a=1).constructor',
    ];
    const probes = insides.map((inside) => `${inside} {{ ${inside} is defined }}{{ ${inside} }}`);
    expect(await render(probes.join('\n'))).toBe(insides.map((inside) => `${inside} false`).join('\n'));
    expect(await failure("{{ ''.constructor.constructor('return process')() }}")).toMatch(
      /fails on these messages/,
    );
  });
});

test('where no process can be started, that is said', async () => {
  const { execPath } = process;
  try {
    process.execPath = '/nowhere/node';
    expect(await failure('hi')).toMatch(/in a process of its own, which cannot be started: .*ENOENT/);
  } finally {
    process.execPath = execPath;
  }
});

describe('the process', () => {
  const process_ = new TemplateProcess({ ...TEMPLATE_LIMITS, time: 1000 });
  afterAll(() => process_.close());

  test('outlives what fails, and another takes the place of one that ended', async () => {
    expect(await process_.render('{{ a }}', { a: 1 })).toEqual({ text: '1' });
    expect(await process_.render('{{ raise_exception(a) }}', { a: 'no' })).toEqual({
      failure: 'raised',
      message: 'no',
    });
    const endless = '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}';
    const answers = await Promise.all([
      process_.render(endless, {}),
      process_.render(doubled("['x']", 'ns.v + ns.v', 40, ''), {}),
      process_.render('{{ a }}', { a: 2 }),
    ]);
    expect(answers[0]).toMatchObject({ failure: 'time' });
    expect(answers[1]).toHaveProperty('failure');
    expect(answers[2]).toEqual({ text: '2' });
  });

  test('is started again after it was closed, also while it is at work', async () => {
    process_.close();
    expect(await process_.render('{{ a }}', { a: 3 })).toEqual({ text: '3' });
    const cut = process_.render(
      '{% for i in range(99999) %}{% for j in range(999) %}{% endfor %}{% endfor %}',
      {},
    );
    await after(20);
    process_.close();
    expect(await cut).toHaveProperty('failure');
    expect(await process_.render('{{ a }}', { a: 4 })).toEqual({ text: '4' });
  });

  test('does not share what a template sets', async () => {
    await process_.render("{% set range = 'taken' %}{% set left = 1 %}", {});
    expect(await process_.render("{{ left is defined }} {{ range(2) | join(',') }}", {})).toEqual({
      text: 'false 0,1',
    });
  });
});
