/** Python's `repr` of floats and texts. */
import { spend, spendText } from './budget.js';

/** A float: the fewest digits that determine it, at least one decimal, an exponent from 1e16 on and below 1e-4. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (value === 0) return Object.is(value, -0) ? '-0.0' : '0.0';
  const [mantissa, exponent] = value.toExponential().split('e') as [string, string];
  const power = Number(exponent);
  if (power < -4 || power >= 16) return `${mantissa}e${exponentText(power)}`;
  const text =
    power < 0 ? value.toFixed(Math.max(0, mantissa.replace(/[-.]/g, '').length - 1 - power)) : String(value);
  return text.includes('.') ? text : `${text}.0`;
}

/** An exponent with at least two digits and a sign. */
export function exponentText(power: number): string {
  return `${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`;
}

const UNPRINTABLE = /[\\\p{C}\p{Z}]/gu;
const ESCAPES = new Map([
  ['\\', '\\\\'],
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
  [' ', ' '],
]);

/** A quoted text: in single quotes, unless it has single and no double quotes. */
export function quoted(text: string): string {
  spendText(text.length, 4);
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const inside = text.replace(UNPRINTABLE, (character) => ESCAPES.get(character) ?? escaped(character));
  return `${quote}${quote === "'" ? inside.replaceAll("'", "\\'") : inside}${quote}`;
}

/** Also escapes all non-ASCII characters, like Python's `ascii`. */
export function asciiOnly(text: string): string {
  spendText(text.length, 4);
  return text.replace(/[^\0-\x7f]/gu, escaped);
}

function escaped(character: string): string {
  spend(4);
  const code = character.codePointAt(0)!;
  const [letter, width] = code < 0x100 ? ['x', 2] : code < 0x10000 ? ['u', 4] : ['U', 8];
  return `\\${letter}${code.toString(16).padStart(width as number, '0')}`;
}
