/** `text.format(...)`: fields in braces, each with Python's format specification. */

import { checkLength, spend } from './budget.js';
import { countCharacters, repeated, substring } from './characters.js';
import { failed } from './errors.js';
import { asciiOnly, floatText } from './literals.js';
import { type FloatStyle, unsignedFloat, unsignedInteger } from './number-format.js';
import { type Arguments, integerOf, reprOf, textOf, typeOf, type Value } from './values.js';

/** Looks up attributes and elements of values. */
export interface Lookup {
  attributeOf(value: Value, name: string): Value;
  itemOf(value: Value, key: Value): Value;
}

interface Given extends Arguments {
  readonly lookup: Lookup;
}

/** Throws for a missing field, or a specification that is invalid for its value. */
export function formatText(format: string, given: Given): string {
  const counter = { next: 0, numbered: false };
  return filled(format, given, counter, 2);
}

interface Counter {
  next: number;
  numbered: boolean;
}

function filled(format: string, given: Given, counter: Counter, levels: number): string {
  if (levels === 0) throw failed('Max string recursion exceeded');
  let text = '';
  let i = 0;
  const add = (more: string): void => {
    checkLength(text.length + more.length);
    text += more;
  };
  while (i < format.length) {
    spend();
    const brace = /[{}]/g;
    brace.lastIndex = i;
    const at = brace.exec(format)?.index ?? format.length;
    add(format.slice(i, at));
    if (at === format.length) break;
    if (format[at + 1] === format[at]) {
      add(format[at]!);
      i = at + 2;
      continue;
    }
    if (format[at] === '}') throw failed("Single '}' encountered in format string");
    const end = endOfField(format, at);
    add(field(format.slice(at + 1, end), given, counter, levels));
    i = end + 1;
  }
  return text;
}

function endOfField(format: string, start: number): number {
  let depth = 0;
  for (let i = start; i < format.length; i++) {
    spend();
    if (format[i] === '{') depth++;
    if (format[i] === '}' && --depth === 0) return i;
  }
  throw failed("expected '}' before end of string");
}

const FIELD = /^([^!:]*)(?:!([^:]*))?(?::(.*))?$/s;

function field(source: string, given: Given, counter: Counter, levels: number): string {
  const [, name = '', conversion, spec = ''] = FIELD.exec(source) ?? [];
  let value = fieldValue(name, given, counter);
  if (conversion === 's') value = textOf(value);
  else if (conversion === 'r') value = reprOf(value);
  else if (conversion === 'a') value = asciiOnly(reprOf(value));
  else if (conversion !== undefined) throw failed(`Unknown conversion specifier ${conversion}`);
  return formatValue(value, spec.includes('{') ? filled(spec, given, counter, levels - 1) : spec);
}

/** The value of a field: an argument, with its attributes and elements. */
function fieldValue(name: string, given: Given, counter: Counter): Value {
  const first = /^[^.[]*/.exec(name)![0];
  let value: Value | undefined;
  if (first === '' || /^\d+$/.test(first)) {
    if (first === '' ? counter.numbered : counter.next > 0) {
      throw failed('cannot switch between manual field specification and automatic field numbering');
    }
    if (first !== '') counter.numbered = true;
    const index = first === '' ? counter.next++ : Number(first);
    value = given.positional[index];
    if (value === undefined)
      throw failed(`Replacement index ${index} out of range for positional args tuple`);
  } else {
    value = given.named.get(first);
    if (value === undefined) throw failed(`KeyError: ${reprOf(first)}`);
  }
  for (const [, attribute, item] of name.slice(first.length).matchAll(/\.([^.[]+)|\[([^\]]*)\]/g)) {
    if (attribute !== undefined) value = given.lookup.attributeOf(value, attribute);
    else value = given.lookup.itemOf(value, /^\d+$/.test(item!) ? BigInt(item!) : item!);
  }
  return value;
}

const SPEC = /^(?:(.)?([<>=^]))?([-+ ])?(z)?(#)?(0)?(\d+)?([,_])?(?:\.(\d+))?(.)?$/su;

interface Spec {
  readonly fill: string;
  readonly align: string | undefined;
  readonly sign: string;
  readonly alternate: boolean;
  readonly width: number;
  readonly grouping: string;
  readonly precision: number | undefined;
  readonly letter: string;
}

/** Python's `format(value, source)`, where `source` is a format specification such as `>8.2f`. Throws `TemplateError`. */
function formatValue(value: Value, source: string): string {
  if (source === '') return textOf(value);
  const match = SPEC.exec(source);
  if (!match) throw failed('Invalid format specifier');
  const [, fill, align, sign = '-', , alternate, zero, width = '0', grouping = '', precision, letter = ''] =
    match;
  const spec: Spec = {
    fill: fill ?? (zero ? '0' : ' '),
    align: align ?? (zero ? '=' : undefined),
    sign,
    alternate: alternate !== undefined,
    width: Number(width),
    grouping,
    precision: precision === undefined ? undefined : Number(precision),
    letter,
  };
  const integer = typeof value === 'boolean' && letter === '' ? undefined : integerOf(value);
  if (typeof value === 'number' || (integer !== undefined && /^[eEfFgG%]$/.test(letter))) {
    return formatFloat(typeof value === 'number' ? value : Number(integer), spec);
  }
  if (integer !== undefined) return formatInteger(integer, spec);
  if (typeof value === 'string' || typeof value === 'boolean') return formatString(textOf(value), spec);
  throw failed(`unsupported format string passed to ${typeOf(value)}.__format__`);
}

function formatString(text: string, spec: Spec): string {
  if (spec.letter !== '' && spec.letter !== 's') {
    throw failed(`Unknown format code '${spec.letter}' for object of type 'str'`);
  }
  const cut = spec.precision === undefined ? text : substring(text, 0, spec.precision);
  return aligned('', cut, { ...spec, align: spec.align === '=' ? '<' : spec.align }, '<');
}

function formatInteger(value: bigint, spec: Spec): string {
  const { letter, alternate } = spec;
  if (letter === 'c') return aligned('', String.fromCodePoint(Number(value)), spec, '<');
  if (!/^[bdnoxX]?$/.test(letter)) throw failed(`Unknown format code '${letter}' for object of type 'int'`);
  if (spec.precision !== undefined) throw failed('Precision not allowed in integer format specifier');
  const whole = unsignedInteger(value, letter || 'd', alternate);
  const prefix = alternate && /^[boxX]$/.test(letter) ? whole.slice(0, 2) : '';
  const digits = grouped(whole.slice(prefix.length), spec.grouping, /^[boxX]$/.test(letter) ? 4 : 3);
  const upper = letter === 'X' ? (text: string) => text.toUpperCase() : (text: string) => text;
  return aligned(signOf(value < 0n, spec) + upper(prefix), upper(digits), spec, '>');
}

function formatFloat(value: number, spec: Spec): string {
  const { letter, precision, alternate } = spec;
  if (!/^[eEfFgGn%]?$/.test(letter))
    throw failed(`Unknown format code '${letter}' for object of type 'float'`);
  const style = (letter === '' || letter === 'n' ? 'g' : letter.toLowerCase()) as FloatStyle;
  const plain = letter === '' ? withoutLetter(Math.abs(value), precision) : undefined;
  const text = plain ?? unsignedFloat(value, { style, precision: precision ?? 6, alternate });
  const [whole, rest] = [/^\d*/.exec(text)![0], text.replace(/^\d*/, '')];
  const all = grouped(whole, spec.grouping, 3) + rest;
  const isNegative = value < 0 || Object.is(value, -0);
  return aligned(signOf(isNegative, spec), /[EFG]/.test(letter) ? all.toUpperCase() : all, spec, '>');
}

/** A float without a presentation type: like `str`, or like `g` but with at least one decimal. */
function withoutLetter(value: number, precision: number | undefined): string {
  if (precision === undefined || !Number.isFinite(value)) return floatText(value);
  const text = unsignedFloat(value, { style: 'g', precision, alternate: false });
  return /[.e]/.test(text) ? text : precision > text.length ? `${text}.0` : exponential(value, precision);
}

function exponential(value: number, precision: number): string {
  const text = unsignedFloat(value, { style: 'e', precision: Math.max(0, precision - 1), alternate: false });
  return text.replace(/\.?0*e/, 'e');
}

const signOf = (isNegative: boolean, { sign }: Spec): string => (isNegative ? '-' : sign === '-' ? '' : sign);

function grouped(digits: string, separator: string, size: number): string {
  if (separator === '') return digits;
  const parts: string[] = [];
  for (let end = digits.length; end > 0; end -= size)
    parts.unshift(digits.slice(Math.max(0, end - size), end));
  return parts.join(separator);
}

function aligned(sign: string, text: string, { fill, align, width }: Spec, usual: string): string {
  const missing = Math.max(0, width - countCharacters(text) - sign.length);
  switch (align ?? usual) {
    case '<':
      return sign + text + repeated(fill, missing);
    case '^':
      return repeated(fill, missing >> 1) + sign + text + repeated(fill, missing - (missing >> 1));
    case '=':
      return sign + repeated(fill, missing) + text;
    default:
      return repeated(fill, missing) + sign + text;
  }
}
