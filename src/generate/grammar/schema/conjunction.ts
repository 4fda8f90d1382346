/**
 * Schemas that a value has to satisfy together. A schema is one such conjunction with all that it refers to, and with each member of its
 * `allOf`; what leaves a choice (`anyOf`, `oneOf`, `if`, `not`) stands apart, until one way of it is taken.
 */
import { canonical } from './check.js';
import {
  impossible,
  type Keywords,
  keyword,
  listOf,
  namedOf,
  namesOf,
  type Place,
  placeOf,
  type SchemaDocument,
  unfollowable,
} from './document.js';
import { isPlainNot, negated, saysItself, saysNothing } from './negation.js';

/** One of several conjunctions of schemas, whose ways were told from one keyword. */
export interface Union {
  readonly path: string;
  readonly ways: readonly Way[];
}

/** One of the alternatives of a union: schemas that must all be satisfied. */
export interface Way {
  readonly places: readonly Place[];
  /** Schemas that must not be satisfied, such as the other members of a `oneOf`. */
  readonly excluded: readonly Place[];
}

/** Schemas that must be satisfied together, with references followed and `allOf` resolved. */
export interface Conjunction {
  /** Schemas whose own keywords must be satisfied, but those that leave a choice. */
  readonly bases: ReadonlySet<Place & { readonly schema: Keywords }>;
  readonly unions: ReadonlySet<Union>;
  readonly excluded: ReadonlySet<Place>;
}

/** Collects what schemas of a document say together. */
export class Conjunctions {
  /** Places by their schema, so that the same schema is the same place. */
  private readonly places = new Map<Keywords, Place & { readonly schema: Keywords }>();
  private readonly unions = new Map<Keywords, readonly Union[]>();
  private readonly negations = new Map<Keywords, Way[]>();

  constructor(private readonly document: SchemaDocument) {}

  /** All that places say together, and what was there before. Throws `ConfigError`. */
  join(places: readonly Place[], before?: Conjunction): Conjunction {
    const bases = new Set(before?.bases);
    const unions = new Set(before?.unions);
    const excluded = new Set(before?.excluded);
    const active = new Set<Keywords>();
    // A schema that was there before is looked at again: of its choices a way may have been taken that leads back to it.
    const seen = new Set<Place>();
    const add = (place: Place): void => {
      const { schema, path } = place;
      if (schema === true) return;
      if (schema === false) throw impossible(path, 'no value satisfies it');
      if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
        throw unfollowable(path, 'it is no schema');
      }
      if (active.has(schema)) throw unfollowable(path, 'it refers to nothing but itself');
      if (active.size > 300) throw unfollowable(path, 'it refers to others too often');
      active.add(schema);
      const own = this.placeOf(schema, path);
      // A schema that has nothing but references adds no constraint of its own.
      if (saysItself(schema)) bases.add(own);
      if (!seen.has(own)) {
        seen.add(own);
        for (const key of ['$ref', '$dynamicRef', '$recursiveRef']) {
          const reference = keyword(schema, key);
          if (reference !== undefined) add(this.document.resolve(reference, `${path}/${key}`));
        }
        for (const each of listOf(own, 'allOf') ?? []) add(each);
        for (const union of this.unionsOf(own)) unions.add(union);
      }
      active.delete(schema);
    };
    for (const place of places) add(place);
    return { bases, unions, excluded };
  }

  /** The ways in which a value does not satisfy a schema; none where that cannot be told. */
  negation(place: Place): Way[] {
    const { schema } = place;
    if (typeof schema !== 'object' || schema === null) return negated(place, () => place).map(wayOf);
    let ways = this.negations.get(schema);
    if (!ways) {
      ways = negated(place, (reference) => this.document.resolve(reference, `${place.path}/$ref`)).map(wayOf);
      this.negations.set(schema, ways);
    }
    return ways;
  }

  private placeOf(schema: Keywords, path: string): Place & { readonly schema: Keywords } {
    let place = this.places.get(schema);
    if (!place) {
      place = { schema, path };
      this.places.set(schema, place);
    }
    return place;
  }

  private unionsOf(place: Place & { readonly schema: Keywords }): readonly Union[] {
    let unions = this.unions.get(place.schema);
    if (!unions) {
      unions = [...this.findUnions(place)];
      this.unions.set(place.schema, unions);
    }
    return unions;
  }

  private *findUnions(place: Place & { readonly schema: Keywords }): Generator<Union> {
    const { schema, path } = place;
    const any = listOf(place, 'anyOf');
    if (any) yield { path: `${path}/anyOf`, ways: any.map(wayOf) };
    const one = listOf(place, 'oneOf');
    if (one) {
      // A schema that occurs twice in a `oneOf` can never be the only one that is satisfied.
      const ways = one.map((each, i) => ({ places: [each], excluded: one.filter((_, j) => j !== i) }));
      yield { path: `${path}/oneOf`, ways };
    }
    const when = placeOf(place, 'if');
    if (when && (keyword(schema, 'then') !== undefined || keyword(schema, 'else') !== undefined)) {
      const [then, otherwise] = [placeOf(place, 'then'), placeOf(place, 'else')];
      const not = { schema: { not: when.schema }, path: when.path };
      yield {
        path: `${path}/if`,
        ways: [
          { places: then ? [when, then] : [when], excluded: [] },
          { places: otherwise ? [not, otherwise] : [not], excluded: [] },
        ],
      };
    }
    const not = placeOf(place, 'not');
    if (not && !isPlainNot(not.schema)) {
      if (saysNothing(not.schema)) throw impossible(not.path, 'no value satisfies it');
      const ways = this.negation(not);
      if (ways.length === 0) throw unfollowable(not.path, 'what does not satisfy this cannot be told');
      yield { path: not.path, ways };
    }
    for (const key of ['dependentRequired', 'dependentSchemas', 'dependencies']) {
      const given = keyword(schema, key);
      if (given === undefined) continue;
      for (const [name, then] of Object.entries(given as Keywords)) {
        const at = `${path}/${key}/${name}`;
        const wanted = Array.isArray(then)
          ? { required: [name, ...then] }
          : { required: [name], allOf: [then] };
        yield {
          path: at,
          ways: [
            wayOf({ schema: wanted, path: at }),
            wayOf({ schema: { properties: Object.fromEntries([[name, false]]) }, path: at }),
          ],
        };
      }
    }
  }
}

function wayOf(place: Place): Way {
  return { places: [place], excluded: [] };
}

/** Values that all of some schemas list, by their JSON; undefined where none of them lists any. */
export function listedValues(bases: Iterable<Place>): Map<string, unknown> | undefined {
  let found: Map<string, unknown> | undefined;
  for (const { schema } of bases) {
    if (typeof schema === 'boolean') continue;
    for (const values of [
      Object.hasOwn(schema, 'const') ? [schema.const] : undefined,
      keyword(schema, 'enum'),
    ]) {
      if (!Array.isArray(values)) continue;
      const own = new Map(values.map((value) => [canonical(value), value]));
      found = found ? new Map([...found].filter(([key]) => own.has(key))) : own;
    }
  }
  return found;
}

const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'] as const;
/** The types of JSON Schema. */
export type Type = (typeof TYPES)[number];

/** Keywords from which the type is inferred where a schema has no `type`. */
const MEANT: Readonly<Record<string, readonly string[]>> = {
  object:
    'properties required additionalProperties patternProperties propertyNames minProperties maxProperties unevaluatedProperties'.split(
      ' ',
    ),
  array: 'items prefixItems additionalItems contains minItems maxItems uniqueItems'.split(' '),
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
};

/** The types that all of some schemas allow; where none of them tells any, those that their keywords are about. Undefined for all. */
export function typesOf(bases: Iterable<Place>): Set<Type> | undefined {
  let types: Set<Type> | undefined;
  const meant = new Set<Type>();
  for (const { schema, path } of bases) {
    if (typeof schema === 'boolean') continue;
    const given = keyword(schema, 'type');
    if (given === undefined) {
      for (const [type, keys] of Object.entries(MEANT)) {
        if (keys.some((key) => keyword(schema, key) !== undefined)) meant.add(type as Type);
      }
      continue;
    }
    const own = new Set([given].flat() as Type[]);
    for (const type of own) {
      if (!TYPES.includes(type))
        throw unfollowable(`${path}/type`, `the type ${JSON.stringify(type)} is not known`);
    }
    // OpenAPI 3.0 has `nullable` in place of the type `null`.
    if (keyword(schema, 'nullable') === true) own.add('null');
    types = types ? intersected(types, own) : own;
  }
  return types ?? (meant.size > 0 ? meant : undefined);
}

function intersected(a: ReadonlySet<Type>, b: ReadonlySet<Type>): Set<Type> {
  const has = (set: ReadonlySet<Type>, type: Type): boolean =>
    set.has(type) || (type === 'integer' && set.has('number'));
  return new Set([...a, ...b].filter((type) => has(a, type) && has(b, type)));
}

/** What an object's schemas say of one member. */
export interface MemberLookup {
  /** Schemas of a member of this name. */
  of(name: string): readonly Place[];
  readonly required: ReadonlySet<string>;
  readonly names: ReadonlySet<string>;
  /** Whether members of other names may be written. */
  readonly isOpen: boolean;
}

/**
 * Whether no value that is written for a conjunction satisfies a schema too, as far as can be seen: types, listed values, bounds, and
 * members that tell them apart. `members` says what is written of objects.
 */
export function areApart(
  bases: Iterable<Place>,
  other: Conjunction,
  members: (bases: Iterable<Place>) => MemberLookup,
  join: (places: readonly Place[]) => Conjunction,
  depth = 0,
): boolean {
  if (depth > 4) return false;
  const again = (from: Iterable<Place>, to: Conjunction): boolean =>
    areApart(from, to, members, join, depth + 1);
  for (const union of other.unions) {
    if (union.ways.every(({ places }) => again(bases, join(places)))) return true;
  }
  const [listed, excluded] = [listedValues(bases), listedValues(other.bases)];
  if (listed && excluded) return ![...listed.keys()].some((key) => excluded.has(key));
  const own = typesOf(bases);
  const others = typesOf([...other.bases].filter(({ schema }) => keyword(schema, 'type') !== undefined));
  if (!own) return false;
  const shared = others ? intersected(own, others) : own;
  if (listed) {
    const kinds = new Set([...listed.values()].map(typeOfValue));
    for (const type of shared) if (!kinds.has(type === 'integer' ? 'number' : type)) shared.delete(type);
  }
  if (shared.size === 0) return true;
  if ([...shared].some((type) => type !== 'object')) return false;
  const [a, b] = [members(bases), members(other.bases)];
  for (const name of b.required) {
    // A required member that `a` never has.
    if (!a.isOpen && !a.names.has(name)) return true;
  }
  const closed = [...other.bases].some(
    ({ schema }) =>
      keyword(schema, 'additionalProperties') === false && keyword(schema, 'patternProperties') === undefined,
  );
  for (const name of a.required) if (closed && !b.names.has(name)) return true;
  for (const name of a.names) {
    if (!b.names.has(name) || !(a.required.has(name) || b.required.has(name))) continue;
    const [mine, theirs] = [join(a.of(name)), join(b.of(name))];
    if (mine.unions.size === 0 && again(mine.bases, theirs)) return true;
  }
  return false;
}

function typeOfValue(value: unknown): Type {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value as Type;
}

/** The names that a schema and those that it is joined with speak of, for what it says of all others. */
export function evaluatedNames(
  place: Place,
  document: SchemaDocument,
  seen = new Set<unknown>(),
): Set<string> {
  const names = new Set<string>();
  const { schema } = place;
  if (typeof schema !== 'object' || schema === null || seen.has(schema)) return names;
  seen.add(schema);
  for (const name of namedOf(place, 'properties').keys()) names.add(name);
  const reference = keyword(schema, '$ref');
  const parts = [
    ...(reference === undefined ? [] : [document.resolve(reference, `${place.path}/$ref`)]),
    ...['allOf', 'anyOf', 'oneOf'].flatMap((key) => listOf(place, key) ?? []),
    ...['if', 'then', 'else'].flatMap((key) => placeOf(place, key) ?? []),
    ...namedOf(place, 'dependentSchemas').values(),
  ];
  for (const part of parts) for (const name of evaluatedNames(part, document, seen)) names.add(name);
  return names;
}

/** The names that schemas require. */
export function requiredNames(bases: Iterable<Place>): Set<string> {
  const names = new Set<string>();
  for (const base of bases) for (const name of namesOf(base, 'required')) names.add(name);
  return names;
}
