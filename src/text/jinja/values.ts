/**
 * The values of a template, which are Python's: None is null, an int is a bigint, a float is a number, a
 * list is an array; every other type is a `PythonObject`. A template cannot reach JavaScript objects, since
 * attributes are looked up only in our own tables.
 */
import { nested, spend, spendInteger, spendText } from './budget.js';
import { countCharacters } from './characters.js';
import { failed } from './errors.js';
import { floatText, quoted } from './literals.js';

/** A value of a template: a Python int is a bigint, a float a number, None is null. */
export type Value = null | boolean | bigint | number | string | readonly Value[] | PythonObject;

/** The arguments of a call. */
export interface Arguments {
  readonly positional: readonly Value[];
  readonly named: ReadonlyMap<string, Value>;
}

/** A value of a type that JavaScript does not have. A type omits the operations that it does not support. */
export abstract class PythonObject {
  /** The name of its type, as in Python's messages. */
  abstract readonly type: string;
  /** As Python's `repr` writes it. */
  abstract repr(): string;
  /** An attribute; undefined if there is none. */
  attribute(_name: string): Value | undefined {
    return undefined;
  }
  /** The number of elements; undefined if it has no length. */
  size(): number | undefined {
    return undefined;
  }
  /** Its elements; undefined if it is not iterable. */
  iterate(): Iterator<Value> | undefined {
    return undefined;
  }
  /** The element at an index or key; undefined if there is none. */
  item(_key: Value): Value | undefined {
    return undefined;
  }
  /** Calls the value; absent if it is not callable. */
  call?(given: Arguments): Value;
}

/** Jinja's Undefined: a missing name, attribute or element. It prints as an empty text, and most other operations on it fail. */
export class Undefined extends PythonObject {
  readonly type = 'Undefined';
  constructor(readonly reason: string) {
    super();
  }
  repr(): string {
    return 'Undefined';
  }
  override size(): number {
    return 0;
  }
  override iterate(): Iterator<Value> {
    return [][Symbol.iterator]();
  }
}

/** A Python tuple. */
export class Tuple extends PythonObject {
  readonly type = 'tuple';
  constructor(
    readonly items: readonly Value[],
    /** Names of the elements, for a named tuple. */
    private readonly names: readonly string[] = [],
  ) {
    super();
  }
  repr(): string {
    const inside = this.items.map((item) => reprOf(item)).join(', ');
    return this.items.length === 1 ? `(${inside},)` : `(${inside})`;
  }
  override attribute(name: string): Value | undefined {
    return this.items[this.names.indexOf(name)];
  }
  override size(): number {
    return this.items.length;
  }
  override iterate(): Iterator<Value> {
    return this.items[Symbol.iterator]();
  }
}

/** A key for JavaScript's maps: 1, 1.0 and True are one key in Python. */
type Key = null | bigint | number | string | object;

function keyOf(value: Value): Key {
  spend();
  if (typeof value === 'boolean') return BigInt(value);
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value) : value;
  // A prefix distinguishes tuples, whose keys are texts, from texts.
  if (typeof value === 'string') {
    spendText(value.length);
    return value.startsWith('\0') ? `\0${value}` : value;
  }
  if (value instanceof Tuple) {
    const written = nested(() => value.items.map((item) => writtenKey(keyOf(item))).join());
    spendText(written.length);
    return `\0(${written})`;
  }
  if (value instanceof Undefined) return Undefined;
  if (Array.isArray(value) || value instanceof Dict) throw failed(`unhashable type: '${typeOf(value)}'`);
  return value as Key;
}

function writtenKey(key: Key): string {
  if (typeof key === 'string') return `s${key.length}:${key}`;
  if (typeof key === 'object' && key !== null) throw failed('unhashable type inside a tuple');
  return `${typeof key}${String(key)}`;
}

/** A Python dictionary: keys that are equal in Python, such as 1 and 1.0, are one key. */
export class Dict extends PythonObject {
  readonly type = 'dict';
  readonly #entries = new Map<Key, readonly [key: Value, value: Value]>();

  static of(entries: Iterable<readonly [Value, Value]>): Dict {
    const dict = new Dict();
    for (const [key, value] of entries) dict.set(key, value);
    return dict;
  }
  /** Sets an entry during construction; templates cannot change a dict. An existing key keeps its position. */
  set(key: Value, value: Value): void {
    spend();
    const at = keyOf(key);
    this.#entries.set(at, [this.#entries.get(at)?.[0] ?? key, value]);
  }
  get(key: Value): Value | undefined {
    return this.#entries.get(keyOf(key))?.[1];
  }
  has(key: Value): boolean {
    return this.#entries.has(keyOf(key));
  }
  entries(): IterableIterator<readonly [key: Value, value: Value]> {
    return this.#entries.values();
  }
  override size(): number {
    return this.#entries.size;
  }
  override *iterate(): Iterator<Value> {
    for (const [key] of this.entries()) yield key;
  }
  override item(key: Value): Value | undefined {
    return isHashable(key) ? this.get(key) : undefined;
  }
  repr(): string {
    return `{${Array.from(this.entries(), ([key, value]) => `${reprOf(key)}: ${reprOf(value)}`).join(', ')}}`;
  }
}

const isHashable = (value: Value): boolean => !(Array.isArray(value) || value instanceof Dict);

/** The results of `keys()`, `values()` and `items()` of a dict. */
export class DictView extends PythonObject {
  readonly type: string;
  constructor(
    private readonly dict: Dict,
    private readonly part: 'keys' | 'values' | 'items',
  ) {
    super();
    this.type = `dict_${part}`;
  }
  repr(): string {
    return `${this.type}(${reprOf(Array.from(elements(this)))})`;
  }
  override size(): number {
    return this.dict.size();
  }
  override *iterate(): Iterator<Value> {
    for (const [key, value] of this.dict.entries()) {
      yield this.part === 'keys' ? key : this.part === 'values' ? value : new Tuple([key, value]);
    }
  }
}

/** The limit of Jinja's sandbox. */
const MOST_IN_RANGE = 100_000n;

/** What `range()` returns: its numbers are computed on demand. */
export class Range extends PythonObject {
  readonly type = 'range';
  readonly #length: bigint;

  /** Throws for a step of 0, and for more numbers than Jinja's sandbox allows. */
  constructor(
    readonly start: bigint,
    readonly stop: bigint,
    readonly step: bigint,
  ) {
    super();
    if (step === 0n) throw failed('range() arg 3 must not be zero');
    const [span, stride] = step > 0n ? [stop - start, step] : [start - stop, -step];
    this.#length = span <= 0n ? 0n : (span + stride - 1n) / stride;
    if (this.#length > MOST_IN_RANGE) {
      throw failed(`Range too big. The sandbox blocks ranges larger than MAX_RANGE (${MOST_IN_RANGE}).`);
    }
  }
  repr(): string {
    const { start, stop, step } = this;
    return step === 1n ? `range(${start}, ${stop})` : `range(${start}, ${stop}, ${step})`;
  }
  at(index: number): bigint {
    return this.start + BigInt(index) * this.step;
  }
  override size(): number {
    return Number(this.#length);
  }
  override *iterate(): Iterator<Value> {
    for (let i = 0; i < this.size(); i++) yield this.at(i);
  }
}

/** A generator, which can be iterated over once and has no length: the result of `map`, `select` and others. */
export class GeneratorObject extends PythonObject {
  readonly type: string = 'generator';
  readonly #iterator: Iterator<Value>;
  constructor(
    iterator: Iterator<Value>,
    private readonly name = '',
  ) {
    super();
    this.#iterator = iterator;
  }
  repr(): string {
    return `<generator object ${this.name}>`;
  }
  override iterate(): Iterator<Value> {
    return this.#iterator;
  }
}

/** The result of `namespace()`: the only object whose attributes a template may set. */
export class Namespace extends PythonObject {
  readonly type = 'Namespace';
  constructor(private readonly attributes: Map<string, Value>) {
    super();
  }
  set(name: string, value: Value): void {
    this.attributes.set(name, value);
  }
  override attribute(name: string): Value | undefined {
    return this.attributes.get(name);
  }
  repr(): string {
    const inside = Array.from(this.attributes, ([name, value]) => `${reprOf(name)}: ${reprOf(value)}`);
    return `<Namespace {${inside.join(', ')}}>`;
  }
}

/** The name of a value's type, as in Python's messages. */
export function typeOf(value: Value): string {
  if (value === null) return 'NoneType';
  switch (typeof value) {
    case 'boolean':
      return 'bool';
    case 'bigint':
      return 'int';
    case 'number':
      return 'float';
    case 'string':
      return 'str';
  }
  return value instanceof PythonObject ? value.type : 'list';
}

/** `value`, or a default if it is undefined; None (null) is a value. */
export const orElse = (value: Value | undefined, other: () => Value): Value =>
  value === undefined ? other() : value;

/** Whether a value is a Python list; tuples and ranges are not. */
export const isList = (value: Value): value is readonly Value[] => Array.isArray(value);

/** An int, or a bool as an int; undefined for other types. */
export function integerOf(value: Value): bigint | undefined {
  if (typeof value === 'bigint') return value;
  return typeof value === 'boolean' ? BigInt(value) : undefined;
}

/** Python's `bool(value)`: empty texts, lists and dictionaries are false, NaN is true. */
export function isTrue(value: Value): boolean {
  if (value instanceof PythonObject) return value.size() !== 0;
  if (isList(value)) return value.length > 0;
  // NaN, which JavaScript takes for false, is true in Python.
  return typeof value === 'number' ? value !== 0 : Boolean(value);
}

/** The number of elements. Throws for a value without a length. */
export function lengthOf(value: Value): number {
  if (typeof value === 'string') return countCharacters(value);
  const size = isList(value) ? value.length : value instanceof PythonObject ? value.size() : undefined;
  if (size === undefined) throw failed(`object of type '${typeOf(value)}' has no len()`);
  return size;
}

/** The elements of a value, each of which counts as a step. Throws for a value that is not iterable. */
export function* elements(value: Value): Generator<Value> {
  const iterator =
    typeof value === 'string' || isList(value)
      ? (value as Iterable<Value>)[Symbol.iterator]()
      : value instanceof PythonObject
        ? value.iterate()
        : undefined;
  if (!iterator) throw failed(`'${typeOf(value)}' object is not iterable`);
  for (;;) {
    const next = iterator.next();
    if (next.done) return;
    spend();
    yield next.value;
  }
}

/** A value as Python's `repr` writes it. */
export function reprOf(value: Value): string {
  spend();
  if (value === null) return 'None';
  switch (typeof value) {
    case 'boolean':
      return value ? 'True' : 'False';
    case 'bigint':
      spendInteger(value);
      return String(value);
    case 'number':
      return floatText(value);
    case 'string':
      return quoted(value);
  }
  const text = nested(() =>
    value instanceof PythonObject ? value.repr() : `[${value.map((item) => reprOf(item)).join(', ')}]`,
  );
  spendText(text.length);
  return text;
}

/** A value as Python's `str` writes it, which is how a template prints it. */
export function textOf(value: Value): string {
  if (typeof value === 'string') return value;
  return value instanceof Undefined ? '' : reprOf(value);
}
