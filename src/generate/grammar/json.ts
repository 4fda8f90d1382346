/** Grammar nodes for JSON. */
import { choice, literal, maybe, type Node, reference, repeat, sequence, terminal } from './node.js';
import { NumberRange } from './number.js';
import type { Terminal } from './terminal.js';
import { textOfLength } from './text.js';

/** The most spaces of indentation. */
const INDENT = 32;

/** White space between tokens of JSON: none, a space, or a new line with indentation. */
const SPACE = maybe(choice(literal(' '), sequence(literal('\n'), repeat(literal(' '), 0, INDENT))));

const COMMA = sequence(SPACE, literal(','), SPACE);

/** A string whose content a terminal reads. */
export function stringOf(content: Terminal = ANY_TEXT, captured = false): Node {
  return sequence(literal('"'), terminal(content, captured), literal('"'));
}

const ANY_TEXT = textOfLength(0, Number.POSITIVE_INFINITY);

/** The items of an array; `least` and `most` are its length. */
export interface ArrayParts {
  /** The first items. */
  readonly first: readonly Node[];
  /** Every further item; undefined if there are none. */
  readonly rest: Node | undefined;
  readonly least: number;
  readonly most: number;
  /** As in `repeat`: whether the items must differ. `first` is empty then. */
  readonly distinct?: boolean;
}

/** `[`, items, `]`: any number of those of `first`, then items of `rest`, within the length. */
export function arrayOf({ first, rest, least, most, distinct = false }: ArrayParts): Node {
  const after = (count: number): Node => {
    const more = most - count;
    if (!rest || more <= 0) return literal('');
    const left = Math.max(0, least - count);
    if (count > 0) return repeat(sequence(COMMA, rest), left, more);
    return repeat(rest, left, more, { separator: COMMA, distinct });
  };
  const given = Math.min(first.length, most);
  // Built from the last item to the first: the array may end before each item that is not required.
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

/** The members of an object; `least` and `most` are their number. */
export interface ObjectParts {
  readonly members: readonly Member[];
  /** A further member, with its own name; undefined if there are none. */
  readonly more?: Node | undefined;
  readonly least?: number;
  readonly most?: number;
  /** The number of different names that further members can have, if names must differ; undefined if they may repeat. */
  readonly names?: number | undefined;
}

/** `{`, members in this order and then others, `}`. Undefined if no object has that number of members. */
export function objectOf({
  members,
  more,
  least = 0,
  most = Infinity,
  names,
}: ObjectParts): Node | undefined {
  const required = members.filter((member) => member.required).length;
  const counts = least > required || most < (more ? Infinity : members.length);
  // Without a limit it only matters whether a member came before.
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
function anyNumber(): Node {
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
