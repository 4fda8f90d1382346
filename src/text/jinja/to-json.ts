/** The filter `tojson` of `transformers`: Python's `json.dumps`, without the escapes for HTML. */
import { checkLength, nested, spend, spendText } from './budget.js';
import { joined, repeated } from './characters.js';
import { sorted } from './compare.js';
import { failed } from './errors.js';
import { floatText } from './literals.js';
import { Dict, integerOf, isList, reprOf, Tuple, typeOf, type Value } from './values.js';

/** The options of `tojson`, which are arguments of Python's `json.dumps`. */
export interface JsonStyle {
  /** Escapes all that is not ASCII. */
  readonly ascii: boolean;
  /** What each level is indented by; null for one line. */
  readonly indent: string | null;
  /** Between elements. */
  readonly comma: string;
  readonly colon: string;
  readonly sortKeys: boolean;
}

/** Throws for a value that JSON cannot represent, such as Undefined. */
export function jsonText(value: Value, style: JsonStyle, level = 0): string {
  spend();
  if (typeof value === 'string') return jsonString(value, style.ascii);
  if (value === null) return 'null';
  if (typeof value === 'number') return jsonFloat(value);
  if (typeof value === 'boolean') return String(value);
  if (typeof value === 'bigint') return reprOf(value);
  const inside = nested((): readonly [string, string[], string] => {
    if (isList(value) || value instanceof Tuple) {
      const items = isList(value) ? value : value.items;
      return ['[', items.map((item) => jsonText(item, style, level + 1)), ']'];
    }
    if (!(value instanceof Dict)) throw failed(`Object of type ${typeOf(value)} is not JSON serializable`);
    const entries = Array.from(value.entries());
    const ordered = style.sortKeys ? sorted(entries, ([key]) => key, false) : entries;
    return ['{', ordered.map((entry) => member(entry, style, level + 1)), '}'];
  });
  return block(inside, style, level);
}

function member([key, value]: readonly [Value, Value], style: JsonStyle, level: number): string {
  const name = jsonString(keyText(key), style.ascii);
  const text = jsonText(value, style, level);
  checkLength(name.length + text.length);
  return name + style.colon + text;
}

function block(
  [open, parts, close]: readonly [string, string[], string],
  style: JsonStyle,
  level: number,
): string {
  if (parts.length === 0) return open + close;
  if (style.indent === null) return open + joined(parts, style.comma) + close;
  const lineEnd = `\n${repeated(style.indent, level)}`;
  const start = lineEnd + style.indent;
  return open + start + joined(parts, style.comma + start) + lineEnd + close;
}

function keyText(key: Value): string {
  if (typeof key === 'string') return key;
  if (key === null || typeof key === 'boolean' || typeof key === 'bigint') return String(key);
  if (typeof key === 'number') return jsonFloat(key);
  throw failed(`keys must be str, int, float, bool or None, not ${typeOf(key)}`);
}

function jsonFloat(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  return Number.isFinite(value) ? floatText(value) : value > 0 ? 'Infinity' : '-Infinity';
}

const ESCAPES = new Map([
  ['"', '\\"'],
  ['\\', '\\\\'],
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
  ['\b', '\\b'],
  ['\f', '\\f'],
]);

function jsonString(text: string, ascii: boolean): string {
  spendText(text.length, 4);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what JSON escapes.
  const escaped = ascii ? /["\\\0-\x1f\x7f-\uffff]/g : /["\\\0-\x1f]/g;
  return `"${text.replace(escaped, escapeOf)}"`;
}

function escapeOf(sign: string): string {
  spend();
  return ESCAPES.get(sign) ?? `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** The style that the arguments of `tojson` ask for. */
export function jsonStyle(ascii: boolean, indent: Value, separators: Value, sortKeys: boolean): JsonStyle {
  const width = integerOf(indent);
  const step =
    typeof indent === 'string' ? indent : width === undefined ? null : repeated(' ', Number(width));
  const [comma, colon] = separators === null ? [step === null ? ', ' : ',', ': '] : pairOf(separators);
  return { ascii, indent: step, comma, colon, sortKeys };
}

function pairOf(value: Value): readonly [string, string] {
  const [comma, colon] = isList(value) ? value : value instanceof Tuple ? value.items : [];
  if (typeof comma === 'string' && typeof colon === 'string') return [comma, colon];
  throw failed('separators must be a pair of texts');
}
