/** Malicious templates: each ends in a typed error after a bounded number of steps, and cannot reach JavaScript objects. */
import { describe, expect, test } from 'vitest';
import { TEMPLATE_LIMITS, Template, TemplateError, type TemplateLimits } from './index.js';

function failure(source: string, limits: Partial<TemplateLimits> = {}): TemplateError {
  try {
    const text = new Template(source).render([{}], { ...TEMPLATE_LIMITS, ...limits });
    return expect.fail(`it wrote ${text.length} characters: ${text.slice(0, 100)}`);
  } catch (error) {
    expect(error).toBeInstanceOf(TemplateError);
    return error as TemplateError;
  }
}

const render = (source: string): string => new Template(source).render([{}], TEMPLATE_LIMITS);

/** A template that makes a value grow `times` times. */
const grown = (first: string, sum: string, times: number, use: string): string =>
  `{% set ns = namespace(v=${first}) %}{% for i in range(${times}) %}{% set ns.v = ${sum} %}{% endfor %}${use}`;

/** A template with an operation that is repeated very often. */
const often = (what: string, before = ''): string =>
  `${before}{% for i in range(99999) %}{% for j in range(99999) %}${what}{% endfor %}{% endfor %}`;

describe('excessive work', () => {
  test.each([
    ['loops', often('')],
    ['assignments', often('{% set x = i * j + 1 %}')],
    [
      'macros',
      '{% macro f(n) %}{% if n < 60 %}{{ f(n + 1) }}{{ f(n + 1) }}{% endif %}{% endmacro %}{{ f(0) }}',
    ],
    [
      'recursive loops',
      '{% for x in range(3) recursive %}{% if loop.depth < 50 %}{{ loop(range(3)) }}{% endif %}{% endfor %}',
    ],
    ['reading a long text', often('{% if "z" in t %}{% endif %}', "{% set t = 'a' * 9999999 %}")],
    [
      'searching for what is nearly there',
      often(
        '{% if w in t %}{% endif %}',
        "{% set t = 'a' * 999999 %}{% set w = 'a' * 500 + 'b' + 'a' * 500 %}",
      ),
    ],
    [
      'searching from the end',
      often('{% set x = t.rfind(w) %}', "{% set t = 'a' * 999999 %}{% set w = 'b' + 'a' * 60 %}"),
    ],
    ['making long texts', often("{% set x = 'a' * 9999999 %}")],
    ['making lists', often('{% set x = [1] * 99999 %}')],
    [
      'unpacking arguments',
      often(
        '{% set x = dict(*[[]] * 0, **{}) %}{% set y = f(*range(9999)) %}',
        '{% macro f() %}{{ varargs | length }}{% endmacro %}',
      ),
    ],
    ['large powers', often('{% set x = 3 ** 9000 %}')],
    ['large products', often('{% set x = b * b %}', '{% set b = 10 ** 2000 %}')],
    ['writing large integers', often('{% set x = b | string %}', '{% set b = 7 ** 5000 %}')],
    ['reading large integers', often("{% set x = ('f' * 3500) | int(0, 16) %}")],
    ['exact decimals', often("{% set x = '%.1000f' % 1.5e-300 %}")],
    ['rounding', often('{% set x = 1.5e-300 | round(320) %}')],
    ['characters outside the basic plane', often('{{ t[5] }}', "{% set t = '😀' * 999999 %}")],
    ['keys', often('{% set x = {t: 1} %}', "{% set t = 'a' * 999999 %}")],
    ['sorting', often("{% set x = range(99999) | map('string') | sort %}")],
    ['dates', often("{{ strftime_now('%c' * 9999) }}")],
    ['a wide value', grown('[1]', '[ns.v, ns.v]', 60, '{{ ns.v }}')],
    ['a wide value as JSON', grown('[1]', '[ns.v, ns.v]', 60, '{{ ns.v | tojson }}')],
    ['a wide key', grown('(1,)', '(ns.v, ns.v)', 60, '{{ {ns.v: 1} }}')],
    ['a list that doubles', grown('[1]', 'ns.v + ns.v', 40, '')],
    [
      'comparing wide values',
      `{% set a = namespace(v=[1]) %}{% set b = namespace(v=[1]) %}{% for i in range(60) %}{% set a.v = [a.v, a.v] %}{% set b.v = [b.v, b.v] %}{% endfor %}{{ a.v == b.v }}`,
    ],
    ['tags that never close', "{{ ('<!--' * 99999) | striptags }}".repeat(99)],
    ['a batch', '{{ [1] | batch(10**9, 0) | list }}'],
    ['slices', '{{ [1] | slice(10**9) | list }}'],
    ['a path of many parts', "{{ [{}] | sort(attribute='a,' * 999999) }}"],
  ])('%s', (_, source) => {
    expect(failure(source).failure).toBe('steps');
  });

  test('a rendering has the given number of steps', () => {
    const counting = '{% for i in range(1000) %}{{ i }}{% endfor %}';
    expect(failure(counting, { steps: 1000 })).toMatchObject({
      failure: 'steps',
      message: 'more than 1000 steps',
    });
    expect(render(counting)).toMatch(/^012.*999$/);
  });
});

describe('excessive texts', () => {
  test.each([
    ["{{ 'a' * 10**9 }}"],
    ["{{ 10**30 * 'a' }}"],
    [grown("'x'", 'ns.v + ns.v', 40, '')],
    [grown("'x'", 'ns.v ~ ns.v', 40, '')],
    ["{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}"],
    ["{% set x %}{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}{% endset %}"],
    ["{{ '%1000000000d' % 1 }}"],
    ["{{ '%*d' % (10**9, 1) }}"],
    ["{{ '%.1000000000f' % 1.5 }}"],
    ["{{ '{:1000000000}'.format(1) }}"],
    ["{{ '{:.1000000000e}'.format(1.5) }}"],
    ["{{ 'a\\nb' | indent(10**9) }}"],
    ["{{ ('a\\n' * 10000) | indent(10000) }}"],
    ["{{ 'a' | center(10**9) }}"],
    ["{{ 'a'.ljust(10**12) }}"],
    ["{{ 'a'.zfill(10**30) }}"],
    ["{{ '\\t'.expandtabs(10**9) }}"],
    ["{{ ('a' * 99999).replace('', 'b' * 99999) }}"],
    ["{{ ('a' * 99999) | join('b' * 99999) }}"],
    ['{{ [1] | tojson(indent=10**9) }}'],
  ])('%s', (source) => {
    expect(['length', 'steps']).toContain(failure(source).failure);
  });

  test('a text of the maximum length is allowed', () => {
    expect(render("{{ 'a' * 2**20 }}").length).toBe(2 ** 20);
    expect(failure("{{ 'a' * 11 }}", { length: 10 })).toMatchObject({
      failure: 'length',
      message: 'a text of 11 characters',
    });
  });
});

describe('excessive depth and size', () => {
  test.each([
    ['{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}'],
    ['{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}'],
    [grown('[]', '[ns.v]', 9999, '{{ ns.v }}')],
    [grown('[]', '[ns.v]', 9999, '{{ ns.v | tojson }}')],
    ['{% set ns = namespace() %}{% set ns.v = ns %}{{ ns }}'],
    [`{{ 1${' + 1'.repeat(99_999)} }}`],
    [`{{ 1${' | string'.repeat(99_999)} }}`],
    ['{% for i in range(10**9) %}x{% endfor %}'],
    ['{{ 10 ** (10 ** 10) }}'],
    [grown('7', 'ns.v * ns.v', 99, '')],
  ])('%s', (source) => {
    expect(failure(source).failure).toBe('failed');
  });

  test.each([
    [`{{ ${'('.repeat(9999)}1${')'.repeat(9999)} }}`],
    [`{{ ${'['.repeat(9999)} }}`],
    [`{{ ${'not '.repeat(9999)}1 }}`],
    [`{{ ${'-'.repeat(9999)}1 }}`],
    ['{% if 1 %}'.repeat(9999)],
    [`{{ ${'1'.repeat(5000)} }}`],
    [`{{ 0x${'f'.repeat(9999)} }}`],
    [`{#${'{#'.repeat(9999)}`],
    [`{% raw %}${'{% endraw '.repeat(9999)}`],
  ])('%s', (source) => {
    expect(failure(source).failure).toBe('syntax');
  });
});

test('JavaScript objects cannot be reached', () => {
  const insides = [
    'd.constructor',
    "d['__proto__']",
    'l.constructor',
    "l['__proto__']",
    'l.length',
    "''.constructor",
    "raise_exception['constructor']",
    'range.constructor',
    'range.prototype',
    'globalThis',
    'process',
    'require',
    'namespace(a=1).constructor',
    'namespace(a=1).__proto__',
    'm.definition',
    'm.scope',
    "'' | attr('constructor')",
    "[l] | map(attribute='constructor') | first",
  ];
  const before = "{% set d = {'a': 1} %}{% set l = [1] %}{% macro m() %}{% endmacro %}";
  const probes = insides.map((inside) => `{{ (${inside}) is defined }}{{ ${inside} }}`);
  expect(render(before + probes.join('|'))).toBe(insides.map(() => 'False').join('|'));
  expect(failure("{{ ''.constructor.constructor('return process')() }}").failure).toBe('failed');
  expect(failure("{{ '{0.constructor.constructor}'.format('') }}").failure).toBe('failed');
  // In a namespace or a dict, such a name is an ordinary entry.
  expect(
    render(
      "{{ {'__proto__': 1} }} {{ namespace(constructor=2).constructor }} {{ {'__proto__': 3}['__proto__'] }}",
    ),
  ).toBe("{'__proto__': 1} 2 3");
});
