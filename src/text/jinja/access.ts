/** Attribute and element access. Attributes come from tables of methods, so JavaScript's properties cannot be reached. */
import { spend } from './budget.js';
import { characterAt, countCharacters } from './characters.js';
import { COLLECTION_METHODS, FORBIDDEN } from './collection-methods.js';
import { failed } from './errors.js';
import { NativeFunction } from './native.js';
import { textMethods } from './text-methods.js';
import {
  integerOf,
  isList,
  orElse,
  PythonObject,
  Range,
  reprOf,
  Tuple,
  typeOf,
  Undefined,
  type Value,
} from './values.js';

const TEXT_METHODS = textMethods({ attributeOf, itemOf });

/** `value.name`: an attribute or method, else the element of that name, else Undefined. */
export function attributeOf(value: Value, name: string): Value {
  if (value instanceof Undefined) throw failed(value.reason);
  return orElse(ownAttribute(value, name), () => orElse(elementAt(value, name), () => absent(value, name)));
}

/** `value[key]`: an element, else the attribute of that name, else Undefined. */
export function itemOf(value: Value, key: Value): Value {
  if (value instanceof Undefined) throw failed(value.reason);
  const named = (): Value | undefined => (typeof key === 'string' ? ownAttribute(value, key) : undefined);
  return orElse(elementAt(value, key), () => orElse(named(), () => absent(value, key)));
}

/** An attribute or method only; undefined if there is none. */
export function ownAttribute(value: Value, name: string): Value | undefined {
  const type = typeOf(value);
  const method = typeof value === 'string' ? TEXT_METHODS.get(name) : COLLECTION_METHODS.get(type)?.get(name);
  if (method) return new NativeFunction(method, value);
  if (FORBIDDEN.get(type)?.has(name)) {
    return new Undefined(`access to attribute ${reprOf(name)} of '${type}' object is unsafe.`);
  }
  return value instanceof PythonObject ? value.attribute(name) : undefined;
}

function elementAt(value: Value, key: Value): Value | undefined {
  spend();
  const index = integerOf(key);
  const from = (items: ArrayLike<Value>): Value | undefined =>
    index === undefined ? undefined : items[Number(index < 0n ? index + BigInt(items.length) : index)];
  if (typeof value === 'string') {
    if (index === undefined) return undefined;
    return characterAt(value, Number(index < 0n ? index + BigInt(countCharacters(value)) : index));
  }
  if (isList(value)) return from(value);
  if (value instanceof Tuple) return from(value.items);
  if (value instanceof Range) {
    if (index === undefined) return undefined;
    const place = Number(index < 0n ? index + BigInt(value.size()) : index);
    return place >= 0 && place < value.size() ? value.at(place) : undefined;
  }
  return value instanceof PythonObject ? value.item(key) : undefined;
}

function absent(value: Value, key: Value): Undefined {
  const type = value === null ? 'None' : `${typeOf(value)} object`;
  return new Undefined(
    typeof key === 'string'
      ? `'${type}' has no attribute ${reprOf(key)}`
      : `${type} has no element ${reprOf(key)}`,
  );
}
