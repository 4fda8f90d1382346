/** The methods of lists, tuples, dicts and numbers. Those that would change a list or a dict are forbidden, as in Jinja's sandbox. */
import { isEqual } from './compare.js';
import { failed } from './errors.js';
import { byName, type Native, native } from './native.js';
import { Dict, DictView, elements, orElse, reprOf, type Value } from './values.js';

const count = native('count', 'self, value', (self: Value, value: Value) => {
  let found = 0n;
  for (const item of elements(self)) if (isEqual(item, value)) found++;
  return found;
});

const index = native(
  'index',
  'self, value, start=0, stop=None',
  (self: Value, value: Value, start: bigint, stop: bigint | null) => {
    const items = Array.from(elements(self));
    const place = (given: bigint): number => Number(given < 0n ? given + BigInt(items.length) : given);
    const end = stop === null ? items.length : Math.min(items.length, place(stop));
    for (let i = Math.max(0, place(start)); i < end; i++) if (isEqual(items[i]!, value)) return BigInt(i);
    throw failed(`${reprOf(value)} is not in list`);
  },
);

const view = (part: 'keys' | 'values' | 'items'): Native =>
  native(part, 'self', (self: Dict) => new DictView(self, part));

const dictMethods = [
  native('get', 'self, key, default=None', (self: Dict, key: Value, usual: Value) =>
    orElse(self.get(key), () => usual),
  ),
  view('keys'),
  view('values'),
  view('items'),
  native('copy', 'self', (self: Dict) => Dict.of(self.entries())),
];

const listCopy = native('copy', 'self', (self: readonly Value[]) => [...self]);

/** By the type's name. */
export const COLLECTION_METHODS: ReadonlyMap<string, ReadonlyMap<string, Native>> = new Map([
  ['list', byName([count, index, listCopy])],
  ['tuple', byName([count, index])],
  ['range', byName([count, index])],
  ['dict', byName(dictMethods)],
  ['float', byName([native('is_integer', 'self', (self: number) => Number.isInteger(self))])],
  ['int', byName([native('bit_length', 'self', bitLength)])],
]);

function bitLength(self: bigint): bigint {
  return self === 0n ? 0n : BigInt((self < 0n ? -self : self).toString(2).length);
}

/** Methods of Python that a template must not use. */
export const FORBIDDEN: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  ['list', new Set(['append', 'clear', 'pop', 'reverse', 'insert', 'sort', 'extend', 'remove'])],
  ['dict', new Set(['clear', 'pop', 'popitem', 'setdefault', 'update'])],
]);
