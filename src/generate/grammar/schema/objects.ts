/** What objects have to be. */
import { type Member, memberOf, objectOf } from '../json.js';
import { choice, type Node } from '../node.js';
import { shortTexts } from '../seen.js';
import type { Terminal } from '../terminal.js';
import { plainText } from '../text.js';
import { MANY_DISTINCT } from './arrays.js';
import type { Compiler } from './compiler.js';
import { evaluatedNames, listedValues, type MemberLookup, requiredNames } from './conjunction.js';
import { Impossible, impossible, limitOf, namedOf, type Place, placeOf, Unfollowable } from './document.js';
import { stringTerminal } from './string-node.js';

/** What one schema says of members. */
interface Members {
  readonly place: Place;
  readonly named: ReadonlyMap<string, Place>;
  readonly patterns: ReadonlyMap<string, Place>;
  /** Of all that it does not speak of otherwise. */
  readonly others: Place | undefined;
  /** Names that `others` is not about, though they are said of elsewhere. */
  readonly evaluated: ReadonlySet<string>;
}

/**
 * The objects that all of these schemas allow. Throws `ConfigError`, with the path, where there are none or a keyword is not understood.
 */
export function objectNode(places: readonly Place[], path: string, compiler: Compiler): Node {
  const all = places.map((place) => membersOf(place, compiler));
  const ofNames = places.flatMap((place) => placeOf(place, 'propertyNames') ?? []);
  const required = requiredNames(places);
  const listed = ofNames.length > 0 ? listedNames(ofNames, compiler) : undefined;
  const named = new Set(all.flatMap((each) => [...each.named.keys()]));
  const names = new Set([...named, ...required, ...(listed ?? [])]);
  const least = Math.max(0, ...places.map((place) => limitOf(place, 'minProperties') ?? 0));
  const most = Math.min(Infinity, ...places.map((place) => limitOf(place, 'maxProperties') ?? Infinity));
  const members: Member[] = [];
  for (const name of names) {
    compiler.work.spend(20);
    const isRequired = required.has(name);
    try {
      if (!compiler.holds(name, ofNames))
        throw impossible(path, `the name ${JSON.stringify(name)} is excluded`);
      const about = all.flatMap((each) => aboutName(each, name, compiler));
      members.push({ name, value: compiler.node(about, `${path}/properties/${name}`), required: isRequired });
    } catch (error) {
      // A member that cannot be need not be.
      if (isRequired || !(error instanceof Impossible)) throw error;
    }
  }
  const isMap = named.size === 0 && !listed;
  const wanted = Math.max(0, least - members.length);
  const further = listed
    ? []
    : furtherMembers(all, ofNames, names, { isMap, isWanted: wanted > 0, path, compiler });
  const must = least - members.filter((member) => member.required).length;
  // A name that comes twice counts once.
  const isDistinct = must >= 2;
  const kept = isDistinct ? further.map(({ name, value }) => ({ name: plainText(name), value })) : further;
  const more =
    kept.length > 0 ? choice(...kept.map(({ name, value }) => memberOf(name, value, isDistinct))) : undefined;
  compiler.work.spend(
    members.length * Math.min(members.length, Math.max(1, most === Infinity ? least : most)) * 5,
  );
  const node = objectOf({
    members,
    more,
    least,
    most,
    ...(isDistinct && { names: countNames(kept, must, compiler) }),
  });
  if (!node) throw impossible(path, 'no object has as many members as it asks for');
  return node;
}

function membersOf(place: Place, compiler: Compiler): Members {
  const named = namedOf(place, 'properties');
  const additional = placeOf(place, 'additionalProperties');
  const unevaluated = additional ? undefined : placeOf(place, 'unevaluatedProperties');
  return {
    place,
    named,
    patterns: namedOf(place, 'patternProperties'),
    others: additional ?? unevaluated,
    evaluated: unevaluated ? evaluatedNames(place, compiler.document) : new Set(),
  };
}

/** The schemas of a member of this name. */
function aboutName(
  { place, named, patterns, others, evaluated }: Members,
  name: string,
  compiler: Compiler,
): Place[] {
  const { strings } = compiler;
  const found: Place[] = [];
  const own = named.get(name);
  if (own) found.push(own);
  let isSaid = own !== undefined || evaluated.has(name);
  for (const [pattern, each] of patterns) {
    const path = `${place.path}/patternProperties`;
    if (strings.mayMatch(pattern, name, path)) found.push(each);
    isSaid ||= strings.matches(pattern, name, path);
  }
  if (!isSaid && others) found.push(others);
  return found;
}

interface Further {
  readonly name: Terminal;
  readonly value: Node;
}

/** Members of other names: those that a pattern speaks of, and all others where it is said what they are, or where any will do. */
function furtherMembers(
  all: readonly Members[],
  ofNames: readonly Place[],
  names: ReadonlySet<string>,
  {
    isMap,
    isWanted,
    path,
    compiler,
  }: { isMap: boolean; isWanted: boolean; path: string; compiler: Compiler },
): Further[] {
  const { strings } = compiler;
  const patterns = new Map<string, Place[]>();
  for (const each of all) {
    for (const [pattern, place] of each.patterns)
      patterns.set(pattern, [...(patterns.get(pattern) ?? []), place]);
  }
  const words = [...names];
  const nameOf = (fits: readonly string[], refused: readonly string[]): Terminal => {
    const joined = compiler.join(ofNames);
    if (joined.unions.size > 0)
      throw new Unfollowable(`the schema cannot be followed at ${path}/propertyNames: it leaves a choice`);
    return stringTerminal([...joined.bases], {
      words,
      path: `${path}/propertyNames`,
      strings,
      patterns: fits,
      refused,
    });
  };
  const makers: (() => Further)[] = [];
  for (const [pattern, about] of patterns) {
    const others = [...patterns.keys()].filter((each) => each !== pattern);
    const more = all.flatMap((each) => (each.patterns.has(pattern) ? [] : (each.others ?? [])));
    makers.push(() => ({
      name: nameOf([pattern], others),
      value: compiler.node([...about, ...more], `${path}/patternProperties/${pattern}`),
    }));
  }
  const about = all.flatMap(({ others }) => others ?? []);
  const isSaid = about.some(({ schema }) => typeof schema === 'object' && Object.keys(schema).length > 0);
  if ((isMap && patterns.size === 0) || isSaid || isWanted) {
    makers.push(() => ({
      name: nameOf([], [...patterns.keys()]),
      value: compiler.node(about, `${path}/additionalProperties`),
    }));
  }
  const found: Further[] = [];
  for (const make of makers) {
    try {
      found.push(make());
    } catch (error) {
      // Without them there still are objects.
      if (error instanceof Impossible) continue;
      if (error instanceof Unfollowable && !isMap && !isWanted) continue;
      throw error;
    }
  }
  return found;
}

/** How many different names there are, up to a limit; `wanted` of them may be needed. */
function countNames(further: readonly Further[], wanted: number, { work }: Compiler): number {
  const count = Math.min(wanted, MANY_DISTINCT);
  const names = new Set(further.flatMap(({ name }) => shortTexts(name, count, (steps) => work.spend(steps))));
  return names.size < count ? names.size : MANY_DISTINCT;
}

/** All names that there may be, if they are listed. */
function listedNames(ofNames: readonly Place[], compiler: Compiler): string[] | undefined {
  const { bases } = compiler.join(ofNames);
  const values = listedValues(bases);
  return values && [...values.values()].filter((value) => typeof value === 'string');
}

/** What is written of objects that satisfy some schemas. */
export function memberLookup(places: readonly Place[], compiler: Compiler): MemberLookup {
  const all = places.map((place) => membersOf(place, compiler));
  const required = requiredNames(places);
  const names = new Set(all.flatMap((each) => [...each.named.keys()]));
  const hasOthers = all.some(
    ({ others, patterns }) => patterns.size > 0 || (others !== undefined && others.schema !== false),
  );
  const isWanted = places.some((place) => (limitOf(place, 'minProperties') ?? 0) > 0);
  return {
    of: (name) => all.flatMap((each) => aboutName(each, name, compiler)),
    required,
    names: new Set([...names, ...required]),
    isOpen: names.size === 0 || hasOthers || isWanted,
  };
}
