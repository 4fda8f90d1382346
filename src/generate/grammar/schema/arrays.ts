/** What arrays have to be. */
import { type ArrayParts, arrayOf } from '../json.js';
import type { Node } from '../node.js';
import type { Compiler } from './compiler.js';
import { distinctNode } from './distinct.js';
import {
  Impossible,
  impossible,
  keyword,
  limitOf,
  listOf,
  type Place,
  placeOf,
  unfollowable,
} from './document.js';

/** What one schema says of items. */
interface Items {
  readonly first: readonly Place[];
  readonly rest: Place | undefined;
}

/** Of different items there are at most so many, since each is held against all others. */
export const MANY_DISTINCT = 1000;

/** The arrays that all of these schemas allow. Throws `ConfigError`, with the path, where there are none or a keyword is not understood. */
export function arrayNode(places: readonly Place[], path: string, compiler: Compiler): Node {
  const all = places.map(itemsOf);
  const required = wantedItems(places);
  let least = Math.max(0, ...places.map((place) => limitOf(place, 'minItems') ?? 0));
  let most = Math.min(Infinity, ...places.map((place) => limitOf(place, 'maxItems') ?? Infinity));
  const told = Math.max(0, ...all.map(({ first }) => first.length));
  const length = Math.max(told, required.places.length);
  // A tuple is written whole, unless it is said that it may be shorter.
  const mayBeShort = places.some((place) => limitOf(place, 'minItems') !== undefined);
  if (!mayBeShort) least = Math.max(least, Math.min(told, most));
  least = Math.max(least, required.places.length);
  const placesAt = (i: number): Place[] => [
    ...all.flatMap(({ first, rest }) => first[i] ?? rest ?? []),
    ...(required.places[i] ?? required.others),
  ];
  const first: Node[] = [];
  for (let i = 0; i < Math.min(length, most); i++) {
    compiler.work.spend(1);
    const node = attempt(() => compiler.node(placesAt(i), `${path}/items/${i}`));
    if (node) first.push(node);
    else most = i;
  }
  const isOpen =
    told === 0 || least > length || all.some(({ first: own, rest }) => own.length < length && rest);
  const rest =
    most > length && (isOpen || all.some((items) => items.rest))
      ? attempt(() => compiler.node(placesAt(Infinity), `${path}/items`))
      : undefined;
  if (!rest) most = Math.min(most, first.length);
  if (most < least) throw impossible(path, 'no array has as many items as it asks for');
  const isSet = places.some(({ schema }) => keyword(schema, 'uniqueItems') === true);
  if (!isSet || most <= 1) return arrayOf({ first, rest, least, most });
  return setOf({ first, rest, least, most }, path, compiler);
}

/** An array whose items differ. */
function setOf({ first, rest, least, most }: ArrayParts, path: string, { work }: Compiler): Node {
  if (least > MANY_DISTINCT) {
    throw unfollowable(`${path}/uniqueItems`, `it asks for more than ${MANY_DISTINCT} different items`);
  }
  const distinct = first.length === 0 && rest ? distinctNode(rest, least, work) : undefined;
  if (distinct) {
    if (distinct.texts.size < least) throw impossible(path, `there are no ${least} different items`);
    return arrayOf({
      first,
      rest: distinct.node,
      least,
      most: Math.min(most, MANY_DISTINCT),
      distinct: true,
    });
  }
  // One item differs from all others.
  if (least <= 1) return arrayOf({ first: first.slice(0, 1), rest, least, most: 1 });
  throw unfollowable(`${path}/uniqueItems`, 'it cannot be promised that items of this kind differ');
}

function itemsOf(place: Place): Items {
  const { schema } = place;
  const items = keyword(schema, 'items');
  const unevaluated = placeOf(place, 'unevaluatedItems');
  if (Array.isArray(items)) {
    return { first: listOf(place, 'items')!, rest: placeOf(place, 'additionalItems') ?? unevaluated };
  }
  return { first: listOf(place, 'prefixItems') ?? [], rest: placeOf(place, 'items') ?? unevaluated };
}

/** Items that `contains` asks for come first; what must not come more often is none of the others. */
function wantedItems(places: readonly Place[]): {
  places: readonly (readonly Place[])[];
  others: readonly Place[];
} {
  const wanted: Place[][] = [];
  const others: Place[] = [];
  for (const place of places) {
    const contains = placeOf(place, 'contains');
    if (!contains) continue;
    const least = limitOf(place, 'minContains') ?? 1;
    const most = limitOf(place, 'maxContains') ?? Infinity;
    if (least > most) throw impossible(place.path, 'minContains is greater than maxContains');
    if (least > 1000) throw unfollowable(`${place.path}/minContains`, 'it is more than 1000');
    for (let i = 0; i < least; i++) wanted.push([contains]);
    if (most !== Infinity) {
      others.push({ schema: negationOf(contains), path: `${place.path}/contains` });
    }
  }
  // What one asks for must not count for another one.
  if (others.length > 0) {
    if (others.length > 1 || new Set(wanted.flat()).size > 1) {
      throw unfollowable(places[0]!.path, 'several of contains, with a greatest number');
    }
  }
  return { places: wanted, others };
}

const negations = new WeakMap<object, { not: unknown }>();

/** The same object for the same schema, so that it is found again. */
function negationOf({ schema }: Place): { not: unknown } {
  if (typeof schema !== 'object' || schema === null) return { not: schema };
  let not = negations.get(schema);
  if (!not) {
    not = { not: schema };
    negations.set(schema, not);
  }
  return not;
}

/** Undefined where nothing can be made that satisfies all. */
function attempt(make: () => Node): Node | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof Impossible) return undefined;
    throw error;
  }
}
