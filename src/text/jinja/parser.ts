/** The parser of statements, by Jinja's grammar with the additions of `transformers`: `break`, `continue` and `generation`. */
import { tokenize } from './lexer.js';
import { ExpressionParser } from './parse-expression.js';
import type { Expression, Loop, MacroDefinition, Parameter, Statement, Target } from './syntax.js';

/** Parses a template. Throws `TemplateError`, which names the line, for a syntax error. */
export function parseTemplate(source: string): readonly Statement[] {
  return new Parser(tokenize(source)).template();
}

class Parser extends ExpressionParser {
  readonly #statements: ReadonlyMap<string, () => Statement> = new Map<string, () => Statement>([
    ['for', () => ({ kind: 'for', loop: this.#loop() })],
    ['if', () => this.#if()],
    ['set', () => this.#set()],
    ['with', () => this.#with()],
    ['macro', () => ({ kind: 'macro', macro: this.#macro() })],
    ['call', () => this.#callBlock()],
    ['filter', () => this.#filterBlock()],
    ['print', () => this.#print()],
    ['break', () => ({ kind: 'break' })],
    ['continue', () => ({ kind: 'continue' })],
    ['block', () => this.#block()],
    ['generation', () => ({ kind: 'scope', body: this.#body('endgeneration'), seesLoops: true })],
    ['autoescape', () => this.#autoescape()],
    ...['extends', 'include', 'import', 'from'].map((tag) => [tag, () => this.#otherTemplate(tag)] as const),
  ]);

  template(): readonly Statement[] {
    const body = this.#until([]);
    if (this.current.kind !== 'end') throw this.fail('unexpected end of a block');
    return body;
  }

  /** Statements up to one of these tags, whose name is then the current token. */
  #until(tags: readonly string[]): Statement[] {
    const body: Statement[] = [];
    for (;;) {
      const token = this.current;
      if (token.kind === 'end') {
        if (tags.length === 0) return body;
        throw this.fail(
          `Unexpected end of template. Looking for ${tags.map((tag) => `'${tag}'`).join(' or ')}.`,
        );
      }
      this.advance();
      if (token.kind === 'data') body.push({ kind: 'text', text: token.value as string });
      else if (token.kind === 'variable_begin') {
        body.push({ kind: 'print', value: this.tuple() });
        this.expect('variable_end');
      } else {
        if (this.isName(...tags)) return body;
        body.push(this.deeper(() => this.#statement()));
        this.expect('block_end');
      }
    }
  }

  /** The statements between the end of this tag and the closing tag, which is consumed. */
  #body(...tags: readonly string[]): Statement[] {
    this.skipOperator(':');
    this.expect('block_end');
    const body = this.#until(tags);
    if (tags.length === 1) this.advance();
    return body;
  }

  #statement(): Statement {
    if (this.current.kind !== 'name') throw this.fail('tag name expected');
    const name = this.current.value as string;
    const parse = this.#statements.get(name);
    if (!parse) throw this.fail(`Encountered unknown tag '${name}'.`);
    this.advance();
    return parse();
  }

  #loop(): Loop {
    const target = this.#target(false, () => this.isName('in'));
    if (!this.skipName('in')) throw this.fail("expected 'in'");
    const over = this.tuple(false, () => this.isName('recursive'));
    const only = this.skipName('if') ? this.expression() : undefined;
    const isRecursive = this.skipName('recursive');
    const body = this.#body('endfor', 'else');
    const otherwise = this.advance().value === 'else' ? this.#body('endfor') : [];
    return { target, over, only, isRecursive, body, otherwise };
  }

  #if(): Statement {
    const branches: (readonly [Expression, Statement[]])[] = [];
    for (;;) {
      branches.push([this.tuple(false), this.#body('elif', 'else', 'endif')]);
      const tag = this.advance().value;
      if (tag === 'elif') continue;
      return { kind: 'if', branches, otherwise: tag === 'else' ? this.#body('endif') : [] };
    }
  }

  #set(): Statement {
    const target = this.#target(true);
    if (this.skipOperator('=')) return { kind: 'set', target, value: this.tuple() };
    const filter = this.filters(undefined);
    return { kind: 'set block', target, filter, body: this.#body('endset') };
  }

  #with(): Statement {
    const assignments: (readonly [Target, Expression])[] = [];
    while (this.current.kind !== 'block_end') {
      if (assignments.length > 0) this.expectOperator(',');
      const target = this.#target(false);
      this.expectOperator('=');
      assignments.push([target, this.expression()]);
    }
    return { kind: 'with', assignments, body: this.#body('endwith') };
  }

  /** A name, or several with commas between them, in brackets or not; a namespace's member where `set` assigns to it. */
  #target(withMembers: boolean, isEnd: () => boolean = () => false): Target {
    const items: Target[] = [];
    let isTuple = false;
    const ends = (): boolean =>
      this.isOperator(')') || this.isOperator('=') || this.current.kind === 'block_end' || isEnd();
    do {
      if (items.length > 0 && ends()) break;
      items.push(this.#oneTarget(withMembers));
      if (!this.isOperator(',')) break;
      isTuple = true;
    } while (this.skipOperator(','));
    return isTuple ? { kind: 'tuple', items } : items[0]!;
  }

  #oneTarget(withMembers: boolean): Target {
    if (this.skipOperator('(')) {
      const target = this.deeper(() => this.#target(withMembers));
      this.expectOperator(')');
      return target;
    }
    const name = this.#assignable();
    if (!withMembers || !this.skipOperator('.')) return { kind: 'name', name };
    this.names.push(name);
    return { kind: 'member', namespace: name, name: this.expectName() };
  }

  #assignable(): string {
    if (this.isName('true', 'false', 'none', 'True', 'False', 'None')) {
      throw this.fail(`can't assign to '${this.current.value}'`);
    }
    return this.expectName();
  }

  #macro(): MacroDefinition {
    const name = this.#assignable();
    return this.#definition(name, this.#parameters(), 'endmacro');
  }

  #definition(name: string, parameters: readonly Parameter[], end: string): MacroDefinition {
    const before = this.names.length;
    const body = this.#body(end);
    const used = new Set(this.names.slice(before));
    const takes = { caller: used.has('caller'), varargs: used.has('varargs'), kwargs: used.has('kwargs') };
    return { name, parameters, body, takes };
  }

  #parameters(): Parameter[] {
    const parameters: Parameter[] = [];
    this.expectOperator('(');
    while (!this.isOperator(')')) {
      if (parameters.length > 0) this.expectOperator(',');
      const name = this.#assignable();
      const usual = this.skipOperator('=') ? this.expression() : undefined;
      if (!usual && parameters.at(-1)?.usual)
        throw this.fail('non-default argument follows default argument');
      parameters.push({ name, usual });
    }
    this.expectOperator(')');
    return parameters;
  }

  #callBlock(): Statement {
    const parameters = this.isOperator('(') ? this.#parameters() : [];
    const call = this.expression();
    if (call.kind !== 'call') throw this.fail('expected call');
    return { kind: 'call block', call, caller: this.#definition('caller', parameters, 'endcall') };
  }

  #filterBlock(): Statement {
    const filter = this.filters(undefined, true)!;
    return { kind: 'filter block', filter, body: this.#body('endfilter') };
  }

  #print(): Statement {
    const items: Expression[] = [];
    while (this.current.kind !== 'block_end') {
      if (items.length > 0) this.expectOperator(',');
      items.push(this.expression());
    }
    return { kind: 'print', value: { kind: 'concat', items } };
  }

  #block(): Statement {
    const name = this.expectName();
    const seesLoops = this.skipName('scoped');
    this.skipName('required');
    const body = this.#body('endblock');
    this.skipName(name);
    return { kind: 'scope', body, seesLoops };
  }

  /** Chat templates do not produce HTML. */
  #autoescape(): Statement {
    const value = this.expression();
    if (value.kind === 'constant' && value.value === false) {
      return { kind: 'scope', body: this.#body('endautoescape'), seesLoops: true };
    }
    throw this.fail('only autoescape false is known here');
  }

  #otherTemplate(tag: string): never {
    throw this.fail(`'${tag}' needs another template, and a chat template stands alone`);
  }
}
