/**
 * JSON schemas as grammars: every text that a grammar lets through is a value that its schema holds for. The other way round it
 * need not be: members come in the order in which the schema names them, and those that it does not name do not come. A keyword of
 * which that cannot be promised is refused.
 */
import { ConfigError } from '../../errors.js';
import { anyNumber, anyObject, arrayOf, mapOf, objectOf, quoted, stringOf, VALUE } from './json.js';
import { isWithin } from './matcher.js';
import { choice, literal, type Node, numberIn, reference } from './node.js';
import { NumberRange } from './number.js';
import { patternNode } from './pattern.js';

type Schema = Readonly<Record<string, unknown>>;

/** What says nothing about values, or only what people should know. */
const REMARKS = new Set([
  '$schema',
  '$id',
  '$comment',
  '$defs',
  'definitions',
  'title',
  'description',
  'default',
  'examples',
  'deprecated',
  'readOnly',
  'writeOnly',
]);

const KEYWORDS: Readonly<Record<string, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties', 'propertyNames', 'maxProperties'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'format'],
  integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'format'],
  boolean: [],
  null: [],
};

const DATE = '[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])';
const TIME = '([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]';
const HOST = '([a-z][a-z0-9]{0,20}\\.){1,3}[a-z]{2,10}';
const BYTE = '(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9][0-9]|[0-9])';
/** Strings that certainly have a format, if not all of them. */
const FORMATS: Readonly<Record<string, string>> = {
  date: `^${DATE}$`,
  time: `^${TIME}Z$`,
  'date-time': `^${DATE}T${TIME}Z$`,
  email: `^[a-z][a-z0-9]{0,30}@${HOST}$`,
  hostname: `^${HOST}$`,
  ipv4: `^${BYTE}\\.${BYTE}\\.${BYTE}\\.${BYTE}$`,
  uuid: '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$',
  uri: `^https?://${HOST}(/[a-z0-9._-]{1,60}){0,5}$`,
};

/** In characters: compiling takes time, and people wait for others. */
const LONGEST_SCHEMA = 2 ** 16;

/** A grammar of values that a schema holds for. Throws `ConfigError`, with the place in the schema, for what cannot be promised. */
export function schemaNode(schema: unknown): Node {
  const { length } = JSON.stringify(schema);
  if (length > LONGEST_SCHEMA) {
    throw refusal('#', `it has ${length} characters, and a schema may have ${LONGEST_SCHEMA}`);
  }
  return new Compiler(schema).node(schema, '#');
}

class Compiler {
  private readonly references = new Map<string, Node>();

  constructor(private readonly root: unknown) {}

  node(schema: unknown, path: string): Node {
    if (schema === true) return VALUE;
    if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
      throw refusal(path, 'it is no schema that any value satisfies');
    }
    const given = schema as Schema;
    if (typeof given.$ref === 'string') return this.referred(given, path);
    if ('const' in given) return this.values([given.const], given, path, 'const');
    if (Array.isArray(given.enum)) return this.values(given.enum, given, path, 'enum');
    for (const key of ['anyOf', 'oneOf', 'allOf'] as const) {
      if (key in given) return this.combined(given, key, path);
    }
    const types = given.type === undefined ? this.impliedTypes(given) : [given.type].flat();
    this.checkKeywords(given, types, path);
    return choice(...types.map((type) => this.typed(type, given, path)));
  }

  private impliedTypes(schema: Schema): unknown[] {
    const own = Object.keys(schema).filter((key) => !REMARKS.has(key));
    if (own.length === 0) return ['any'];
    const [type] = Object.entries(KEYWORDS).find(([, keys]) => own.some((key) => keys.includes(key))) ?? [];
    return [type];
  }

  private typed(type: unknown, schema: Schema, path: string): Node {
    switch (type) {
      case 'any':
        return VALUE;
      case 'object':
        return this.object(schema, path);
      case 'array':
        return this.array(schema, path);
      case 'string':
        return this.string(schema, path);
      case 'number':
      case 'integer':
        return this.number(type, schema, path);
      case 'boolean':
        return choice(literal('true'), literal('false'));
      case 'null':
        return literal('null');
      default:
        throw refusal(path, `the type ${JSON.stringify(type)} is not known`);
    }
  }

  private object(schema: Schema, path: string): Node {
    const { properties = {}, required = [], additionalProperties, propertyNames } = schema;
    const named = Object.entries(record(properties, `${path}/properties`));
    const wanted = new Set(list(required, `${path}/required`) as string[]);
    if (propertyNames !== undefined && JSON.stringify(propertyNames) !== '{"type":"string"}') {
      throw refusal(`${path}/propertyNames`, 'only {"type":"string"} is supported');
    }
    for (const name of wanted) {
      if (!named.some(([own]) => own === name))
        throw refusal(path, `the required '${name}' is not among its properties`);
    }
    const most = limit(schema, 'maxProperties', path) ?? Number.POSITIVE_INFINITY;
    if (named.length > 0) {
      if (most < named.length)
        throw refusal(`${path}/maxProperties`, 'it is smaller than the number of properties');
      return objectOf(
        named.map(([name, value]) => ({
          name,
          value: this.node(value, `${path}/properties/${name}`),
          required: wanted.has(name),
        })),
      );
    }
    if (additionalProperties === false) return objectOf([]);
    if (additionalProperties === undefined || additionalProperties === true) {
      return most === Number.POSITIVE_INFINITY ? anyObject() : mapOf(VALUE, most);
    }
    return mapOf(this.node(additionalProperties, `${path}/additionalProperties`), most);
  }

  private array(schema: Schema, path: string): Node {
    const { items, prefixItems } = schema;
    const first = list(prefixItems ?? [], `${path}/prefixItems`).map((each, i) =>
      this.node(each, `${path}/prefixItems/${i}`),
    );
    const least = limit(schema, 'minItems', path) ?? 0;
    const most = limit(schema, 'maxItems', path) ?? Number.POSITIVE_INFINITY;
    const rest =
      items === false || (items === undefined && first.length >= Math.max(1, least))
        ? undefined
        : this.node(items ?? true, `${path}/items`);
    if (most < Math.max(least, first.length) || (!rest && least > first.length)) {
      throw refusal(path, 'no array has as many items as it asks for');
    }
    return arrayOf(first, rest, least, most);
  }

  private string(schema: Schema, path: string): Node {
    const { pattern, format } = schema;
    const least = limit(schema, 'minLength', path);
    const most = limit(schema, 'maxLength', path);
    if (pattern === undefined && format === undefined) {
      if (most !== undefined && most < (least ?? 0))
        throw refusal(path, 'maxLength is smaller than minLength');
      return stringOf(least ?? 0, most ?? Number.POSITIVE_INFINITY);
    }
    if (least !== undefined || most !== undefined) {
      throw refusal(
        path,
        'a length beside a pattern or a format cannot be promised: put it into the pattern',
      );
    }
    if (format === undefined) return this.pattern(pattern, `${path}/pattern`);
    const known = typeof format === 'string' ? FORMATS[format] : undefined;
    if (!known) {
      throw refusal(
        `${path}/format`,
        `it is ${JSON.stringify(format)}: expected one of ${Object.keys(FORMATS).join(', ')}`,
      );
    }
    const ours = this.pattern(known, path);
    // What makes schemas of types writes a pattern beside a format, which says the same in other words.
    if (pattern !== undefined && !isWithin(ours, this.pattern(pattern, `${path}/pattern`))) {
      throw refusal(
        `${path}/pattern`,
        `it may not hold for what has the format ${String(format)}: leave out one of them`,
      );
    }
    return ours;
  }

  private pattern(pattern: unknown, path: string): Node {
    if (typeof pattern !== 'string') throw refusal(path, 'it is no text');
    try {
      return quoted(patternNode(pattern));
    } catch (error) {
      throw refusal(path, (error as Error).message);
    }
  }

  private number(type: 'number' | 'integer', schema: Schema, path: string): Node {
    const bound = (key: string): number | undefined => {
      const value = schema[key];
      if (value === undefined || (typeof value === 'number' && Number.isFinite(value))) return value;
      throw refusal(`${path}/${key}`, 'it is no number');
    };
    const [minimum, above] = [bound('minimum'), bound('exclusiveMinimum')];
    const [maximum, below] = [bound('maximum'), bound('exclusiveMaximum')];
    if (schema.format !== undefined) throw refusal(`${path}/format`, 'numbers have none');
    const least = above !== undefined && above >= (minimum ?? above) ? above : minimum;
    const most = below !== undefined && below <= (maximum ?? below) ? below : maximum;
    const range = new NumberRange({
      integer: type === 'integer',
      ...(least !== undefined && { least, aboveLeast: least === above }),
      ...(most !== undefined && { most, belowMost: most === below }),
    });
    if (!range.possible) throw refusal(path, 'no number that is written here lies within its bounds');
    return least === undefined && most === undefined && type === 'number' ? anyNumber() : numberIn(range);
  }

  private values(values: readonly unknown[], schema: Schema, path: string, key: string): Node {
    const { type } = schema;
    this.checkKeywords(schema, [], path, [key, 'type']);
    const fitting =
      type === undefined ? values : values.filter((value) => [type].flat().some((one) => isOf(value, one)));
    if (fitting.length === 0)
      throw refusal(`${path}/${key}`, 'none of its values has the type that is asked for');
    return choice(...fitting.map((value) => literal(JSON.stringify(value))));
  }

  private combined(schema: Schema, key: 'anyOf' | 'oneOf' | 'allOf', path: string): Node {
    const ways = list(schema[key], `${path}/${key}`);
    const { type } = schema;
    this.checkKeywords(schema, [], path, [key, 'type']);
    if (type !== undefined && !ways.every((way) => (way as Schema | null)?.type === type)) {
      throw refusal(path, `a type beside ${key} is supported only where it is that of all of them`);
    }
    if (ways.length === 0) throw refusal(`${path}/${key}`, 'it is empty');
    if (key === 'allOf' && ways.length > 1)
      throw refusal(`${path}/allOf`, 'it has several schemas: join them into one');
    if (key === 'oneOf') this.checkDistinct(ways as Schema[], `${path}/oneOf`);
    return choice(...ways.map((way, i) => this.node(way, `${path}/${key}/${i}`)));
  }

  /** Of two schemas no value may satisfy both: their types differ, or what a required member must be. */
  private checkDistinct(ways: readonly Schema[], path: string): void {
    const resolved = ways.map((way) =>
      typeof way.$ref === 'string' ? (this.target(way.$ref, path) as Schema) : way,
    );
    for (const [i, a] of resolved.entries()) {
      for (const b of resolved.slice(i + 1)) {
        if (!areDistinct(a, b)) {
          throw refusal(
            path,
            'its schemas may hold for the same value: tell them apart by a required constant, or use anyOf',
          );
        }
      }
    }
  }

  private referred(schema: Schema, path: string): Node {
    this.checkKeywords(schema, [], path, ['$ref']);
    const name = schema.$ref as string;
    const known = this.references.get(name);
    if (known) return known;
    const target = this.target(name, path);
    const node = reference(() => this.node(target, name));
    this.references.set(name, node);
    return node;
  }

  private target(name: string, path: string): unknown {
    if (name !== '#' && !name.startsWith('#/'))
      throw refusal(`${path}/$ref`, `${name} is not in this schema`);
    let target = this.root;
    for (const part of name.split('/').slice(1)) {
      const key = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
      const holder = target as Record<string, unknown> | null;
      if (typeof holder !== 'object' || holder === null || !Object.hasOwn(holder, key)) {
        throw refusal(`${path}/$ref`, `there is nothing at ${name}`);
      }
      target = holder[key];
    }
    return target;
  }

  private checkKeywords(
    schema: Schema,
    types: readonly unknown[],
    path: string,
    more: readonly string[] = ['type'],
  ): void {
    const known = new Set([...more, ...types.flatMap((type) => KEYWORDS[String(type)] ?? [])]);
    for (const key of Object.keys(schema)) {
      // Keywords of types that the value has not say nothing about it.
      const isIdle = types.length > 0 && Object.values(KEYWORDS).some((keys) => keys.includes(key));
      if (!known.has(key) && !REMARKS.has(key) && !isIdle) {
        throw refusal(`${path}/${key}`, 'this keyword is not supported');
      }
    }
  }
}

function areDistinct(a: Schema, b: Schema): boolean {
  const types = (schema: Schema): unknown[] => [schema.type ?? []].flat();
  const [typesA, typesB] = [types(a), types(b)];
  const overlap = typesA.some((type) => typesB.includes(type) || (isNumeric(type) && typesB.some(isNumeric)));
  if (typesA.length > 0 && typesB.length > 0 && !overlap) return true;
  const [ownA, ownB] = [constants(a), constants(b)];
  return Object.keys(ownA).some((name) => {
    const other = ownB[name];
    return other !== undefined && !ownA[name]!.some((value) => other.includes(value));
  });
}

function isNumeric(type: unknown): boolean {
  return type === 'number' || type === 'integer';
}

/** What required members must be, as JSON, where a schema says so; under '' what the value itself must be. */
function constants(schema: Schema): Record<string, string[]> {
  const own = valuesOf(schema);
  const found: Record<string, string[]> = own ? { '': own } : {};
  const required = Array.isArray(schema.required) ? schema.required : [];
  for (const [name, member] of Object.entries((schema.properties ?? {}) as Record<string, Schema>)) {
    const values = valuesOf(member);
    if (values && required.includes(name)) found[name] = values;
  }
  return found;
}

function valuesOf(schema: Schema): string[] | undefined {
  if (typeof schema !== 'object' || schema === null) return undefined;
  if ('const' in schema) return [JSON.stringify(schema.const)];
  return Array.isArray(schema.enum) ? schema.enum.map((value) => JSON.stringify(value)) : undefined;
}

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

function limit(schema: Schema, key: string, path: string): number | undefined {
  const value = schema[key];
  if (value === undefined) return undefined;
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw refusal(`${path}/${key}`, 'expected a whole number, 0 or more');
}

function list(value: unknown, path: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw refusal(path, 'expected a list');
}

function record(value: unknown, path: string): Schema {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Schema;
  throw refusal(path, 'expected an object');
}

function refusal(path: string, why: string): ConfigError {
  return new ConfigError(`the schema cannot be followed at ${path}: ${why}`);
}
