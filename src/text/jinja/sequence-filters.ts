/** The filters on sequences. Those that are generators in Jinja return generators: they have no length, and are always true. */
import { itemOf } from './access.js';
import { binary } from './arithmetic.js';
import { spend } from './budget.js';
import { joined, reversed } from './characters.js';
import { isEqual, order, sorted } from './compare.js';
import { failed } from './errors.js';
import { callNative, type Native, native } from './native.js';
import { asNumber } from './text-methods.js';
import {
  Dict,
  elements,
  GeneratorObject,
  isTrue,
  lengthOf,
  orElse,
  Tuple,
  textOf,
  typeOf,
  Undefined,
  type Value,
} from './values.js';

/** Finds a filter or a test by its name. Throws if there is none. */
export type Lookup = (name: string) => Native;

type Getter = (value: Value) => Value;

/** The value at a path such as `function.name` or `0`; `usual`, unless it is None, is the default for a missing value. */
function getter(path: Value, usual: Value = null): Getter {
  if (path === null) return (value) => value;
  const parts = typeof path === 'string' ? path.split('.').map(part) : [path];
  spend(parts.length * 4);
  return (value) =>
    parts.reduce((from: Value, key) => {
      const found = itemOf(from, key);
      return usual !== null && found instanceof Undefined ? usual : found;
    }, value);
}

const part = (text: string): Value => (/^\d+$/.test(text) ? BigInt(text) : text);

/** The key for comparisons: in lower case, unless case-sensitive. */
function folded(get: Getter, caseSensitive: Value): Getter {
  if (isTrue(caseSensitive)) return get;
  return (value) => {
    const found = get(value);
    return typeof found === 'string' ? found.toLowerCase() : found;
  };
}

/** Reads several paths, separated by commas. */
function manyGetters(paths: Value, caseSensitive: Value): Getter {
  const all = typeof paths === 'string' ? paths.split(',') : [paths];
  spend(all.length * 4);
  const getters = all.map((path) => folded(getter(path), caseSensitive));
  return (value) => getters.map((get) => get(value));
}

const listOf = (value: Value): Value[] => Array.from(elements(value));

const lazy = (name: string, iterator: Iterator<Value>): GeneratorObject =>
  new GeneratorObject(iterator, name);

function backwards(value: Value): Value[] {
  if (value instanceof GeneratorObject) throw failed("'generator' object is not reversible");
  return listOf(value).reverse();
}

function* itemsOf(value: Value): Generator<Value> {
  if (value instanceof Undefined) return;
  if (!(value instanceof Dict)) throw failed('Can only get item pairs from a mapping.');
  for (const [key, item] of value.entries()) yield new Tuple([key, item]);
}

function* unique(value: Value, get: Getter): Generator<Value> {
  const seen = new Dict();
  for (const item of elements(value)) {
    const key = get(item);
    if (seen.has(key)) continue;
    seen.set(key, null);
    yield item;
  }
}

function* batches(value: Value, size: number, fill: Value): Generator<Value> {
  let batch: Value[] = [];
  for (const item of elements(value)) {
    if (batch.length === size) {
      yield batch;
      batch = [];
    }
    batch.push(item);
  }
  if (batch.length === 0) return;
  if (fill !== null && batch.length < size) {
    spend(size - batch.length);
    batch.push(...Array.from({ length: size - batch.length }, () => fill));
  }
  yield batch;
}

function* slices(value: Value, count: number, fill: Value): Generator<Value> {
  const items = listOf(value);
  if (count === 0) throw failed('integer division or modulo by zero');
  const [each, longer] = [Math.floor(items.length / count), items.length % count];
  let start = 0;
  for (let i = 0; i < count; i++) {
    spend(2);
    const end = start + each + (i < longer ? 1 : 0);
    const slice = items.slice(start, end);
    start = end;
    yield fill !== null && i >= longer ? [...slice, fill] : slice;
  }
}

function extreme(value: Value, get: Getter, sign: number): Value {
  let best: { item: Value; key: Value } | undefined;
  for (const item of elements(value)) {
    const key = get(item);
    if (!best || order(key, best.key, sign < 0 ? '<' : '>') * sign > 0) best = { item, key };
  }
  return best ? best.item : new Undefined('No aggregated item, sequence was empty.');
}

function groups(value: Value, path: Value, usual: Value, caseSensitive: Value): Value[] {
  const exact = getter(path, usual);
  const get = folded(exact, caseSensitive);
  const found: { key: Value; items: Value[] }[] = [];
  for (const item of sorted(listOf(value), get, false)) {
    const key = get(item);
    const last = found.at(-1);
    if (last && isEqual(last.key, key)) last.items.push(item);
    else found.push({ key, items: [item] });
  }
  return found.map(({ items }) => new Tuple([exact(items[0]!), items], ['grouper', 'list']));
}

function total(value: Value, get: Getter, start: Value): Value {
  if (typeof start === 'string') throw failed("sum() can't sum strings [use ''.join(seq) instead]");
  let sum: Value = start;
  for (const item of elements(value)) sum = binary('+', sum, get(item));
  return sum;
}

function dictSorted(value: Value, caseSensitive: Value, by: Value, reverse: Value): Value {
  if (!(value instanceof Dict)) throw failed(`'${typeOf(value)}' object has no attribute 'items'`);
  if (by !== 'key' && by !== 'value') throw failed('You can only sort by either "key" or "value"');
  const get = folded((pair) => (pair as Tuple).items[by === 'key' ? 0 : 1]!, caseSensitive);
  return sorted(Array.from(itemsOf(value)), get, isTrue(reverse));
}

/** All filters on sequences; `map` and `select` call other filters by name. */
export function sequenceFilters(filterNamed: Lookup, testNamed: Lookup): Native[] {
  function* mapped(value: Value, args: Tuple, named: Dict): Generator<Value> {
    if (!isTrue(value)) return;
    const apply = mapping(args, named);
    for (const item of elements(value)) yield apply(item);
  }

  function mapping(args: Tuple, named: Dict): Getter {
    const [name, ...rest] = args.items;
    if (name === undefined && named.has('attribute')) {
      for (const [key] of named.entries()) {
        if (key !== 'attribute' && key !== 'default')
          throw failed(`Unexpected keyword argument ${textOf(key)}`);
      }
      return getter(named.get('attribute')!, named.get('default') ?? null);
    }
    if (name === undefined) throw failed('map requires a filter argument');
    return called(filterNamed(textOf(name)), rest, named);
  }

  const called = (callee: Native, positional: readonly Value[], named: Dict): Getter => {
    const names = new Map(Array.from(named.entries(), ([key, value]) => [textOf(key), value]));
    return (item) => callNative(callee, { positional, named: names }, item);
  };

  function* chosen(
    value: Value,
    args: Tuple,
    named: Dict,
    byAttribute: boolean,
    wanted: boolean,
  ): Generator<Value> {
    if (!isTrue(value)) return;
    const [path, name, ...rest] = byAttribute ? args.items : [null, ...args.items];
    if (path === undefined) throw failed('Missing parameter for attribute name');
    const get = getter(path);
    const holds = name === undefined ? (item: Value) => item : called(testNamed(textOf(name)), rest, named);
    for (const item of elements(value)) if (isTrue(holds(get(item))) === wanted) yield item;
  }

  const choice = (name: string, byAttribute: boolean, wanted: boolean): Native =>
    native(name, 'value, *args, **kwargs', (value: Value, args: Tuple, named: Dict) =>
      lazy('select_or_reject', chosen(value, args, named, byAttribute, wanted)),
    );

  return [
    native('batch', 'value, linecount, fill_with=None', (value: Value, size: Value, fill: Value) =>
      lazy('do_batch', batches(value, asNumber(size), fill)),
    ),
    native('dictsort', "value, case_sensitive=False, by='key', reverse=False", dictSorted),
    native('first', 'seq', (value: Value) => {
      for (const item of elements(value)) return item;
      return new Undefined('No first item, sequence was empty.');
    }),
    native('groupby', 'value, attribute, default=None, case_sensitive=False', groups),
    native('items', 'value', (value: Value) => lazy('do_items', itemsOf(value))),
    native('join', "value, d='', attribute=None", (value: Value, separator: Value, path: Value) => {
      const get = getter(path);
      return joined(
        Array.from(elements(value), (item) => textOf(get(item))),
        textOf(separator),
      );
    }),
    native('last', 'seq', (value: Value) =>
      orElse(backwards(value)[0], () => new Undefined('No last item, sequence was empty.')),
    ),
    ...['length', 'count'].map((name) => native(name, 'obj', (value: Value) => BigInt(lengthOf(value)))),
    native('list', 'value', listOf),
    native('map', 'value, *args, **kwargs', (value: Value, args: Tuple, named: Dict) =>
      lazy('sync_do_map', mapped(value, args, named)),
    ),
    native(
      'max',
      'value, case_sensitive=False, attribute=None',
      (value: Value, caseSensitive: Value, path: Value) =>
        extreme(value, folded(getter(path), caseSensitive), 1),
    ),
    native(
      'min',
      'value, case_sensitive=False, attribute=None',
      (value: Value, caseSensitive: Value, path: Value) =>
        extreme(value, folded(getter(path), caseSensitive), -1),
    ),
    choice('reject', false, false),
    choice('rejectattr', true, false),
    native('reverse', 'value', (value: Value) => {
      if (typeof value === 'string') return reversed(value);
      return lazy('reversed', listOf(value).reverse()[Symbol.iterator]());
    }),
    choice('select', false, true),
    choice('selectattr', true, true),
    native('slice', 'value, slices, fill_with=None', (value: Value, count: Value, fill: Value) =>
      lazy('sync_do_slice', slices(value, asNumber(count), fill)),
    ),
    native(
      'sort',
      'value, reverse=False, case_sensitive=False, attribute=None',
      (value: Value, reverse: Value, caseSensitive: Value, paths: Value) =>
        sorted(listOf(value), manyGetters(paths, caseSensitive), isTrue(reverse)),
    ),
    native('sum', 'iterable, attribute=None, start=0', (value: Value, path: Value, start: Value) =>
      total(value, getter(path), start),
    ),
    native(
      'unique',
      'value, case_sensitive=False, attribute=None',
      (value: Value, caseSensitive: Value, path: Value) =>
        lazy('sync_do_unique', unique(value, folded(getter(path), caseSensitive))),
    ),
  ];
}
