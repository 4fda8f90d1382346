/** Reads the text of a StableHLO module: the part of the language that we print, and nothing else. */
import type { Element } from '../../lower/stablehlo/value.js';

/** The type of a value. */
export interface TensorType {
  readonly element: Element;
  readonly dims: readonly number[];
}

/** An argument of the function or of a region. */
export interface Argument {
  readonly id: string;
  readonly type: TensorType;
  /** What stands in braces behind it. */
  readonly attributes: string;
}

/** Attributes of an instruction: lists of numbers, numbers, words. */
export type Attributes = Readonly<Record<string, readonly number[] | number | string>>;

/** One instruction of a region. */
export interface Instruction {
  readonly name: string;
  /** The names of its results: `%3`, or `%3#0` and `%3#1`. */
  readonly results: readonly string[];
  readonly operands: readonly string[];
  readonly operandTypes: readonly TensorType[];
  readonly resultTypes: readonly TensorType[];
  readonly attributes: Attributes;
  readonly regions: readonly Region[];
  /** Of a constant. */
  readonly literal?: readonly number[];
}

/** The body of the function or of an instruction. */
export interface Region {
  readonly arguments: readonly Argument[];
  readonly instructions: readonly Instruction[];
  readonly returns: readonly string[];
  readonly returnTypes: readonly TensorType[];
}

/** A module with one function. */
export interface Module {
  readonly body: Region;
  readonly resultTypes: readonly TensorType[];
  /** What stands in braces behind the results' types. */
  readonly resultAttributes: readonly string[];
}

const UNARY = new Set(
  'abs negate exponential log sqrt rsqrt sine cosine tanh logistic log_plus_one exponential_minus_one not'.split(
    ' ',
  ),
);
const BINARY = new Set(
  'add subtract multiply divide power maximum minimum and or xor shift_right_logical remainder'.split(' '),
);
const ELEMENTS = new Set<string>(['f32', 'bf16', 'f16', 'i64', 'i32', 'i8', 'ui8', 'i1']);

/** Throws for text that is not of this form. */
export function parseModule(text: string): Module {
  return new Parser(text).module();
}

class Parser {
  private at = 0;

  constructor(private readonly text: string) {}

  module(): Module {
    this.expect('module');
    this.match(/@\w+/y);
    this.expect('attributes');
    this.braces();
    this.expect('{');
    if (this.accept('sdy.mesh')) this.match(/@mesh = <\["devices"=\d+\]>/y);
    this.expect('func.func public @main');
    const parameters = this.parameters();
    this.expect('->');
    this.expect('(');
    const results = this.listUntil(')', () => ({
      type: this.type(),
      attributes: this.peek('{') ? this.braces() : '',
    }));
    this.expect('{');
    const body = this.instructions('return');
    this.expect('}');
    this.expect('}');
    if (this.rest() !== '') this.fail('the end');
    return {
      body: { ...body, arguments: parameters },
      resultTypes: results.map(({ type }) => type),
      resultAttributes: results.map(({ attributes }) => attributes),
    };
  }

  /** Instructions up to the one that ends a region. */
  private instructions(end: string): Omit<Region, 'arguments'> {
    const instructions: Instruction[] = [];
    while (!this.peek(end)) instructions.push(this.instruction());
    this.expect(end);
    const returns = this.ids();
    if (returns.length === 0) return { instructions, returns, returnTypes: [] };
    this.expect(':');
    return { instructions, returns, returnTypes: this.list(() => this.type()) };
  }

  private instruction(): Instruction {
    const id = this.id();
    const size = this.accept(':') ? Number(this.match(/\d+/y)) : undefined;
    this.expect('=');
    const results = size === undefined ? [id] : Array.from({ length: size }, (_, i) => `${id}#${i}`);
    const made = this.peek('"') ? this.generic() : this.pretty();
    if (made.resultTypes.length !== results.length)
      throw new Error(`${id} has ${made.resultTypes.length} results`);
    return { attributes: {}, regions: [], ...made, results };
  }

  private generic(): Made {
    const name = this.match(/"stablehlo\.(\w+)"/y).slice('"stablehlo.'.length, -1);
    this.expect('(');
    const operands = this.ids();
    this.expect(')');
    this.expect('<{');
    const attributes = this.attributesUntil('}>');
    const regions: Region[] = [];
    if (this.accept('({')) {
      this.expect('^bb0');
      const parameters = this.parameters();
      this.expect(':');
      regions.push({ ...this.instructions('stablehlo.return'), arguments: parameters });
      this.expect('})');
    }
    return { name, operands, attributes, regions, ...this.signature() };
  }

  private pretty(): Made {
    if (this.accept('sdy.manual_computation')) return this.manualComputation();
    const name = this.match(/stablehlo\.(\w+)/y).slice('stablehlo.'.length);
    if (UNARY.has(name) || BINARY.has(name)) {
      const operands = this.ids();
      return { name, operands, ...this.same(operands.length) };
    }
    switch (name) {
      case 'constant':
        return this.constant();
      case 'iota': {
        const attributes = this.named('dim');
        this.expect(':');
        return { name, operands: [], operandTypes: [], resultTypes: [this.type()], attributes };
      }
      case 'compare': {
        const direction = this.match(/\w+/y);
        this.expect(',');
        const operands = [this.id()];
        this.expect(',');
        operands.push(this.id());
        this.expect(',');
        return { name, operands, attributes: { direction, kind: this.match(/\w+/y) }, ...this.signature() };
      }
      case 'select': {
        const operands = this.ids();
        this.expect(':');
        const [condition, type] = this.list(() => this.type()) as [TensorType, TensorType];
        return { name, operands, operandTypes: [condition, type, type], resultTypes: [type] };
      }
      case 'slice':
        return this.slice();
      case 'reduce':
        return this.reduce();
      case 'while':
        return this.loop();
      case 'custom_call':
        return this.customCall();
      case 'reverse': {
        const operands = [this.id()];
        const attributes = this.attributes();
        return { name, operands, attributes, ...this.same(1) };
      }
      case 'convert':
      case 'reshape':
      case 'transpose':
      case 'broadcast_in_dim':
      case 'concatenate':
      case 'pad':
      case 'dynamic_slice':
      case 'dynamic_update_slice':
      case 'dot_general': {
        const operands = this.ids();
        return { name, operands, attributes: this.attributes(), ...this.signature() };
      }
      default:
        return this.fail('an instruction that we print');
    }
  }

  private constant(): Made {
    this.expect('dense<');
    const end = this.text.indexOf('>', this.at);
    const source = this.text.slice(this.at, end);
    this.at = end + 1;
    this.expect(':');
    const type = this.type();
    const literal = source
      .replaceAll(/[[\]\s]/g, '')
      .split(',')
      .filter((item) => item !== '')
      .map((item) => literalOf(item, type.element));
    return { name: 'constant', operands: [], operandTypes: [], resultTypes: [type], literal };
  }

  private slice(): Made {
    const operands = [this.id()];
    this.expect('[');
    const ranges = this.listUntil(
      ']',
      () =>
        this.match(/\d+:\d+/y)
          .split(':')
          .map(Number) as [number, number],
    );
    const attributes = { starts: ranges.map(([start]) => start), limits: ranges.map(([, limit]) => limit) };
    return { name: 'slice', operands, attributes, ...this.signature() };
  }

  private reduce(): Made {
    this.expect('(');
    const operand = this.id();
    this.expect('init:');
    const initial = this.id();
    this.expect(')');
    this.expect('applies');
    const applies = this.match(/stablehlo\.\w+/y).slice('stablehlo.'.length);
    this.expect('across');
    const { dimensions } = this.named('dimensions') as { dimensions: number[] };
    return {
      name: 'reduce',
      operands: [operand, initial],
      attributes: { applies, dimensions },
      ...this.signature(),
    };
  }

  private loop(): Made {
    this.expect('(');
    const pairs = this.listUntil(')', () => {
      const id = this.id();
      this.expect('=');
      return { id, from: this.id() };
    });
    this.expect(':');
    const types = this.list(() => this.type());
    if (types.length !== pairs.length) this.fail('as many types as values');
    const parameters = pairs.map(({ id }, i) => ({ id, type: types[i]!, attributes: '' }));
    const regions = ['cond', 'do'].map((keyword) => {
      this.expect(keyword);
      this.expect('{');
      const region = { ...this.instructions('stablehlo.return'), arguments: parameters };
      this.expect('}');
      return region;
    });
    return {
      name: 'while',
      operands: pairs.map(({ from }) => from),
      operandTypes: types,
      resultTypes: types,
      regions,
    };
  }

  private customCall(): Made {
    const target = this.match(/@[\w$.]+/y).slice(1);
    this.expect('(');
    const operands = this.ids();
    this.expect(')');
    const version = this.match(/\{api_version = (2|4) : i32, backend_config = /y);
    // Version 2 has a text, which is JSON here, and version 4 a dictionary.
    const config = version.includes('= 2')
      ? this.match(/"[^"]*"/y)
          .slice(1, -1)
          .replaceAll('\\22', '"')
      : this.braces();
    this.expect(', operand_layouts = [');
    const layouts = (): string =>
      this.listUntil(']', () => this.match(/dense<[^>]*> : tensor<\dxindex>/y)).join();
    const operandLayouts = layouts();
    this.expect(', result_layouts = [');
    const attributes = { target, config, operandLayouts, resultLayouts: layouts() };
    this.expect('}');
    return { name: 'custom_call', operands, attributes, ...this.signature() };
  }

  /** What each device computes of its own part of the operands. */
  private manualComputation(): Made {
    this.expect('(');
    const operands = this.listUntil(')', () => this.id());
    // Of each value the axis that is cut, -1 for none.
    const axes = (name: string): number[] => {
      this.expect(`${name}=[`);
      return this.listUntil(']', () => {
        const parts = this.match(/<@mesh, \[[^\]]*\]>/y).match(/\{[^}]*\}/g);
        return (parts ?? ['']).indexOf('{"devices"}');
      });
    };
    const attributes = { in_axes: axes('in_shardings'), out_axes: axes('out_shardings') };
    this.expect('manual_axes={"devices"}');
    const parameters = this.parameters();
    this.expect('{');
    const region = { ...this.instructions('sdy.return'), arguments: parameters };
    this.expect('}');
    return { name: 'manual_computation', operands, attributes, regions: [region], ...this.signature() };
  }

  /** The arguments of the function or of a region, in parentheses. */
  private parameters(): Argument[] {
    this.expect('(');
    return this.listUntil(')', () => {
      const id = this.id();
      this.expect(':');
      const type = this.type();
      return { id, type, attributes: this.peek('{') ? this.braces() : '' };
    });
  }

  /** `, dims = [1, 0], dim = 2` */
  private attributes(): Attributes {
    const found: Record<string, readonly number[] | number | string> = {};
    while (this.accept(',')) Object.assign(found, this.named());
    return found;
  }

  private named(expected?: string): Attributes {
    const name = this.match(/\w+/y);
    if (expected !== undefined && name !== expected) this.fail(expected);
    this.expect('=');
    if (/^(batching|contracting)_dims$/.test(name)) {
      const left = this.numbers();
      this.expect('x');
      return { [`${name}_left`]: left, [`${name}_right`]: this.numbers() };
    }
    if (name === 'precision') {
      this.expect('[');
      return { precision: this.listUntil(']', () => this.match(/DEFAULT|HIGHEST/y)).join() };
    }
    return { [name]: this.peek('[') ? this.numbers() : Number(this.match(/-?\d+/y)) };
  }

  private attributesUntil(end: string): Attributes {
    const found: Record<string, readonly number[] | number | string> = {};
    while (!this.accept(end)) {
      const name = this.match(/\w+/y);
      this.expect('=');
      if (this.accept('#stablehlo.')) {
        this.match(/gather<|scatter</y);
        while (!this.accept('>')) {
          Object.assign(found, this.named());
          this.accept(',');
        }
      } else if (this.accept('array<i64')) {
        this.accept(':');
        found[name] = this.listUntil('>', () => Number(this.match(/\d+/y)));
      } else {
        found[name] = this.match(/true|false|\d+ : i64/y);
      }
      this.accept(',');
    }
    return found;
  }

  private numbers(): number[] {
    this.expect('[');
    return this.listUntil(']', () => Number(this.match(/-?\d+/y)));
  }

  private same(count: number): Pick<Made, 'operandTypes' | 'resultTypes'> {
    this.expect(':');
    const type = this.type();
    return { operandTypes: Array(count).fill(type), resultTypes: [type] };
  }

  private signature(): Pick<Made, 'operandTypes' | 'resultTypes'> {
    this.expect(':');
    this.expect('(');
    const operandTypes = this.listUntil(')', () => this.type());
    this.expect('->');
    const resultTypes = this.accept('(') ? this.listUntil(')', () => this.type()) : [this.type()];
    return { operandTypes, resultTypes };
  }

  private type(): TensorType {
    const parts = this.match(/tensor<((\d+x)*\w+)>/y)
      .slice('tensor<'.length, -1)
      .split('x');
    const element = parts.pop()!;
    if (!ELEMENTS.has(element)) throw new Error(`there is no element type ${element}`);
    return { element: element as Element, dims: parts.map(Number) };
  }

  private ids(): string[] {
    if (!this.peek('%')) return [];
    const ids = [this.id()];
    while (this.peek(',') && /^,\s*%/.test(this.text.slice(this.at, this.at + 8))) {
      this.expect(',');
      ids.push(this.id());
    }
    return ids;
  }

  private id(): string {
    return this.match(/%\w+(#\d+)?/y);
  }

  private list<T>(item: () => T): T[] {
    const items = [item()];
    while (this.accept(',')) items.push(item());
    return items;
  }

  private listUntil<T>(end: string, item: () => T): T[] {
    if (this.accept(end)) return [];
    const items = this.list(item);
    this.expect(end);
    return items;
  }

  /** What stands in braces, which are balanced. */
  private braces(): string {
    this.expect('{');
    const start = this.at;
    for (let depth = 1; depth > 0; this.at++) {
      const char = this.text[this.at];
      if (char === undefined) this.fail('}');
      depth += char === '{' ? 1 : char === '}' ? -1 : 0;
    }
    return this.text.slice(start, this.at - 1);
  }

  private rest(): string {
    this.skip();
    return this.text.slice(this.at);
  }

  private skip(): void {
    while (/\s/.test(this.text[this.at] ?? '')) this.at++;
  }

  private peek(token: string): boolean {
    this.skip();
    return this.text.startsWith(token, this.at);
  }

  private accept(token: string): boolean {
    const found = this.peek(token);
    if (found) this.at += token.length;
    return found;
  }

  private expect(token: string): void {
    if (!this.accept(token)) this.fail(token);
  }

  private match(pattern: RegExp): string {
    this.skip();
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (!found) return this.fail(String(pattern));
    this.at += found[0].length;
    return found[0];
  }

  private fail(expected: string): never {
    const line = this.text.slice(0, this.at).split('\n').length;
    throw new Error(`line ${line}: expected ${expected} before «${this.text.slice(this.at, this.at + 80)}»`);
  }
}

type Made = Omit<Instruction, 'results' | 'attributes' | 'regions'> &
  Partial<Pick<Instruction, 'attributes' | 'regions'>>;

/** A number as MLIR writes it. Throws for one that is of another type. */
function literalOf(text: string, element: Element): number {
  if (element === 'i1') {
    if (text !== 'true' && text !== 'false') throw new Error(`${text} is no truth value`);
    return Number(text === 'true');
  }
  const isFloat = element.includes('f');
  if (isFloat && /^0x[0-9A-F]+$/.test(text)) return special(text, element);
  const form = isFloat ? /^-?\d+\.\d*(e[-+]?\d+)?$/ : /^-?\d+$/;
  if (!form.test(text)) throw new Error(`${text} is no ${element}`);
  return Number(text);
}

/** Infinities and what is no number are written as bits. */
function special(text: string, element: Element): number {
  const names: Record<string, readonly string[]> = {
    f32: ['0x7F800000', '0xFF800000', '0x7FC00000'],
    bf16: ['0x7F80', '0xFF80', '0x7FC0'],
    f16: ['0x7C00', '0xFC00', '0x7E00'],
  };
  const index = names[element]!.indexOf(text);
  if (index < 0) throw new Error(`${text} is no ${element}`);
  return [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN][index]!;
}
