/**
 * Random structural changes to JSON. A text is represented as a tree whose leaves and keys are kept as they are spelled, so that it
 * can contain what no JavaScript value can: a duplicate key, `-0`, a number of four hundred digits.
 */
import type { Random } from '../../nn/random.js';

/** The spelling of a literal, a list, or an object whose keys include their quotes. */
export type Tree = string | Tree[] | { members: [key: string, value: Tree][] };

/** A random element of `choices`. */
export function pick<T>(random: Random, choices: readonly T[]): T {
  return choices[random.below(choices.length)]!;
}

/** A JavaScript value as a tree; a map becomes an object, in its order and with any keys. */
export function treeOf(value: unknown): Tree {
  if (Array.isArray(value)) return value.map(treeOf);
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const entries = value instanceof Map ? [...value] : Object.entries(value);
  return { members: entries.map(([key, member]) => [JSON.stringify(key), treeOf(member)]) };
}

/** The JSON text of a tree. */
export function spell(tree: Tree): string {
  if (typeof tree === 'string') return tree;
  if (Array.isArray(tree)) return `[${tree.map(spell).join(',')}]`;
  return `{${tree.members.map(([key, value]) => `${key}:${spell(value)}`).join(',')}}`;
}

/** Makes one change somewhere below the root; `strangers` are literals with a meaning for the reader of the text. */
export function damageTree(random: Random, root: Tree, strangers: readonly string[]): void {
  const parents = branchesOf(root).filter((branch) => slotsOf(branch).length > 0);
  if (parents.length === 0) return;
  const parent = pick(random, parents);
  const slot = random.below(slotsOf(parent).length);
  const value = slotsOf(parent)[slot]!;
  const stranger = () => pick(random, random.below(2) ? strangers : oddities);
  const change = random.below(8);
  if (change === 0) setSlot(parent, slot, stranger());
  else if (change === 1) slotsIn(parent).splice(slot, 1);
  else if (change === 2) setSlot(parent, slot, nudged(random, value));
  else if (change === 3) {
    // Duplicates the element or key, with this value or another.
    const again = random.below(2) ? value : stranger();
    if (Array.isArray(parent)) parent.splice(slot, 0, again);
    else parent.members.push([respelled(random, parent.members[slot]![0]), again]);
  } else if (change === 4) {
    if (Array.isArray(parent)) parent.push(stranger());
    else parent.members.push([pick(random, keys), stranger()]);
  } else if (change === 5) {
    if (!Array.isArray(parent)) parent.members[slot]![0] = pick(random, keys);
  } else if (change === 6) {
    const other = pick(random, parents);
    const place = random.below(slotsOf(other).length);
    // A branch cannot be swapped with one that contains it.
    if (branchesOf(value).includes(other)) return;
    const moved = slotsOf(other)[place]!;
    if (branchesOf(moved).includes(parent)) return;
    setSlot(parent, slot, moved);
    setSlot(other, place, value);
  } else {
    const depth = pick(random, [1, 2, 4, 20_000]);
    setSlot(parent, slot, `${'['.repeat(depth)}${spell(value)}${']'.repeat(depth)}`);
  }
}

/** Makes one change to the text without regard to its structure. */
export function damageText(random: Random, text: string): string {
  const at = random.below(text.length + 1);
  switch (random.below(7)) {
    case 0:
      return text.slice(0, at);
    case 1:
      return text.slice(at);
    case 2:
      return text.slice(0, at) + text.slice(at + 1 + random.below(3));
    case 3:
      return text.slice(0, at) + pick(random, fragments) + text.slice(at);
    case 4:
      return text + ' '.repeat(random.below(20));
    case 5:
      return pick(random, oddities);
    default:
      return `\ufeff${text}`;
  }
}

/** Literals that readers seldom expect. */
export const oddities: readonly string[] = [
  ...['null', 'true', 'false', '""', '"0"', '"\\ud800"', '[]', '{}', '[null]', '{"":0}', '[[[[]]]]'],
  ...['-1', '-0', '0', '1', '1.0', '0.5', '8', '1e3', '1e309', '-1e309', '4294967296', '2147483648'],
  ...['9007199254740991', '9007199254740992', '18446744073709551616', '9'.repeat(400), '1e-400'],
  ...['"__proto__"', '"constructor"', '"toString"', '{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{}}}}}}}}}'],
];

/** Keys with a meaning in JavaScript, and other keys that readers seldom expect. */
const keys: readonly string[] = [
  ...['"__proto__"', '"constructor"', '"hasOwnProperty"', '"toString"', '"length"', '""', '"0"', '"-1"'],
  ...['"__metadata__"', '"weight_map"', '"metadata"', '"dtype"', '"shape"', '"data_offsets"'],
  ...['"\\ud800"', '"\\u001b[2J"', '"größe"', '"\\u202e"', `"${'x'.repeat(5000)}"`],
];

const fragments: readonly string[] = [
  ...['{', '}', '[', ']', '"', ',', ':', '\\', '\\u', '-', 'e', '.', '0', ' ', '\n', '\u0000', 'é', '\u2028'],
  ...['[]', '{}', '{}"x"', '"x"', '//', 'NaN', 'Infinity', '['.repeat(50_000), '{"a":'.repeat(20_000)],
];

/** All objects and lists of a tree, the root first. */
function branchesOf(tree: Tree): Exclude<Tree, string>[] {
  if (typeof tree === 'string') return [];
  return [tree, ...slotsOf(tree).flatMap(branchesOf)];
}

function slotsOf(branch: Exclude<Tree, string>): readonly Tree[] {
  return Array.isArray(branch) ? branch : branch.members.map(([, value]) => value);
}

function slotsIn(branch: Exclude<Tree, string>): unknown[] {
  return Array.isArray(branch) ? branch : branch.members;
}

function setSlot(branch: Exclude<Tree, string>, slot: number, value: Tree): void {
  if (Array.isArray(branch)) branch[slot] = value;
  else branch.members[slot]![1] = value;
}

/** A number changed by a little or a lot; any other value as a string. */
function nudged(random: Random, value: Tree): Tree {
  const number = Number(value);
  if (typeof value !== 'string' || Number.isNaN(number)) return JSON.stringify(spell(value));
  const others = [number - 1, number + 1, number + 8, number * 2, number + 0.5, number + 2 ** 53];
  return pick(random, [`-${value}`, ...others.map(String)]);
}

/** The key, or the same key with its first character as a `\u` escape. */
function respelled(random: Random, key: string): string {
  if (random.below(2) === 0 || key.length < 3 || key[1] === '\\') return key;
  return `"\\u${key.charCodeAt(1).toString(16).padStart(4, '0')}${key.slice(2)}`;
}
