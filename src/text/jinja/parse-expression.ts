/** The parser of expressions by Jinja's grammar, from the weakest binding on. */
import type { BinaryOperator } from './arithmetic.js';
import { TemplateError } from './errors.js';
import type { Token, TokenKind } from './lexer.js';
import type { CallArguments, ComparisonOperator, Expression } from './syntax.js';

/** The deepest nesting of expressions and blocks, as in Python. */
const DEEPEST = 200;

const COMPARISONS: ReadonlySet<unknown> = new Set(['==', '!=', '<', '<=', '>', '>=']);
const NOTHING: Expression = { kind: 'constant', value: null };

/** A recursive descent parser. */
export class ExpressionParser {
  #at = 0;
  #depth = 0;
  /** Every name that an expression has looked up so far. */
  protected readonly names: string[] = [];

  constructor(private readonly tokens: readonly Token[]) {}

  protected get current(): Token {
    return this.tokens[this.#at]!;
  }

  protected get following(): Token {
    return this.tokens[Math.min(this.#at + 1, this.tokens.length - 1)]!;
  }

  protected advance(): Token {
    const token = this.current;
    if (token.kind !== 'end') this.#at++;
    return token;
  }

  protected fail(message: string): TemplateError {
    return new TemplateError('syntax', `line ${this.current.line}: ${message}`);
  }

  protected isOperator(sign: string): boolean {
    return this.current.kind === 'operator' && this.current.value === sign;
  }

  protected isName(...names: readonly string[]): boolean {
    return this.current.kind === 'name' && names.includes(this.current.value as string);
  }

  protected skipOperator(sign: string): boolean {
    const found = this.isOperator(sign);
    if (found) this.advance();
    return found;
  }

  protected skipName(name: string): boolean {
    const found = this.isName(name);
    if (found) this.advance();
    return found;
  }

  protected expectOperator(sign: string): void {
    if (!this.skipOperator(sign)) throw this.fail(`expected token '${sign}', got ${this.#described()}`);
  }

  protected expect(kind: TokenKind): Token {
    if (this.current.kind !== kind) throw this.fail(`expected ${wording(kind)}, got ${this.#described()}`);
    return this.advance();
  }

  protected expectName(): string {
    return this.expect('name').value as string;
  }

  #described(): string {
    const { kind, value } = this.current;
    return kind === 'operator' || kind === 'name' ? `'${value}'` : wording(kind);
  }

  /** Parses a recursive construct, with a limit of the depth. */
  protected deeper<T>(parse: () => T): T {
    if (this.#depth >= DEEPEST) throw this.fail(`nested more than ${DEEPEST} deep`);
    this.#depth++;
    const parsed = parse();
    this.#depth--;
    return parsed;
  }

  /** One expression; without conditions where `if` means something else. */
  protected expression(withCondition = true): Expression {
    return this.deeper(() => (withCondition ? this.#condition() : this.#or()));
  }

  /** One expression, or several with commas between them, which are a tuple. */
  protected tuple(withCondition = true, isEnd: () => boolean = () => false, isBracketed = false): Expression {
    const items: Expression[] = [];
    let isTuple = false;
    const ends = (): boolean =>
      this.current.kind === 'variable_end' ||
      this.current.kind === 'block_end' ||
      this.isOperator(')') ||
      isEnd();
    while (!ends()) {
      items.push(this.expression(withCondition));
      if (!this.skipOperator(',')) break;
      isTuple = true;
    }
    if (isTuple) return { kind: 'tuple', items };
    if (items.length > 0) return items[0]!;
    if (isBracketed) return { kind: 'tuple', items };
    throw this.fail(`Expected an expression, got ${this.#described()}`);
  }

  #condition(): Expression {
    let yes = this.#or();
    while (this.skipName('if')) {
      const test = this.#or();
      const no = this.skipName('else') ? this.deeper(() => this.#condition()) : undefined;
      yes = { kind: 'condition', test, yes, no };
    }
    return yes;
  }

  #or(): Expression {
    let left = this.#and();
    while (this.skipName('or')) left = { kind: 'or', left, right: this.#and() };
    return left;
  }

  #and(): Expression {
    let left = this.#not();
    while (this.skipName('and')) left = { kind: 'and', left, right: this.#not() };
    return left;
  }

  #not(): Expression {
    return this.skipName('not') ? { kind: 'not', value: this.deeper(() => this.#not()) } : this.#comparison();
  }

  #comparison(): Expression {
    const first = this.#sum();
    const others: (readonly [ComparisonOperator, Expression])[] = [];
    for (;;) {
      const { kind, value } = this.current;
      if (kind === 'operator' && COMPARISONS.has(value)) {
        this.advance();
        others.push([value as ComparisonOperator, this.#sum()]);
      } else if (this.skipName('in')) {
        others.push(['in', this.#sum()]);
      } else if (this.isName('not') && this.following.kind === 'name' && this.following.value === 'in') {
        this.advance();
        this.advance();
        others.push(['not in', this.#sum()]);
      } else break;
    }
    return others.length === 0 ? first : { kind: 'comparison', first, others };
  }

  #binary(operators: readonly BinaryOperator[], operand: () => Expression): Expression {
    let left = operand();
    for (;;) {
      const operator = operators.find((sign) => this.isOperator(sign));
      if (operator === undefined) return left;
      this.advance();
      left = { kind: 'binary', operator, left, right: operand() };
    }
  }

  #sum(): Expression {
    return this.#binary(['+', '-'], () => this.#concat());
  }

  #concat(): Expression {
    const items = [this.#product()];
    while (this.skipOperator('~')) items.push(this.#product());
    return items.length === 1 ? items[0]! : { kind: 'concat', items };
  }

  #product(): Expression {
    return this.#binary(['*', '/', '//', '%'], () => this.#power());
  }

  #power(): Expression {
    return this.#binary(['**'], () => this.#unary());
  }

  /** Filters and tests apply to a number with its sign, not to the number after the sign. */
  #unary(withFilters = true): Expression {
    let value: Expression;
    if (this.skipOperator('-')) value = { kind: 'negative', value: this.deeper(() => this.#unary(false)) };
    else if (this.skipOperator('+'))
      value = { kind: 'positive', value: this.deeper(() => this.#unary(false)) };
    else value = this.#primary();
    value = this.#postfix(value);
    return withFilters ? this.#filtersAndTests(value) : value;
  }

  #primary(): Expression {
    const { kind, value } = this.current;
    if (kind === 'name') {
      this.advance();
      const name = value as string;
      if (/^(?:[Tt]rue|[Ff]alse)$/.test(name))
        return { kind: 'constant', value: name.toLowerCase() === 'true' };
      if (name === 'none' || name === 'None') return NOTHING;
      this.names.push(name);
      return { kind: 'name', name };
    }
    if (kind === 'string') {
      let text = '';
      while (this.current.kind === 'string') text += this.advance().value as string;
      return { kind: 'constant', value: text };
    }
    if (kind === 'integer' || kind === 'float') return { kind: 'constant', value: this.advance().value };
    if (this.skipOperator('(')) {
      const inside = this.deeper(() => this.tuple(true, undefined, true));
      this.expectOperator(')');
      return inside;
    }
    if (this.skipOperator('[')) return { kind: 'list', items: this.#items(']', () => this.expression()) };
    if (this.skipOperator('{')) {
      const entry = (): readonly [Expression, Expression] => {
        const key = this.expression();
        this.expectOperator(':');
        return [key, this.expression()];
      };
      return { kind: 'dict', entries: this.#items('}', entry) };
    }
    throw this.fail(`unexpected ${this.#described()}`);
  }

  /** Comma-separated items up to a bracket, with an optional trailing comma. */
  #items<T>(end: string, parse: () => T): T[] {
    const items: T[] = [];
    while (!this.isOperator(end)) {
      items.push(parse());
      if (!this.skipOperator(',')) break;
    }
    this.expectOperator(end);
    return items;
  }

  #postfix(start: Expression): Expression {
    let value = start;
    for (;;) {
      if (this.skipOperator('.')) value = this.#attribute(value);
      else if (this.skipOperator('[')) value = this.#subscript(value);
      else if (this.isOperator('(')) value = { kind: 'call', callee: value, given: this.#arguments() };
      else return value;
    }
  }

  #attribute(from: Expression): Expression {
    if (this.current.kind === 'integer') {
      return { kind: 'item', from, key: { kind: 'constant', value: this.advance().value } };
    }
    return { kind: 'attribute', from, name: this.expectName() };
  }

  #subscript(from: Expression): Expression {
    const parts: Expression[] = [];
    const part = (): Expression =>
      this.isOperator(':') || this.isOperator(']') ? NOTHING : this.expression();
    const isEmpty = this.isOperator(']');
    parts.push(part());
    while (parts.length < 3 && this.skipOperator(':')) parts.push(part());
    if (parts.length > 1) {
      this.expectOperator(']');
      const [start, stop, step = NOTHING] = parts as [Expression, Expression, Expression?];
      return { kind: 'slice', from, start, stop, step };
    }
    if (isEmpty || this.skipOperator(',')) {
      const items = isEmpty ? [] : [parts[0]!, ...this.#items(']', () => this.expression())];
      if (isEmpty) this.expectOperator(']');
      return { kind: 'item', from, key: { kind: 'tuple', items } };
    }
    this.expectOperator(']');
    return { kind: 'item', from, key: parts[0]! };
  }

  #arguments(): CallArguments {
    const positional: Expression[] = [];
    const named: (readonly [string, Expression])[] = [];
    let rest: Expression | undefined;
    let restNamed: Expression | undefined;
    const check = (isValid: boolean): void => {
      if (!isValid) throw this.fail('invalid syntax for function call expression');
    };
    this.expectOperator('(');
    this.#items(')', () => {
      check(restNamed === undefined);
      if (this.skipOperator('*')) {
        check(rest === undefined);
        rest = this.expression();
      } else if (this.skipOperator('**')) restNamed = this.expression();
      else if (this.current.kind === 'name' && isSign(this.following, '=')) {
        const name = this.expectName();
        this.expectOperator('=');
        named.push([name, this.expression()]);
      } else {
        check(rest === undefined && named.length === 0);
        positional.push(this.expression());
      }
    });
    return { positional, named, ...(rest && { rest }), ...(restNamed && { restNamed }) };
  }

  #filtersAndTests(start: Expression): Expression {
    let value = start;
    for (;;) {
      if (this.isOperator('|')) value = this.filters(value)!;
      else if (this.skipName('is')) value = this.#test(value);
      else if (this.isOperator('(')) value = { kind: 'call', callee: value, given: this.#arguments() };
      else return value;
    }
  }

  /** Any number of `| name(...)`; without a value for the filters of a block. */
  protected filters(start: Expression | undefined, startsInside = false): Expression | undefined {
    let value = start;
    for (let isFirst = startsInside; isFirst || this.skipOperator('|'); isFirst = false) {
      const name = this.#dottedName();
      const given = this.isOperator('(') ? this.#arguments() : { positional: [], named: [] };
      value = { kind: 'filter', ...(value && { value }), name, given };
    }
    return value;
  }

  #dottedName(): string {
    let name = this.expectName();
    while (this.skipOperator('.')) name += `.${this.expectName()}`;
    return name;
  }

  #test(value: Expression): Expression {
    const isNegated = this.skipName('not');
    const name = this.#dottedName();
    let given: CallArguments = { positional: [], named: [] };
    if (this.isOperator('(')) given = this.#arguments();
    else if (this.#startsArgument()) {
      if (this.isName('is')) throw this.fail('You cannot chain multiple tests with is');
      given = { positional: [this.#postfix(this.#primary())], named: [] };
    }
    const test: Expression = { kind: 'test', value, name, given };
    return isNegated ? { kind: 'not', value: test } : test;
  }

  /** Whether the next token starts a test's argument without brackets. */
  #startsArgument(): boolean {
    const { kind } = this.current;
    if (kind === 'name') return !this.isName('else', 'or', 'and');
    return (
      kind === 'string' ||
      kind === 'integer' ||
      kind === 'float' ||
      this.isOperator('[') ||
      this.isOperator('{')
    );
  }
}

const isSign = (token: Token, sign: string): boolean => token.kind === 'operator' && token.value === sign;

const wording = (kind: TokenKind): string =>
  ({
    end: 'end of template',
    block_end: "'%}'",
    variable_end: "'}}'",
    block_begin: "'{%'",
    variable_begin: "'{{'",
  })[kind as 'end'] ?? `a ${kind}`;
