/**
 * Lossless JSON parsing. `JSON.parse` turns 1.0 into 1, rounds integers beyond 2^53, and moves keys that look like numbers to the front, so a prompt
 * rendered from its values differs from what a model generated or was trained on.
 */

/**
 * A JSON value: an integer is a bigint, a number with a point or an exponent is a number, an object is a map in the order
 * of its keys. It can be sent to a worker as it is.
 */
export type ExactJson =
  | null
  | boolean
  | string
  | bigint
  | number
  | readonly ExactJson[]
  | ReadonlyMap<string, ExactJson>;

/** The most digits of an integer, as in Python. */
const MOST_DIGITS = 4300;

/** The deepest nesting. */
const DEEPEST = 200;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?/y;
const WORD = /true|false|null/y;
const WORDS: Readonly<Record<string, ExactJson>> = { true: true, false: false, null: null };

/**
 * Parses a JSON text. The last of duplicate keys is used.
 *
 * @throws SyntaxError for a text that is not JSON, nested more than 200 deep, or with an integer of more than 4,300 digits
 */
export function readExactJson(text: string): ExactJson {
  let at = 0;
  const taken = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0];
    at += found?.length ?? 0;
    return found;
  };
  const wrong = (): SyntaxError => {
    const found = at < text.length ? JSON.stringify(text[at]) : 'its end';
    return new SyntaxError(`not JSON: unexpected ${found} at character ${at}`);
  };
  const skipBlanks = (): void => {
    while (isBlank(text.charCodeAt(at))) at++;
  };
  const skipTo = (sign: string): boolean => {
    skipBlanks();
    if (text[at] !== sign) return false;
    at++;
    return true;
  };
  const string = (): string => {
    if (text[at] !== '"') throw wrong();
    const start = at;
    let isPlain = true;
    for (at++; ; at++) {
      const code = text.charCodeAt(at);
      if (code === QUOTE) break;
      // After the end of the text it is NaN.
      if (!(code >= 0x20)) throw wrong();
      if (code !== BACKSLASH) continue;
      isPlain = false;
      at++;
    }
    at++;
    if (isPlain) return text.slice(start + 1, at - 1);
    try {
      return JSON.parse(text.slice(start, at)) as string;
    } catch {
      at = start;
      throw wrong();
    }
  };
  const value = (depth: number): ExactJson => {
    if (depth > DEEPEST) throw new SyntaxError(`nested more than ${DEEPEST} deep`);
    skipBlanks();
    const sign = text[at];
    if (sign === '"') return string();
    if (sign === '{') return object(depth);
    if (sign === '[') return list(depth);
    const number = taken(NUMBER);
    if (number !== undefined) return numberOf(number);
    const word = taken(WORD);
    if (word === undefined) throw wrong();
    return WORDS[word]!;
  };
  const list = (depth: number): ExactJson[] => {
    at++;
    const items: ExactJson[] = [];
    if (skipTo(']')) return items;
    do items.push(value(depth + 1));
    while (skipTo(','));
    if (!skipTo(']')) throw wrong();
    return items;
  };
  const object = (depth: number): Map<string, ExactJson> => {
    at++;
    const entries = new Map<string, ExactJson>();
    if (skipTo('}')) return entries;
    do {
      skipBlanks();
      const key = string();
      if (!skipTo(':')) throw wrong();
      entries.set(key, value(depth + 1));
    } while (skipTo(','));
    if (!skipTo('}')) throw wrong();
    return entries;
  };
  const all = value(0);
  skipBlanks();
  if (at < text.length) throw wrong();
  return all;
}

function numberOf(text: string): bigint | number {
  if (/[.eE]/.test(text)) return Number(text);
  if (text.length > MOST_DIGITS) throw new SyntaxError(`an integer of more than ${MOST_DIGITS} digits`);
  return BigInt(text);
}

const isBlank = (code: number): boolean => code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
