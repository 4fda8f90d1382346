/** The pieces that texts in JSON consist of. */
import { choice, literal, maybe, type Node, reference, repeat, sequence, terminal } from './node.js';
import { NumberRange } from './number.js';
import type { Terminal } from './terminal.js';
import { textOfLength } from './text.js';

/** The most that a model may indent. */
const INDENT = 32;

/** Between two signs: nothing, a space, or a new line. */
const SPACE = maybe(choice(literal(' '), sequence(literal('\n'), repeat(literal(' '), 0, INDENT))));

const COMMA = sequence(SPACE, literal(','), SPACE);

/** A string whose content a terminal reads. */
export function stringOf(content: Terminal = ANY_TEXT, captured = false): Node {
  return sequence(literal('"'), terminal(content, captured), literal('"'));
}

const ANY_TEXT = textOfLength(0, Number.POSITIVE_INFINITY);

/** What the items of an array are; `least` and `most` are its length. */
export interface ArrayParts {
  /** The first items. */
  readonly first: readonly Node[];
  /** All further ones; undefined where there are none. */
  readonly rest: Node | undefined;
  readonly least: number;
  readonly most: number;
  /** As `repeat` has it, where the items differ; then `first` is empty. */
  readonly distinct?: boolean;
}

/** `[`, values, `]`: the first ones as `first` says, any number of them, then so many as `rest` says. */
export function arrayOf({ first, rest, least, most, distinct = false }: ArrayParts): Node {
  const after = (count: number): Node => {
    const more = most - count;
    if (!rest || more <= 0) return literal('');
    const left = Math.max(0, least - count);
    if (count > 0) return repeat(sequence(COMMA, rest), left, more);
    return repeat(rest, left, more, { separator: COMMA, distinct });
  };
  const given = Math.min(first.length, most);
  // From the last item to the first: an array may end before each that it does not have to have.
  let items = after(given);
  for (let i = given - 1; i >= 0; i--) {
    const item = i === 0 ? sequence(first[i]!, items) : sequence(COMMA, first[i]!, items);
    items = i >= least ? maybe(item) : item;
  }
  return sequence(literal('['), SPACE, items, SPACE, literal(']'));
}

/** A named member of an object. */
export interface Member {
  readonly name: string;
  readonly value: Node;
  readonly required: boolean;
}

/** What the members of an object are; `least` and `most` count all of them. */
export interface ObjectParts {
  readonly members: readonly Member[];
  /** One member more, with a name of its own; undefined where there are none. */
  readonly more?: Node | undefined;
  readonly least?: number;
  readonly most?: number;
  /** Further members have different names, of which there are so many; undefined where names may come again. */
  readonly names?: number | undefined;
}

/** `{`, members in this order and then others, `}`. Undefined where no object has so many members. */
export function objectOf({
  members,
  more,
  least = 0,
  most = Infinity,
  names,
}: ObjectParts): Node | undefined {
  const required = members.filter((member) => member.required).length;
  const counts = least > required || most < (more ? Infinity : members.length);
  // Without a limit it matters only whether there was a member before.
  const top = counts ? Math.max(1, Math.min(members.length, most === Infinity ? least : most)) : 1;
  const end = (count: number): Node | undefined => {
    const left = counts ? Math.max(0, least - count) : 0;
    const room = Math.min(counts ? most - count : Infinity, names ?? Infinity);
    if (left > room) return undefined;
    if (!more || room <= 0) return left === 0 ? literal('') : undefined;
    const others = repeat(more, Math.max(1, left), room, {
      separator: COMMA,
      distinct: names !== undefined,
    });
    const behind = count > 0 ? sequence(COMMA, others) : others;
    return left === 0 ? maybe(behind) : behind;
  };
  let after = Array.from({ length: top + 1 }, (_, count) => end(count));
  for (const { name, value, required: must } of [...members].reverse()) {
    const member = sequence(literal(JSON.stringify(name)), SPACE, literal(':'), SPACE, value);
    after = after.map((without, count) => {
      const next = after[Math.min(count + 1, top)];
      const ways: Node[] = [];
      if (next && (!counts || count < most)) {
        ways.push(count > 0 ? sequence(COMMA, member, next) : sequence(member, next));
      }
      if (without && !must) ways.push(without);
      return ways.length > 0 ? choice(...ways) : undefined;
    });
  }
  const [content] = after;
  return content && sequence(literal('{'), SPACE, content, SPACE, literal('}'));
}

/** A member of any name that a terminal reads. */
export function memberOf(name: Terminal, value: Node, captured = false): Node {
  return sequence(stringOf(name, captured), SPACE, literal(':'), SPACE, value);
}

/** Any number of JSON. */
export function anyNumber(): Node {
  return terminal(new NumberRange({ integer: false }));
}

/** Any value. */
export const VALUE: Node = reference(() =>
  choice(
    anyObject(),
    arrayOf({ first: [], rest: VALUE, least: 0, most: Infinity }),
    stringOf(),
    anyNumber(),
    literal('true'),
    literal('false'),
    literal('null'),
  ),
);

/** An object with any members. */
export function anyObject(): Node {
  return objectOf({ members: [], more: memberOf(ANY_TEXT, VALUE) })!;
}
