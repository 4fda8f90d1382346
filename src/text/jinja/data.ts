/** Converts JavaScript data to a template's values. */
import { Dict, type Value } from './values.js';

/**
 * Converts data to a template's values. In objects, a number without a fraction is an int; in maps from `readExactJson`,
 * bigints are ints and numbers are floats. Undefined members are omitted. Throws `TypeError` for values that are not plain data.
 */
function valueFrom(data: unknown, inMap = false): Value {
  switch (typeof data) {
    case 'string':
    case 'boolean':
    case 'bigint':
      return data;
    case 'number':
      return !inMap && Number.isSafeInteger(data) && !Object.is(data, -0) ? BigInt(data) : data;
    case 'object':
      break;
    default:
      throw new TypeError(`a ${typeof data} is no data`);
  }
  if (data === null) return null;
  if (Array.isArray(data)) return data.map((item) => (item === undefined ? null : valueFrom(item, inMap)));
  return dictFrom(data);
}

/** Converts an object or a map to a dict. */
export function dictFrom(data: object): Dict {
  const isMap = data instanceof Map;
  const entries: Iterable<[unknown, unknown]> = isMap ? data : Object.entries(data);
  const dict = new Dict();
  for (const [key, value] of entries) if (value !== undefined) dict.set(String(key), valueFrom(value, isMap));
  return dict;
}
