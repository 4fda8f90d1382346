/**
 * What does not satisfy a schema, as schemas: a value of any of them does not. Not all that does not need be in them, and `not` is
 * left in only where the compiler knows it itself: of values, and of patterns.
 */
import { type Keywords, keyword, type Place, type Schema } from './document.js';

const TYPES = ['object', 'array', 'string', 'number', 'boolean', 'null'];

/** Whether the compiler takes `not` of a schema as it is: values that must not come, or a pattern that must not match. */
export function isPlainNot(schema: Schema): schema is Keywords {
  if (typeof schema === 'boolean') return false;
  const keys = Object.keys(schema).filter((key) => SAYING.has(key));
  return keys.length === 1 && ['const', 'enum', 'pattern'].includes(keys[0]!);
}

/** Schemas of which each is satisfied only by values that do not satisfy the given one; none where nothing can be told. */
export function negated({ schema, path }: Place, resolve: (reference: unknown) => Place): Place[] {
  if (typeof schema !== 'object' || schema === null) return schema === false ? [{ schema: true, path }] : [];
  const ways: Schema[] = [];
  const number = (key: string): number | undefined => {
    const value = keyword(schema, key);
    return typeof value === 'number' ? value : undefined;
  };
  const required = keyword(schema, 'required');
  for (const name of Array.isArray(required) ? (required as string[]) : []) {
    ways.push({ type: 'object', properties: Object.fromEntries([[name, false]]) });
  }
  for (const [name, member] of Object.entries((keyword(schema, 'properties') ?? {}) as Keywords)) {
    ways.push({
      type: 'object',
      required: [name],
      properties: Object.fromEntries([[name, { not: member }]]),
    });
  }
  if (Object.hasOwn(schema, 'const')) ways.push({ not: { const: schema.const } });
  const values = keyword(schema, 'enum');
  if (values !== undefined) ways.push({ not: { enum: values } });
  const pattern = keyword(schema, 'pattern');
  if (pattern !== undefined) ways.push({ type: 'string', not: { pattern } });
  for (const [type, least, most] of [
    ['string', 'minLength', 'maxLength'],
    ['array', 'minItems', 'maxItems'],
    ['object', 'minProperties', 'maxProperties'],
  ] as const) {
    const [from, to] = [number(least), number(most)];
    if (from !== undefined && from > 0) ways.push({ type, [most]: from - 1 });
    if (to !== undefined) ways.push({ type, [least]: to + 1 });
  }
  for (const [key, opposite] of [
    ['minimum', 'exclusiveMaximum'],
    ['exclusiveMinimum', 'maximum'],
    ['maximum', 'exclusiveMinimum'],
    ['exclusiveMaximum', 'minimum'],
  ] as const) {
    const bound = number(key);
    // Beside a bound that is said to be exclusive, the bound itself does not satisfy, but is left out here too.
    if (bound !== undefined) ways.push({ type: 'number', [opposite]: bound });
  }
  const items = keyword(schema, 'items');
  if (items !== undefined && !Array.isArray(items) && keyword(schema, 'prefixItems') === undefined) {
    ways.push({ type: 'array', minItems: 1, contains: { not: items } });
  }
  const type = keyword(schema, 'type');
  if (type !== undefined) {
    const own = [type].flat();
    // All numbers are left out where some are: which are whole is not told apart.
    const isNumeric = own.includes('integer') || own.includes('number');
    const isNullable = keyword(schema, 'nullable') === true;
    const others = TYPES.filter(
      (each) => !own.includes(each) && !(each === 'number' && isNumeric) && !(each === 'null' && isNullable),
    );
    ways.push({ type: others });
  }
  const all = keyword(schema, 'allOf');
  if (Array.isArray(all)) for (const each of all) ways.push({ not: each });
  const any = keyword(schema, 'anyOf');
  if (Array.isArray(any)) ways.push({ allOf: any.map((each) => ({ not: each })) });
  const not = keyword(schema, 'not');
  if (not !== undefined) ways.push(not as Schema);
  const reference = keyword(schema, '$ref');
  if (reference !== undefined) ways.push({ not: resolve(reference).schema });
  return ways.map((way) => ({ schema: way, path }));
}

/** Keywords that a value has to satisfy. */
const SAYING = new Set(
  (
    '$ref $dynamicRef type const enum allOf anyOf oneOf not if then else properties required additionalProperties patternProperties ' +
    'propertyNames minProperties maxProperties dependentRequired dependentSchemas dependencies items prefixItems additionalItems ' +
    'contains minItems maxItems uniqueItems minLength maxLength pattern format minimum maximum exclusiveMinimum exclusiveMaximum ' +
    'multipleOf unevaluatedProperties unevaluatedItems'
  ).split(' '),
);

/** Whether a schema says anything about values. */
export function saysNothing(schema: Schema): boolean {
  return (
    schema === true || (typeof schema === 'object' && !Object.keys(schema).some((key) => SAYING.has(key)))
  );
}

/** Keywords that say something by other schemas alone, which the same value has to satisfy. */
const BY_OTHERS = new Set(
  '$ref $dynamicRef allOf anyOf oneOf if then else dependentRequired dependentSchemas dependencies'.split(
    ' ',
  ),
);

/** Whether a schema says anything about values beside what it refers to. */
export function saysItself(schema: Keywords): boolean {
  return Object.keys(schema).some(
    (key) =>
      SAYING.has(key) &&
      !BY_OTHERS.has(key) &&
      !(key === 'not' && !isPlainNot((schema.not ?? true) as Schema)),
  );
}
