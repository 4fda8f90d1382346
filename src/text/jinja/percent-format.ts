/** The operator `%` on a text: printf formatting as in Python. */
import { spendText } from './budget.js';
import { countCharacters, joined, repeated, substring } from './characters.js';
import { failed } from './errors.js';
import { asciiOnly } from './literals.js';
import { type FloatStyle, unsignedFloat, unsignedInteger } from './number-format.js';
import { Dict, integerOf, isList, reprOf, Tuple, textOf, typeOf, Undefined, type Value } from './values.js';

const DIRECTIVE = /%(?:\(([^)]*)\))?([-+ #0]*)(\*|\d+)?(?:\.(\*|\d*))?[hlL]?(.?)/gsu;

/** The flags and the width of a conversion such as `%+05d`. */
export interface NumberSigns {
  /** The prefix of a positive number. */
  readonly plus: string;
  readonly zeros: boolean;
  readonly left: boolean;
  readonly width: number;
}

/** Python's `format % given` for a string. Throws `TemplateError` for arguments that do not fit the conversions. */
export function percentFormat(format: string, given: Value): string {
  spendText(format.length);
  const parts: string[] = [];
  const positional = given instanceof Tuple ? given.items : [given];
  let next = 0;
  let named = false;
  const take = (): Value => {
    if (next >= positional.length) throw failed('not enough arguments for format string');
    return positional[next++]!;
  };
  const number = (text: string | undefined): number | undefined => {
    if (text !== '*') return text === undefined ? undefined : Number(text);
    const taken = integerOf(take());
    if (taken === undefined) throw failed('* wants int');
    return Number(taken);
  };
  let end = 0;
  for (const match of format.matchAll(DIRECTIVE)) {
    const [whole, key, flags = '', givenWidth, givenPrecision, letter = ''] = match;
    parts.push(format.slice(end, match.index));
    end = match.index + whole.length;
    if (letter === '') throw failed('incomplete format');
    if (letter === '%') {
      parts.push('%');
      continue;
    }
    let value: Value | undefined;
    if (key !== undefined) {
      if (!(given instanceof Dict)) throw failed('format requires a mapping');
      named = true;
      value = given.get(key);
      if (value === undefined) throw failed(`KeyError: ${reprOf(key)}`);
    }
    const width = number(givenWidth) ?? 0;
    const precision = number(givenPrecision);
    if (value === undefined) value = take();
    const signs: NumberSigns = {
      plus: flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : '',
      zeros: flags.includes('0'),
      left: flags.includes('-') || width < 0,
      width: Math.abs(width),
    };
    parts.push(directive(letter, value, signs, precision, flags.includes('#')));
  }
  parts.push(format.slice(end));
  const isUsed =
    next >= positional.length || named || (next === 0 && (given instanceof Dict || isList(given)));
  if (!isUsed) throw failed('not all arguments converted during string formatting');
  return joined(parts);
}

function directive(
  letter: string,
  value: Value,
  signs: NumberSigns,
  precision: number | undefined,
  alternate: boolean,
): string {
  const text = (whole: string): string => {
    const cut = precision === undefined ? whole : substring(whole, 0, precision);
    return padded(cut, '', { ...signs, zeros: false });
  };
  switch (letter) {
    case 's':
      return text(textOf(value));
    case 'r':
      return text(reprOf(value));
    case 'a':
      return text(asciiOnly(reprOf(value)));
    case 'c':
      return text(characterOf(value));
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': {
      const integer = integerFor(letter, value);
      const digits = unsignedInteger(integer, letter, false);
      const full =
        precision === undefined
          ? digits
          : padded(digits, '', { ...signs, width: precision, zeros: true, left: false });
      const prefix = alternate && 'xXo'.includes(letter) ? `0${letter}` : '';
      const sign = integer < 0n ? '-' : signs.plus;
      return padded(letter === 'X' ? full.toUpperCase() : full, sign + prefix, signs);
    }
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G': {
      const float = floatFor(value);
      const style = letter.toLowerCase() as FloatStyle;
      const digits = unsignedFloat(float, { style, precision: precision ?? 6, alternate });
      const sign = float < 0 || Object.is(float, -0) ? '-' : signs.plus;
      const zeros = signs.zeros && Number.isFinite(float);
      return padded(letter === style ? digits : digits.toUpperCase(), sign, { ...signs, zeros });
    }
  }
  throw failed(`unsupported format character '${letter}' (0x${letter.codePointAt(0)!.toString(16)})`);
}

/** Pads with blanks up to the width, or with zeros after the sign. */
function padded(text: string, sign: string, { width, left, zeros }: NumberSigns): string {
  const missing = Math.max(0, width - countCharacters(text) - sign.length);
  if (left) return sign + text + repeated(' ', missing);
  return zeros ? sign + repeated('0', missing) + text : repeated(' ', missing) + sign + text;
}

function integerFor(letter: string, value: Value): bigint {
  const integer = integerOf(value);
  if (integer !== undefined) return integer;
  const isWhole = 'diu'.includes(letter);
  if (isWhole && typeof value === 'number' && Number.isFinite(value)) return BigInt(Math.trunc(value));
  if (value instanceof Undefined) throw failed(value.reason);
  throw failed(
    `%${letter} format: ${isWhole ? 'a real number' : 'an integer'} is required, not ${typeOf(value)}`,
  );
}

function floatFor(value: Value): number {
  if (typeof value === 'number') return value;
  const integer = integerOf(value);
  if (integer !== undefined) return Number(integer);
  throw value instanceof Undefined
    ? failed(value.reason)
    : failed(`must be real number, not ${typeOf(value)}`);
}

function characterOf(value: Value): string {
  const code = integerOf(value);
  if (code !== undefined && code >= 0n && code < 0x110000n) return String.fromCodePoint(Number(code));
  if (typeof value === 'string' && countCharacters(value) === 1) return value;
  throw failed('%c requires int or char');
}
