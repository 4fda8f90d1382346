/**
 * JSON schemas as grammars: every text that a grammar lets through is a value that its schema holds for. The other way round it
 * need not be: members come in the order in which the schema names them, and those that it does not name come only where it says
 * what they are. A keyword of which that cannot be promised is refused, but for one way among several, which is left out.
 */
import { ConfigError } from '../../../errors.js';
import { costsOf } from '../costs.js';
import { VALUE } from '../json.js';
import { LONGEST_END } from '../matcher.js';
import { choice, literal, type Node, reference, terminal } from '../node.js';
import { Words } from '../terminal.js';
import { Work } from '../work.js';
import { arrayNode } from './arrays.js';
import { type Checker, satisfies } from './check.js';
import {
  areApart,
  type Conjunction,
  Conjunctions,
  listedValues,
  type Type,
  typesOf,
  type Union,
  type Way,
} from './conjunction.js';
import {
  Impossible,
  impossible,
  keyword,
  type Place,
  type Schema,
  SchemaDocument,
  Unfollowable,
  unfollowable,
} from './document.js';
import { numberNode } from './numbers.js';
import { memberLookup, objectNode } from './objects.js';
import { stringNode, stringWords } from './string-node.js';
import { Strings } from './strings.js';

/**
 * A grammar of values that a schema holds for. Throws `ConfigError`, with the place in the schema as a JSON pointer, for what cannot be
 * promised, and for what would take too much work.
 */
export function schemaNode(schema: unknown, work = new Work()): Node {
  try {
    return compiled(schema, work);
  } catch (error) {
    // The kinds of refusals are told apart in here alone; the server knows an error by its class.
    throw error instanceof ConfigError ? new ConfigError(error.message) : error;
  }
}

function compiled(schema: unknown, work: Work): Node {
  const document = new SchemaDocument(schema, work);
  const compiler = new Compiler(document, work);
  const node = compiler.node([{ schema: schema as Schema, path: '#' }], '#');
  const cost = costsOf(node, work).get(node)!;
  if (cost === Infinity)
    throw impossible('#', 'no value of it has an end: it refers to itself in all of its ways');
  if (cost > LONGEST_END) throw unfollowable('#', `its shortest value has ${cost} characters`);
  return node;
}

/** What a conjunction became, or why it did not. */
interface Made {
  readonly placeholder: Node;
  node?: Node;
  error?: unknown;
}

/** Schemas in schemas, through references too. */
const DEEPEST = 250;

/** Turns the schemas of one document into grammar nodes, and keeps those that it made. */
export class Compiler implements Checker {
  readonly strings: Strings;
  private readonly conjunctions: Conjunctions;
  private readonly made = new Map<string, Made>();
  private readonly ids = new Map<object, number>();
  private depth = 0;

  constructor(
    readonly document: SchemaDocument,
    readonly work: Work,
  ) {
    this.strings = new Strings(work);
    this.conjunctions = new Conjunctions(document);
  }

  resolve(name: unknown, path: string): Place {
    return this.document.resolve(name, path);
  }

  /** Whether a value certainly satisfies all of some schemas. */
  holds(value: unknown, places: Iterable<Place>): boolean {
    for (const place of places) if (!satisfies(value, place, this)) return false;
    return true;
  }

  /** A grammar of what satisfies several schemas. Throws `Unfollowable` or `Impossible`. */
  node(places: readonly Place[], path: string): Node {
    return this.conjunction(this.join(places), path);
  }

  join(places: readonly Place[], before?: Conjunction): Conjunction {
    const joined = this.conjunctions.join(places, before);
    this.work.spend(100 + 10 * (joined.bases.size + joined.unions.size + joined.excluded.size));
    return joined;
  }

  private conjunction(conjunction: Conjunction, path: string): Node {
    const key = this.keyOf(conjunction);
    const known = this.made.get(key);
    if (known?.error) throw known.error;
    if (known) return known.node ?? known.placeholder;
    const made: Made = { placeholder: reference(() => made.node!) };
    this.made.set(key, made);
    this.depth++;
    try {
      if (this.depth > DEEPEST) throw unfollowable(path, `it is nested more than ${DEEPEST} levels deep`);
      this.work.spend(50);
      made.node = this.make(conjunction, path);
    } catch (error) {
      made.error = error;
      // Whoever met it on the way here can do nothing with it.
      made.node = choice();
      throw error;
    } finally {
      this.depth--;
    }
    return made.node;
  }

  private keyOf({ bases, unions, excluded }: Conjunction): string {
    const idOf = (of: object): number => {
      let id = this.ids.get(of);
      if (id === undefined) {
        id = this.ids.size;
        this.ids.set(of, id);
      }
      return id;
    };
    const all = [bases, unions, excluded].map((set) => [...set].map(idOf).sort((a, b) => a - b));
    this.work.spend(4 * (bases.size + unions.size + excluded.size));
    return all.map((ids) => ids.join(' ')).join('|');
  }

  private make(conjunction: Conjunction, path: string): Node {
    const { bases, unions, excluded } = conjunction;
    const [union] = unions;
    if (union) return this.oneWay(union, { bases, unions: without(unions, union), excluded }, path);
    for (const place of excluded) {
      const left = without(excluded, place);
      if (this.isApart(bases, place)) return this.conjunction({ bases, unions, excluded: left }, path);
      const ways = listedValues(bases) ? [] : this.conjunctions.negation(place);
      if (ways.length > 0) {
        return this.oneWay({ path: place.path, ways }, { bases, unions, excluded: left }, path);
      }
      if (!listedValues(bases)) {
        throw unfollowable(
          place.path,
          'others of oneOf may hold for the same value: tell them apart by a required constant, or use anyOf',
        );
      }
    }
    return this.leaf(bases, excluded, path);
  }

  /** The ways that can be followed; what others say is told where there is none. */
  private oneWay({ ways, path: where }: Union, rest: Conjunction, path: string): Node {
    return this.firstOf(
      ways.map(({ places, excluded }: Way) => () => {
        const joined = this.join(places, rest);
        return this.conjunction({ ...joined, excluded: new Set([...joined.excluded, ...excluded]) }, path);
      }),
      where,
    );
  }

  /** A choice of all that can be made. Throws what the first that cannot throws. */
  firstOf(makers: readonly (() => Node)[], path: string): Node {
    const nodes = new Set<Node>();
    let failure: ConfigError | undefined;
    for (const make of makers) {
      try {
        nodes.add(make());
      } catch (error) {
        if (!(error instanceof Unfollowable || error instanceof Impossible)) throw error;
        // What cannot be followed says more than what nothing satisfies.
        if (!failure || (failure instanceof Impossible && error instanceof Unfollowable)) failure = error;
      }
    }
    if (nodes.size > 0) return choice(...nodes);
    throw failure ?? impossible(path, 'it is empty');
  }

  private isApart(bases: Iterable<Place>, place: Place): boolean {
    let other: Conjunction;
    try {
      other = this.join([place]);
    } catch (error) {
      if (error instanceof Impossible) return true;
      throw error;
    }
    const members = (of: Iterable<Place>) => memberLookup([...of], this);
    return areApart(bases, other, members, (places) => this.join(places));
  }

  /** Schemas without choices. */
  private leaf(bases: Conjunction['bases'], excluded: Conjunction['excluded'], path: string): Node {
    const where = [...bases][0]?.path ?? path;
    const listed = listedValues(bases);
    if (listed) {
      const fitting = [...listed.values()].filter(
        (value) =>
          this.holds(value, [...bases].map(withoutChoices)) &&
          ![...excluded].some((place) => satisfies(value, place, this)),
      );
      if (fitting.length === 0) throw impossible(where, 'none of its values satisfies all that it asks for');
      return terminal(new Words(fitting.map((value) => JSON.stringify(value))));
    }
    const places = [...bases];
    const types = typesOf(places);
    if (!types) {
      const says = places.some(({ schema }) => keyword(schema, 'not') !== undefined);
      if (!says) return VALUE;
    }
    const all: readonly Type[] = ['object', 'array', 'string', 'number', 'boolean', 'null'];
    const own = types ? [...types].filter((type) => type !== 'integer' || !types.has('number')) : all;
    if (own.length === 0) throw impossible(where, 'the types that it asks for exclude each other');
    return this.firstOf(
      own.map((type) => () => this.typed(type, places, where)),
      where,
    );
  }

  private typed(type: Type, places: readonly Place[], path: string): Node {
    const refused = refusedValues(places);
    // Only a string does not match a pattern.
    const isPattern = places.some(
      ({ schema }) => keyword(keyword(schema, 'not') as Schema, 'pattern') !== undefined,
    );
    if (isPattern && type !== 'string') throw impossible(path, 'only strings do not match a pattern');
    switch (type) {
      case 'object':
        if (refused.some((value) => typeof value === 'object' && value !== null && !Array.isArray(value))) {
          throw unfollowable(path, 'it must not be one certain object');
        }
        return objectNode(places, path, this);
      case 'array':
        if (refused.some(Array.isArray)) throw unfollowable(path, 'it must not be one certain list');
        return arrayNode(places, path, this);
      case 'string':
        return stringNode(places, stringWords(refused), path, this.strings);
      case 'number':
      case 'integer':
        return numberNode(
          type,
          places,
          refused.filter((value) => typeof value === 'number'),
          path,
        );
      case 'boolean':
      case 'null': {
        const values = (type === 'null' ? [null] : [true, false]).filter((value) => !refused.includes(value));
        if (values.length === 0) throw impossible(path, 'it must not be what it may only be');
        return choice(...values.map((value) => literal(String(value))));
      }
    }
  }
}

function without<T>(set: ReadonlySet<T>, item: T): Set<T> {
  const left = new Set(set);
  left.delete(item);
  return left;
}

/** Values that must not come. */
function refusedValues(places: readonly Place[]): unknown[] {
  return places.flatMap(({ schema }) => {
    const not = keyword(schema, 'not') as Schema | undefined;
    if (typeof not !== 'object') return [];
    const values = keyword(not, 'enum');
    return [...(Array.isArray(values) ? values : []), ...(Object.hasOwn(not, 'const') ? [not.const] : [])];
  });
}

/** A schema without what was joined with it already, or of which a way was taken. */
function withoutChoices({ schema, path }: Place): Place {
  if (typeof schema === 'boolean') return { schema, path };
  const left = Object.entries(schema).filter(
    ([key]) =>
      !['$ref', '$dynamicRef', '$recursiveRef', 'allOf', 'anyOf', 'oneOf', 'if', 'then', 'else'].includes(
        key,
      ),
  );
  return { schema: Object.fromEntries(left), path };
}
