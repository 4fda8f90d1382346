/** The globals of templates: Jinja's, and those of `transformers`. */
import { spend } from './budget.js';
import { failed, TemplateError } from './errors.js';
import { type Native, NativeFunction, native } from './native.js';
import { strftime } from './strftime.js';
import { asNumber } from './text-methods.js';
import {
  Dict,
  elements,
  integerOf,
  Namespace,
  PythonObject,
  Range,
  Tuple,
  textOf,
  type Value,
} from './values.js';

/** Jinja's `cycler`: returns its items in turn. */
class Cycler extends PythonObject {
  readonly type = 'Cycler';
  #at = 0;
  constructor(private readonly items: readonly Value[]) {
    super();
    if (items.length === 0) throw failed('at least one item has to be provided');
  }
  override attribute(name: string): Value | undefined {
    if (name === 'current') return this.items[this.#at]!;
    if (name === 'next') return new NativeFunction(native('next', '', () => this.next()));
    if (name === 'reset') return new NativeFunction(native('reset', '', () => this.reset()));
    return name === 'items' ? new Tuple(this.items) : undefined;
  }
  private next(): Value {
    const item = this.items[this.#at]!;
    this.#at = (this.#at + 1) % this.items.length;
    return item;
  }
  private reset(): Value {
    this.#at = 0;
    return null;
  }
  repr(): string {
    return '<Cycler>';
  }
}

/** Jinja's `joiner`: returns an empty text at the first call, and its separator afterwards. */
class Joiner extends PythonObject {
  readonly type = 'Joiner';
  #isUsed = false;
  constructor(private readonly separator: Value) {
    super();
  }
  override call(): Value {
    if (this.#isUsed) return this.separator;
    this.#isUsed = true;
    return '';
  }
  repr(): string {
    return '<Joiner>';
  }
}

function dictOf(args: Tuple, named: Dict): Dict {
  if (args.items.length > 1) throw failed(`dict expected at most 1 argument, got ${args.items.length}`);
  const [first] = args.items;
  const pairs = first instanceof Dict ? first.entries() : first === undefined ? [] : pairsIn(first);
  return Dict.of([...pairs, ...named.entries()]);
}

function* pairsIn(value: Value): Generator<readonly [Value, Value]> {
  let i = 0;
  for (const pair of elements(value)) {
    spend(4);
    const items = Array.from(elements(pair));
    if (items.length !== 2) {
      throw failed(`dictionary update sequence element #${i} has length ${items.length}; 2 is required`);
    }
    yield items as [Value, Value];
    i++;
  }
}

function namespaceOf(args: Tuple, named: Dict): Namespace {
  const attributes = new Map<string, Value>();
  for (const [key, value] of dictOf(args, named).entries()) attributes.set(textOf(key), value);
  return new Namespace(attributes);
}

function rangeOf(first: Value, second: Value, step: Value): Range {
  const integer = (value: Value): bigint => integerOf(value) ?? BigInt(asNumber(value));
  const [start, stop] = second === null ? [0n, integer(first)] : [integer(first), integer(second)];
  return new Range(start, stop, integer(step));
}

const FUNCTIONS: readonly Native[] = [
  native('range', 'start, stop=None, step=1', rangeOf),
  native('dict', '*args, **kwargs', dictOf),
  native('namespace', '*args, **kwargs', namespaceOf),
  native('cycler', '*items', (items: Tuple) => new Cycler(items.items)),
  native('joiner', "sep=', '", (separator: Value) => new Joiner(separator)),
  native('raise_exception', 'message', (message: Value) => {
    throw new TemplateError('raised', textOf(message));
  }),
  native('strftime_now', 'format', (format: Value) => strftime(new Date(), textOf(format))),
];

/** The globals by name. */
export const GLOBALS: ReadonlyMap<string, Value> = new Map(
  FUNCTIONS.map((entry) => [entry.name, new NativeFunction(entry)]),
);
