/** A JSON schema as it was sent: what its references refer to, and errors that name a place in it. */
import { ConfigError } from '../../../errors.js';
import type { Work } from '../work.js';

/** The keywords of a schema that is an object. */
export type Keywords = Readonly<Record<string, unknown>>;
/** `true` and `false` are schemas too: anything, and nothing. */
export type Schema = Keywords | boolean;

/** A schema, and where it stands, as a JSON pointer. */
export interface Place {
  readonly schema: Schema;
  readonly path: string;
}

/** Something in a schema that cannot be promised. */
export class Unfollowable extends ConfigError {}
/** Something in a schema that no value satisfies. */
export class Impossible extends ConfigError {}

/** The error for a schema that is valid and cannot be made a grammar. */
export function unfollowable(path: string, why: string): Unfollowable {
  return new Unfollowable(`the schema cannot be followed at ${path}: ${why}`);
}

/** The error for a schema that no value satisfies. */
export function impossible(path: string, why: string): Impossible {
  return new Impossible(`the schema cannot be followed at ${path}: ${why}`);
}

/** In characters, about. */
const LONGEST = 2 ** 18;
/** Objects and lists in one another. */
const DEEPEST = 200;

/** Keywords under which there is a schema, a list of schemas, or schemas by name. */
const ONE =
  'items additionalItems contains additionalProperties propertyNames not if then else unevaluatedItems unevaluatedProperties';
const LISTS = 'allOf anyOf oneOf prefixItems items';
const NAMED = '$defs definitions properties patternProperties dependentSchemas';

/** A JSON Schema document, in which references can be followed. */
export class SchemaDocument {
  /** By `$id`, by `#` and `$anchor`, and by both. */
  private readonly named = new Map<string, Place>();

  /** Throws `ConfigError` for what is too large to be looked at. */
  constructor(
    private readonly root: unknown,
    private readonly work: Work,
  ) {
    measure(root);
    this.index(root, '#', '');
  }

  /** Where a reference leads. */
  resolve(reference: unknown, path: string): Place {
    if (typeof reference !== 'string') throw unfollowable(path, 'it is no text');
    const [base, fragment = ''] = reference.split('#', 2) as [string, string | undefined];
    const start = base === '' ? { schema: this.root as Schema, path: '#' } : this.named.get(base);
    if (!start) throw unfollowable(path, `${shown(reference)} is not in this schema`);
    if (fragment === '' || fragment.startsWith('/')) return this.follow(start, fragment, reference, path);
    const found = this.named.get(reference) ?? this.named.get(`#${fragment}`);
    if (!found) throw unfollowable(path, `there is nothing at ${shown(reference)}`);
    return found;
  }

  private follow(start: Place, pointer: string, reference: string, path: string): Place {
    let target: unknown = start.schema;
    for (const part of pointer.split('/').slice(1)) {
      this.work.spend(1);
      const key = decoded(part).replaceAll('~1', '/').replaceAll('~0', '~');
      if (typeof target !== 'object' || target === null || !Object.hasOwn(target, key)) {
        throw unfollowable(path, `there is nothing at ${shown(reference)}`);
      }
      target = (target as Record<string, unknown>)[key];
    }
    return { schema: target as Schema, path: start.path === '#' ? `#${pointer}` : `${start.path}${pointer}` };
  }

  private index(value: unknown, path: string, base: string): void {
    this.work.spend(1);
    if (typeof value !== 'object' || value === null) return;
    if (Array.isArray(value)) {
      for (const [i, each] of value.entries()) this.index(each, `${path}/${i}`, base);
      return;
    }
    const schema = value as Keywords;
    const id = schema.$id ?? schema.id;
    const own = typeof id === 'string' && id !== '' && !id.startsWith('#') ? id : base;
    const place = { schema, path };
    if (own !== base) {
      this.named.set(own, place);
      // Relative references name the last part alone.
      this.named.set(own.slice(own.lastIndexOf('/') + 1), place);
    }
    if (typeof id === 'string' && id.startsWith('#')) this.named.set(id, place);
    for (const key of ['$anchor', '$dynamicAnchor']) {
      const anchor = schema[key];
      if (typeof anchor !== 'string') continue;
      this.named.set(`#${anchor}`, place);
      this.named.set(`${own}#${anchor}`, place);
    }
    for (const key of ONE.split(' ')) this.index(schema[key], `${path}/${key}`, own);
    for (const key of LISTS.split(' '))
      if (Array.isArray(schema[key])) this.index(schema[key], `${path}/${key}`, own);
    for (const key of NAMED.split(' ')) {
      const inner = schema[key];
      if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) continue;
      for (const [name, each] of Object.entries(inner))
        this.index(each, `${path}/${key}/${escaped(name)}`, own);
    }
  }
}

/** A keyword's value. Who has nothing to say may say null, but of `const`. */
export function keyword(schema: Schema | undefined, key: string): unknown {
  if (typeof schema !== 'object' || schema === null || !Object.hasOwn(schema, key)) return undefined;
  return schema[key] === null && key !== 'const' ? undefined : schema[key];
}

/** A whole number, 0 or more, if there is one. */
export function limitOf({ schema, path }: Place, key: string): number | undefined {
  const value = keyword(schema, key);
  if (value === undefined) return undefined;
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw unfollowable(`${path}/${key}`, 'expected a whole number, 0 or more');
}

/** The schemas of a list, if there is one. */
export function listOf({ schema, path }: Place, key: string): Place[] | undefined {
  const value = keyword(schema, key);
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) throw unfollowable(`${path}/${key}`, 'expected a list of schemas');
  return value.map((each, i) => ({ schema: each as Schema, path: `${path}/${key}/${i}` }));
}

/** The schema under a keyword, if there is one. */
export function placeOf({ schema, path }: Place, key: string): Place | undefined {
  const value = keyword(schema, key);
  return value === undefined ? undefined : { schema: value as Schema, path: `${path}/${key}` };
}

/** The schemas by name under a keyword. */
export function namedOf({ schema, path }: Place, key: string): Map<string, Place> {
  const value = keyword(schema, key);
  const found = new Map<string, Place>();
  // What writes JSON in PHP makes an empty list of an object without keys.
  if (value === undefined || (Array.isArray(value) && value.length === 0)) return found;
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw unfollowable(`${path}/${key}`, 'expected an object of schemas');
  }
  for (const [name, each] of Object.entries(value as Keywords)) {
    found.set(name, { schema: each as Schema, path: `${path}/${key}/${escaped(name)}` });
  }
  return found;
}

/** A list of names, if there is one. Older dialects say `required: true` of a member itself, which says nothing here. */
export function namesOf({ schema, path }: Place, key: string): readonly string[] {
  const value = keyword(schema, key);
  if (value === undefined || typeof value === 'boolean') return [];
  if (Array.isArray(value) && value.every((each) => typeof each === 'string')) return value;
  throw unfollowable(`${path}/${key}`, 'expected a list of names');
}

function escaped(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function shown(text: string): string {
  return text.length > 100 ? `${text.slice(0, 100)}...` : text;
}

/** Looks at how large and how deep a value is, without going into itself for each level. */
function measure(root: unknown): void {
  const todo: { value: unknown; depth: number }[] = [{ value: root, depth: 0 }];
  let size = 0;
  while (todo.length > 0) {
    const { value, depth } = todo.pop()!;
    if (depth > DEEPEST) throw unfollowable('#', `it is nested more than ${DEEPEST} levels deep`);
    if (typeof value === 'string') size += value.length;
    size += 4;
    if (typeof value === 'object' && value !== null) {
      for (const [key, each] of Object.entries(value)) {
        size += key.length;
        todo.push({ value: each, depth: depth + 1 });
      }
    }
    if (size > LONGEST) throw unfollowable('#', `it has more than ${LONGEST} characters`);
  }
}
