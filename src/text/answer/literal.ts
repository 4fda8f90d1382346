/**
 * Converts values as models write them to JSON text. Valid JSON is unchanged, byte for byte: `1.0`, a number of 20 digits, the order of
 * keys, the white space. Python literals (`None`, `'text'`, a tuple) and the most common mistakes of models (a raw line break in a
 * string, a trailing comma, an unknown escape) are converted to the intended JSON.
 */
import type { Characters, Parser } from './characters.js';

/** 'broken' at a character that no value has, after closing the open brackets; 'cut' at the end of the text. */
export type LiteralEnd = 'whole' | 'broken' | 'cut';

const CLOSERS: Readonly<Record<string, string>> = { '{': '}', '[': ']', '(': ')' };
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
const WORDS: Readonly<Record<string, string>> = {
  true: 'true',
  false: 'false',
  null: 'null',
  True: 'true',
  False: 'false',
  None: 'null',
  // JSON cannot represent these.
  NaN: 'null',
  nan: 'null',
  Infinity: 'null',
  '-Infinity': 'null',
  inf: 'null',
};

/**
 * Reads one value and emits its JSON in pieces. `marks` are texts, such as `</tool_call>`, that end a value unless they are in a
 * string.
 */
export function* literal(
  chars: Characters,
  emit: (json: string) => void,
  marks: readonly string[] = [],
): Parser<LiteralEnd> {
  const closers: string[] = [];
  /** A held-back comma with the white space after it, since JSON has no trailing commas. */
  let comma: { space: string } | undefined;
  const say = (json: string): void => {
    if (comma) emit(`,${comma.space}`);
    comma = undefined;
    emit(json);
  };
  const close = (): string => (closers.pop() === '}' ? '}' : ']');
  const broken = (): LiteralEnd => {
    comma = undefined;
    while (closers.length > 0) emit(close());
    return 'broken';
  };
  for (;;) {
    const next = yield* chars.peek();
    if (next === undefined) return 'cut';
    if (/\s/.test(next)) {
      if (closers.length === 0) return broken();
      chars.take();
      if (comma) comma.space += next;
      else emit(next);
    } else if (next === '"' || next === "'") {
      if ((yield* string(chars, say, marks, false)) === 'cut') return 'cut';
      if (closers.length === 0) return 'whole';
    } else if (Object.hasOwn(CLOSERS, next)) {
      chars.take();
      closers.push(CLOSERS[next]!);
      say(next === '{' ? '{' : '[');
    } else if (closers.includes(next)) {
      chars.take();
      if (comma) emit(comma.space);
      comma = undefined;
      // Open inner brackets are closed with it.
      for (let closed = ''; closed !== next; ) {
        closed = closers.at(-1)!;
        emit(close());
      }
      if (closers.length === 0) return 'whole';
    } else if (next === ',' && closers.length > 0) {
      chars.take();
      comma = { space: '' };
    } else if (next === ':' && closers.length > 0) {
      say(chars.take());
    } else if (/[\w.+-]/.test(next)) {
      const word = yield* wordOf(chars);
      const quote = yield* chars.peek();
      if ((quote === '"' || quote === "'") && /^[rbfu]{1,2}$/i.test(word)) {
        if ((yield* string(chars, say, marks, /r/i.test(word))) === 'cut') return 'cut';
      } else {
        // A number at the end of the text may be incomplete.
        say(quote === undefined ? word : jsonOf(word));
        if (quote === undefined) return 'cut';
      }
      if (closers.length === 0) return 'whole';
    } else return broken();
  }
}

/** Converts a complete value; undefined if it is invalid. */
export function* wholeLiteral(chars: Characters, marks: readonly string[] = []): Parser<string | undefined> {
  let json = '';
  const end = yield* literal(
    chars,
    (piece) => {
      json += piece;
    },
    marks,
  );
  return end === 'whole' ? json : undefined;
}

function* wordOf(chars: Characters): Parser<string> {
  let word = '';
  for (;;) {
    const next = yield* chars.peek();
    if (next === undefined || !/[\w.+-]/.test(next)) return word;
    word += chars.take();
  }
}

/** Converts a word outside of strings: a number is unchanged, a Python name is converted, any other word becomes a string. */
function jsonOf(word: string): string {
  if (NUMBER.test(word)) return word;
  if (Object.hasOwn(WORDS, word)) return WORDS[word]!;
  const plain = word
    .replace(/(?<=\d)_(?=\d)/g, '')
    .replace(/^\+/, '')
    .replace(/^(-?)\./, '$10.')
    .replace(/\.(?=$|[eE])/, '.0');
  if (NUMBER.test(plain)) return plain;
  if (/^0(?:x[\da-f]+|o[0-7]+|b[01]+)$/i.test(plain)) return String(BigInt(plain));
  return JSON.stringify(word);
}

function* string(
  chars: Characters,
  emit: (json: string) => void,
  marks: readonly string[],
  raw: boolean,
): Parser<'whole' | 'cut'> {
  const quote = (yield* chars.peek())!;
  const isTriple = yield* chars.startsWith(quote.repeat(3));
  const end = isTriple ? quote.repeat(3) : quote;
  chars.take(end.length);
  emit('"');
  for (;;) {
    const next = yield* chars.peek();
    if (next === undefined) return 'cut';
    if (next === quote && (yield* chars.startsWith(end)) && (yield* endsString(chars, end.length, marks))) {
      chars.take(end.length);
      emit('"');
      return 'whole';
    }
    if (next === '\\') {
      const written = yield* escapeOf(chars, raw);
      if (written === undefined) return 'cut';
      emit(written);
    } else if (next === '"') emit(`\\${chars.take()}`);
    // JSON strings cannot have raw control characters, but models write raw line breaks.
    else if (next < ' ') emit(JSON.stringify(chars.take()).slice(1, -1));
    else emit(chars.take() + chars.takeUntil(/["'\\\p{Cc}]/u));
  }
}

/**
 * Whether a quote ends its string: if a comma, a colon, a closing bracket or the end follows, as in JSON and Python. Before
 * anything else it is a quote that the model forgot to escape, as in `'it's'`.
 */
function* endsString(chars: Characters, length: number, marks: readonly string[]): Parser<boolean> {
  const after = length + (yield* chars.space(length));
  const next = yield* chars.peek(after);
  return next === undefined || /[,:)\]}\s]/.test(next) || (yield* chars.oneOf(marks, after)) !== undefined;
}

const PYTHON_ESCAPES: Readonly<Record<string, string>> = {
  "'": "'",
  '\n': '',
  a: '\\u0007',
  v: '\\u000b',
  '0': '\\u0000',
};

/** Converts an escape to JSON; undefined if the text ends in it. */
function* escapeOf(chars: Characters, raw: boolean): Parser<string | undefined> {
  const sign = yield* chars.peek(1);
  if (sign === undefined) return undefined;
  if (raw) {
    chars.take(2);
    return `\\\\${JSON.stringify(sign).slice(1, -1)}`;
  }
  const digits = sign === 'u' ? 4 : sign === 'x' ? 2 : sign === 'U' ? 8 : 0;
  if (digits > 0) {
    let hex = '';
    for (let i = 0; i < digits; i++) {
      const digit = yield* chars.peek(2 + i);
      if (digit === undefined) return undefined;
      hex += digit;
    }
    const point = /^[\da-f]+$/i.test(hex) ? Number.parseInt(hex, 16) : Number.NaN;
    if (point <= 0x10ffff) {
      const written = chars.take(2 + digits);
      return sign === 'u' ? written : JSON.stringify(String.fromCodePoint(point)).slice(1, -1);
    }
  }
  chars.take(2);
  if ('"\\/bfnrt'.includes(sign)) return `\\${sign}`;
  return PYTHON_ESCAPES[sign] ?? `\\\\${JSON.stringify(sign).slice(1, -1)}`;
}
