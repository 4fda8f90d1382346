/** The variable `loop` inside a `for`. */
import { isEqual } from './compare.js';
import { failed } from './errors.js';
import { NativeFunction, native } from './native.js';
import {
  type Arguments,
  elements,
  isList,
  PythonObject,
  type Tuple,
  Undefined,
  type Value,
} from './values.js';

/** Iterates over the elements one at a time; the length, the next element and `last` need look-ahead. */
export class LoopState extends PythonObject {
  readonly type = 'LoopContext';
  #index = -1;
  #known: number | undefined;
  #iterator: Iterator<Value>;
  #ahead: IteratorResult<Value> | undefined;
  #before: Value | undefined;
  #current: Value | undefined;
  #changed: Value | undefined;

  constructor(
    over: Value,
    private readonly depth: number,
    /** Runs the loop's body over other elements, if the loop is recursive. */
    private readonly recurse: ((over: Value, depth: number) => Value) | undefined,
  ) {
    super();
    this.#known = isList(over) ? over.length : over instanceof PythonObject ? over.size() : undefined;
    this.#iterator = elements(over);
  }

  next(): IteratorResult<Value> {
    const next = this.#ahead ?? this.#iterator.next();
    this.#ahead = undefined;
    if (next.done) return next;
    this.#index++;
    this.#before = this.#current;
    this.#current = next.value;
    return next;
  }

  get #length(): number {
    if (this.#known === undefined) {
      const rest: Value[] = [];
      if (this.#ahead && !this.#ahead.done) rest.push(this.#ahead.value);
      for (let next = this.#iterator.next(); !next.done; next = this.#iterator.next()) rest.push(next.value);
      this.#ahead = undefined;
      this.#iterator = rest[Symbol.iterator]();
      this.#known = this.#index + 1 + rest.length;
    }
    return this.#known;
  }

  #peek(): IteratorResult<Value> {
    this.#ahead ??= this.#iterator.next();
    return this.#ahead;
  }

  override attribute(name: string): Value | undefined {
    switch (name) {
      case 'index':
        return BigInt(this.#index + 1);
      case 'index0':
        return BigInt(this.#index);
      case 'revindex':
        return BigInt(this.#length - this.#index);
      case 'revindex0':
        return BigInt(this.#length - this.#index - 1);
      case 'first':
        return this.#index === 0;
      case 'last':
        return this.#peek().done === true;
      case 'length':
        return BigInt(this.#length);
      case 'depth':
        return BigInt(this.depth + 1);
      case 'depth0':
        return BigInt(this.depth);
      case 'previtem':
        return this.#index > 0 ? this.#before! : new Undefined('there is no previous item');
      case 'nextitem': {
        const next = this.#peek();
        return next.done ? new Undefined('there is no next item') : next.value;
      }
      case 'cycle':
        return new NativeFunction(native('cycle', '*args', (args: Tuple) => this.#cycle(args)));
      case 'changed':
        return new NativeFunction(native('changed', '*value', (args: Tuple) => this.#isChanged(args)));
    }
    return undefined;
  }

  #cycle({ items }: Tuple): Value {
    if (items.length === 0) throw failed('no items for cycling given');
    return items[this.#index % items.length]!;
  }

  #isChanged(now: Tuple): boolean {
    const isSame = this.#changed !== undefined && isEqual(this.#changed, now);
    this.#changed = now;
    return !isSame;
  }

  override call({ positional: [over] }: Arguments): Value {
    if (!this.recurse) throw failed("The loop must have the 'recursive' marker to be called recursively.");
    if (over === undefined) throw failed("loop() missing 1 required positional argument: 'iterable'");
    return this.recurse(over, this.depth + 1);
  }

  override size(): number {
    return this.#length;
  }

  repr(): string {
    return `<LoopContext ${this.#index + 1}/${this.#length}>`;
  }
}
