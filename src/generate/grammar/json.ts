/** The pieces that texts in JSON consist of. */
import { bytesOf, choice, literal, maybe, type Node, numberIn, reference, repeat, sequence } from './node.js';
import { NumberRange } from './number.js';

/** The most that a model may indent. */
const INDENT = 32;

/** Between two signs: nothing, a space, or a new line. */
export const SPACE = maybe(choice(literal(' '), sequence(literal('\n'), repeat(literal(' '), 0, INDENT))));

const HEX = bytesOf([0x30, 0x39], [0x41, 0x46], [0x61, 0x66]);
const CONTINUATION = bytesOf([0x80, 0xbf]);

/** A character beyond ASCII, in UTF-8: the shortest form, and no halves of surrogate pairs. */
const WIDE = choice(
  sequence(bytesOf([0xc2, 0xdf]), CONTINUATION),
  sequence(oneByte(0xe0), bytesOf([0xa0, 0xbf]), CONTINUATION),
  sequence(bytesOf([0xe1, 0xec], [0xee, 0xef]), CONTINUATION, CONTINUATION),
  sequence(oneByte(0xed), bytesOf([0x80, 0x9f]), CONTINUATION),
  sequence(oneByte(0xf0), bytesOf([0x90, 0xbf]), CONTINUATION, CONTINUATION),
  sequence(bytesOf([0xf1, 0xf3]), CONTINUATION, CONTINUATION, CONTINUATION),
  sequence(oneByte(0xf4), bytesOf([0x80, 0x8f]), CONTINUATION, CONTINUATION),
);

/** One character of a string. */
export const CHARACTER = choice(
  bytesOf([0x20, 0x21], [0x23, 0x5b], [0x5d, 0x7f]),
  WIDE,
  sequence(
    literal('\\'),
    choice(
      choice(...[...'"\\/bfnrt'].map(literal)),
      sequence(
        literal('u'),
        bytesOf([0x30, 0x39], [0x41, 0x43], [0x45, 0x46], [0x61, 0x63], [0x65, 0x66]),
        HEX,
        HEX,
        HEX,
      ),
      sequence(literal('u'), bytesOf([0x44, 0x44], [0x64, 0x64]), bytesOf([0x30, 0x37]), HEX, HEX),
    ),
  ),
);

export function stringOf(least = 0, most = Number.POSITIVE_INFINITY): Node {
  return quoted(repeat(CHARACTER, least, most));
}

export function quoted(content: Node): Node {
  return sequence(literal('"'), content, literal('"'));
}

/** `[`, values, `]`: the first ones as `first` says, then so many as `rest` says. */
export function arrayOf(first: readonly Node[], rest: Node | undefined, least: number, most: number): Node {
  const comma = sequence(SPACE, literal(','), SPACE);
  const others = (from: number): Node => {
    const parts = first.slice(from).flatMap((node) => [comma, node]);
    const more = most - first.length;
    if (!rest || more <= 0) return sequence(...parts, literal(''));
    const count = Math.max(from, first.length);
    return sequence(...parts, repeat(sequence(comma, rest), Math.max(0, least - count), most - count));
  };
  const one = first[0] ?? rest;
  const begins = one === undefined || most === 0 ? literal('') : sequence(one, others(1));
  const all = least === 0 && first.length === 0 && one !== undefined ? maybe(begins) : begins;
  return sequence(literal('['), SPACE, all, SPACE, literal(']'));
}

export interface Member {
  readonly name: string;
  readonly value: Node;
  readonly required: boolean;
}

/** `{`, members in this order, `}`. */
export function objectOf(members: readonly Member[]): Node {
  const comma = sequence(SPACE, literal(','), SPACE);
  let first = literal('');
  let more = literal('');
  for (const { name, value, required } of [...members].reverse()) {
    const member = sequence(literal(JSON.stringify(name)), SPACE, literal(':'), SPACE, value);
    const [later, laterMore] = [first, more];
    const begun = sequence(member, laterMore);
    const gone = sequence(comma, member, laterMore);
    first = required ? begun : choice(begun, later);
    more = required ? gone : choice(gone, laterMore);
  }
  return sequence(literal('{'), SPACE, first, SPACE, literal('}'));
}

/** `{`, so many members of any names, `}`. */
export function mapOf(value: Node, most: number): Node {
  const member = sequence(stringOf(), SPACE, literal(':'), SPACE, value);
  const more = repeat(sequence(SPACE, literal(','), SPACE, member), 0, most - 1);
  const members = most === 0 ? literal('') : maybe(sequence(member, more));
  return sequence(literal('{'), SPACE, members, SPACE, literal('}'));
}

export function anyNumber(): Node {
  return numberIn(new NumberRange({ integer: false }));
}

/** Any value. */
export const VALUE: Node = reference(() =>
  choice(
    anyObject(),
    arrayOf([], VALUE, 0, Number.POSITIVE_INFINITY),
    stringOf(),
    anyNumber(),
    literal('true'),
    literal('false'),
    literal('null'),
  ),
);

export function anyObject(): Node {
  return mapOf(VALUE, Number.POSITIVE_INFINITY);
}

function oneByte(byte: number): Node {
  return bytesOf([byte, byte]);
}
