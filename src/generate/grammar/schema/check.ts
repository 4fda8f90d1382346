/** Whether a given value satisfies a schema: for values that a schema lists, and names that are known. */
import { keyword, limitOf, listOf, namedOf, namesOf, type Place, placeOf } from './document.js';
import type { Strings } from './strings.js';

/** What checking a value against a schema needs: its strings, and where a `$ref` leads. */
export interface Checker {
  readonly strings: Strings;
  resolve(reference: unknown, path: string): Place;
}

type Json = Readonly<Record<string, unknown>>;

const DEEPEST = 200;

/**
 * Formats are not checked: they are remarks on values that somebody wrote down. Throws `ConfigError` for patterns that are not understood.
 */
export function satisfies(value: unknown, place: Place, checker: Checker, depth = 0): boolean {
  const { schema, path } = place;
  if (typeof schema === 'boolean') return schema;
  if (typeof schema !== 'object' || schema === null) return false;
  checker.strings.work.spend(1);
  if (depth > DEEPEST) return false;
  const holds = (of: unknown, by: Place): boolean => satisfies(of, by, checker, depth + 1);
  const get = (key: string): unknown => keyword(schema, key);
  const all = (key: string): Place[] => listOf(place, key) ?? [];
  for (const key of ['$ref', '$dynamicRef', '$recursiveRef']) {
    if (get(key) !== undefined && !holds(value, checker.resolve(get(key), `${path}/${key}`))) return false;
  }
  if (!all('allOf').every((each) => holds(value, each))) return false;
  const any = listOf(place, 'anyOf');
  if (any && !any.some((each) => holds(value, each))) return false;
  const one = listOf(place, 'oneOf');
  if (one && one.filter((each) => holds(value, each)).length !== 1) return false;
  const [not, when] = [placeOf(place, 'not'), placeOf(place, 'if')];
  if (not && holds(value, not)) return false;
  if (when) {
    const then = placeOf(place, holds(value, when) ? 'then' : 'else');
    if (then && !holds(value, then)) return false;
  }
  if (Object.hasOwn(schema, 'const') && canonical(value) !== canonical(schema.const)) return false;
  const values = get('enum');
  if (Array.isArray(values) && !canonicals(values).has(canonical(value))) return false;
  const type = get('type');
  if (type !== undefined && !(value === null && get('nullable') === true)) {
    if (![type].flat().some((each) => isOf(value, each))) return false;
  }
  if (typeof value === 'number') return isWithin(value, place);
  if (typeof value === 'string') {
    const { length } = [...value];
    if (length < (limitOf(place, 'minLength') ?? 0) || length > (limitOf(place, 'maxLength') ?? Infinity))
      return false;
    const pattern = get('pattern');
    return pattern === undefined || checker.strings.matches(pattern, value, `${path}/pattern`);
  }
  if (Array.isArray(value)) return isArray(value, place, holds);
  if (typeof value === 'object' && value !== null) return isObject(value as Json, place, checker, holds);
  return true;
}

type Holds = (value: unknown, place: Place) => boolean;

function isWithin(value: number, { schema }: Place): boolean {
  const bound = (key: string): number | undefined => {
    const given = keyword(schema, key);
    return typeof given === 'number' ? given : undefined;
  };
  const [minimum, maximum] = [bound('minimum'), bound('maximum')];
  // Draft 4 says of a bound whether it is exclusive.
  const isAbove = keyword(schema, 'exclusiveMinimum') === true;
  const isBelow = keyword(schema, 'exclusiveMaximum') === true;
  if (minimum !== undefined && (value < minimum || (isAbove && value === minimum))) return false;
  if (maximum !== undefined && (value > maximum || (isBelow && value === maximum))) return false;
  if (value <= (bound('exclusiveMinimum') ?? -Infinity)) return false;
  if (value >= (bound('exclusiveMaximum') ?? Infinity)) return false;
  const factor = bound('multipleOf');
  return factor === undefined || Number.isInteger(value / factor);
}

function isArray(value: readonly unknown[], place: Place, holds: Holds): boolean {
  const least = limitOf(place, 'minItems') ?? 0;
  const most = limitOf(place, 'maxItems') ?? Infinity;
  if (value.length < least || value.length > most) return false;
  const items = keyword(place.schema, 'items');
  const first = listOf(place, 'prefixItems') ?? (Array.isArray(items) ? listOf(place, 'items')! : []);
  const rest = placeOf(place, Array.isArray(items) ? 'additionalItems' : 'items');
  if (!value.every((each, i) => (first[i] ? holds(each, first[i]) : !rest || holds(each, rest))))
    return false;
  const contains = placeOf(place, 'contains');
  if (contains) {
    const count = value.filter((each) => holds(each, contains)).length;
    if (count < (limitOf(place, 'minContains') ?? 1)) return false;
    if (count > (limitOf(place, 'maxContains') ?? Infinity)) return false;
  }
  return keyword(place.schema, 'uniqueItems') !== true || new Set(value.map(canonical)).size === value.length;
}

function isObject(value: Json, place: Place, { strings }: Checker, holds: Holds): boolean {
  const names = Object.keys(value);
  const least = limitOf(place, 'minProperties') ?? 0;
  if (names.length < least || names.length > (limitOf(place, 'maxProperties') ?? Infinity)) return false;
  if (!namesOf(place, 'required').every((name) => Object.hasOwn(value, name))) return false;
  const properties = namedOf(place, 'properties');
  const patterns = namedOf(place, 'patternProperties');
  const [more, ofNames] = [placeOf(place, 'additionalProperties'), placeOf(place, 'propertyNames')];
  return names.every((name) => {
    if (ofNames && !holds(name, ofNames)) return false;
    const own = properties.get(name);
    const fitting = [...patterns]
      .filter(([pattern]) => strings.matches(pattern, name, place.path))
      .map(([, each]) => each);
    if (own) fitting.push(own);
    if (fitting.length === 0 && more) fitting.push(more);
    return fitting.every((each) => holds(value[name], each));
  });
}

/** Whether a value has a JSON Schema type; 1.0 is an integer. */
function isOf(value: unknown, type: unknown): boolean {
  switch (type) {
    case 'null':
      return value === null;
    case 'array':
      return Array.isArray(value);
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    case 'integer':
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}

/** A value's JSON with its keys in order, so that equal values have equal texts. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, each: unknown) =>
    typeof each === 'object' && each !== null && !Array.isArray(each)
      ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1)))
      : each,
  );
}

const listed = new WeakMap<readonly unknown[], ReadonlySet<string>>();

/** Of all values of a list, found once: each of them is held against the whole list. */
function canonicals(values: readonly unknown[]): ReadonlySet<string> {
  let texts = listed.get(values);
  if (!texts) {
    texts = new Set(values.map(canonical));
    listed.set(values, texts);
  }
  return texts;
}
