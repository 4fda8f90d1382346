/**
 * Tokens of a template, with white space removed as in Jinja with `trim_blocks` and `lstrip_blocks`, the settings of
 * `transformers`: the line end after a block is removed, and so are the blanks between the start of a line and a block.
 * All line ends become \n, and one at the template's end is removed. The scan takes linear time.
 */
import { bounded } from './arithmetic.js';
import { BLANKS, isBlank } from './characters.js';
import { TemplateError } from './errors.js';

/** The kinds of tokens; `data` is text outside of tags. */
export type TokenKind =
  | 'data'
  | 'block_begin'
  | 'block_end'
  | 'variable_begin'
  | 'variable_end'
  | 'name'
  | 'string'
  | 'integer'
  | 'float'
  | 'operator'
  | 'end';

/** A token of a template, with the line where it begins, from 1 on. */
export interface Token {
  readonly kind: TokenKind;
  /** The text, the name, the operator's sign, or the number. */
  readonly value: string | bigint | number;
  readonly line: number;
}

const WHITE_SPACE = new RegExp(`${BLANKS}+`, 'y');
const FLOAT = /(?<!\.)(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)/iy;
const INTEGER = /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy;
const NAME = /[\p{ID_Start}_]\p{ID_Continue}*/uy;
const STRING = /'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*"/sy;
const OPERATOR = /\*\*|\/\/|==|!=|>=|<=|[-+/*%~[\](){}<>=.:|,;]/y;
const BLOCK_END = new RegExp(`\\+%\\}|-%\\}${BLANKS}*|%\\}\\n?`, 'y');
const VARIABLE_END = new RegExp(`-\\}\\}${BLANKS}*|\\}\\}`, 'y');
const COMMENT_END = new RegExp(`\\+#\\}|-#\\}${BLANKS}*|#\\}\\n?`, 'g');
const RAW_BEGIN = new RegExp(`\\{%[-+]?${BLANKS}*raw${BLANKS}*(?:-%\\}${BLANKS}*|%\\})`, 'y');
const RAW_END = new RegExp(`\\{%([-+]?)${BLANKS}*endraw${BLANKS}*(?:\\+%\\}|-%\\}${BLANKS}*|%\\}\\n?)`, 'g');
const TAG = /\{([{%#])([-+]?)/g;
const CLOSING: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };

/** Splits a template into tokens. Throws `TemplateError` for an invalid template. */
export function tokenize(template: string): Token[] {
  return new Lexer(template.replace(/\r\n?/g, '\n').replace(/\n$/, '')).tokens();
}

class Lexer {
  readonly #tokens: Token[] = [];
  #at = 0;
  #line = 1;
  /** The position up to which lines have been counted. */
  #counted = 0;
  /** Whether the last token ended a line. */
  #startsLine = true;

  constructor(private readonly source: string) {}

  tokens(): Token[] {
    while (this.#at < this.source.length) {
      TAG.lastIndex = this.#at;
      const tag = TAG.exec(this.source);
      if (!tag) {
        this.#data(this.source.slice(this.#at), '+');
        this.#at = this.source.length;
        break;
      }
      const [begin, kind, sign] = tag as unknown as [string, string, string];
      const text = this.source.slice(this.#at, tag.index);
      this.#at = tag.index;
      const raw = kind === '%' ? this.#match(RAW_BEGIN) : undefined;
      this.#data(text, kind === '{' && sign !== '-' ? '+' : sign);
      if (raw !== undefined) {
        this.#take(raw);
        this.#raw();
      } else {
        this.#take(begin);
        if (kind === '#') this.#comment();
        else this.#tag(kind === '%' ? 'block' : 'variable');
      }
    }
    this.#push('end', '');
    return this.#tokens;
  }

  #push(kind: TokenKind, value: Token['value']): void {
    this.#tokens.push({ kind, value, line: this.#lineHere() });
  }

  #lineHere(): number {
    for (; this.#counted < this.#at; this.#counted++) if (this.source[this.#counted] === '\n') this.#line++;
    return this.#line;
  }

  #fail(message: string): TemplateError {
    return new TemplateError('syntax', `line ${this.#lineHere()}: ${message}`);
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    return pattern.exec(this.source)?.[0];
  }

  #take(text: string): void {
    this.#at += text.length;
    this.#startsLine = text.endsWith('\n');
  }

  /** Text before a tag whose sign is `-`, `+` or nothing. */
  #data(text: string, sign: string): void {
    let end = text.length;
    if (sign === '-') {
      while (end > 0 && isBlank(text[end - 1]!)) end--;
    } else if (sign === '') {
      let start = end;
      while (start > 0 && text[start - 1] !== '\n' && isBlank(text[start - 1]!)) start--;
      if (start > 0 ? text[start - 1] === '\n' : this.#startsLine) end = start;
    }
    if (end > 0) this.#push('data', text.slice(0, end));
  }

  #comment(): void {
    COMMENT_END.lastIndex = this.#at;
    const end = COMMENT_END.exec(this.source);
    if (!end) throw this.#fail('Missing end of comment tag');
    this.#at = end.index;
    this.#take(end[0]);
  }

  #raw(): void {
    RAW_END.lastIndex = this.#at;
    const end = RAW_END.exec(this.source);
    if (!end) throw this.#fail('Missing end of raw directive');
    this.#data(this.source.slice(this.#at, end.index), end[1]!);
    this.#at = end.index;
    this.#take(end[0]);
  }

  #tag(kind: 'block' | 'variable'): void {
    const ending = kind === 'block' ? BLOCK_END : VARIABLE_END;
    // The open brackets, inside which a tag cannot end.
    const open: string[] = [];
    this.#push(`${kind}_begin`, '');
    for (;;) {
      if (this.#at >= this.source.length) return;
      const end = open.length === 0 ? this.#match(ending) : undefined;
      if (end !== undefined) {
        this.#push(`${kind}_end`, '');
        this.#take(end);
        return;
      }
      this.#expressionToken(open);
    }
  }

  #expressionToken(open: string[]): void {
    const blank = this.#match(WHITE_SPACE);
    if (blank !== undefined) {
      this.#take(blank);
      return;
    }
    for (const [kind, pattern] of EXPRESSION_TOKENS) {
      const text = this.#match(pattern);
      if (text === undefined) continue;
      if (kind === 'operator') this.#balance(text, open);
      this.#push(kind, this.#valueOf(kind, text));
      this.#take(text);
      return;
    }
    throw this.#fail(`unexpected char ${JSON.stringify(this.source[this.#at])}`);
  }

  #balance(sign: string, open: string[]): void {
    if (Object.hasOwn(CLOSING, sign)) open.push(CLOSING[sign]!);
    else if (sign === ')' || sign === ']' || sign === '}') {
      const expected = open.pop();
      if (expected === undefined) throw this.#fail(`unexpected '${sign}'`);
      if (expected !== sign) throw this.#fail(`unexpected '${sign}', expected '${expected}'`);
    }
  }

  #valueOf(kind: TokenKind, text: string): Token['value'] {
    if (kind === 'string') return this.#unescaped(text.slice(1, -1));
    if (kind === 'integer') return this.#integer(text.replaceAll('_', ''));
    return kind === 'float' ? Number(text.replaceAll('_', '')) : text;
  }

  #integer(text: string): bigint {
    if (text.length > 4300) throw this.#fail('an integer of more than 4300 digits');
    return bounded(BigInt(text));
  }

  #unescaped(text: string): string {
    if (!text.includes('\\')) return text;
    return text.replace(ESCAPE, (whole, octal, x, u, U, sign) => {
      if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8));
      const hex = x ?? u ?? U;
      if (hex !== undefined) {
        const code = Number.parseInt(hex, 16);
        if (code > 0x10ffff) throw this.#fail('illegal Unicode character in a text');
        return String.fromCodePoint(code);
      }
      if (/[xuUN]/.test(sign)) throw this.#fail(`the escape ${whole} in a text is cut off or not known`);
      return ESCAPES.get(sign) ?? whole;
    });
  }
}

const EXPRESSION_TOKENS: readonly (readonly [TokenKind, RegExp])[] = [
  ['float', FLOAT],
  ['integer', INTEGER],
  ['name', NAME],
  ['string', STRING],
  ['operator', OPERATOR],
];

// The letters of escapes are case-sensitive; hexadecimal digits are not.
const ESCAPE = /\\(?:([0-7]{1,3})|x([\dA-Fa-f]{2})|u([\dA-Fa-f]{4})|U([\dA-Fa-f]{8})|(.))/gs;

const ESCAPES = new Map([
  ['\n', ''],
  ['\\', '\\'],
  ["'", "'"],
  ['"', '"'],
  ['a', '\x07'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
  ['v', '\v'],
]);
