/** Grammars of bytes: what a text may be, put together from few kinds of nodes. They may refer to each other in circles. */
import type { NumberRange } from './number.js';

export type Node =
  | { readonly kind: 'bytes'; readonly id: number; readonly bytes: Uint8Array }
  /** One byte: `has[byte]` is 1 for those that it may be. */
  | { readonly kind: 'set'; readonly id: number; readonly has: Uint8Array }
  | { readonly kind: 'sequence'; readonly id: number; readonly nodes: readonly Node[] }
  | { readonly kind: 'choice'; readonly id: number; readonly nodes: readonly Node[] }
  | {
      readonly kind: 'repeat';
      readonly id: number;
      readonly node: Node;
      readonly least: number;
      readonly most: number;
    }
  | { readonly kind: 'reference'; readonly id: number; readonly get: () => Node }
  | { readonly kind: 'number'; readonly id: number; readonly range: NumberRange };

let last = 0;
const utf8 = new TextEncoder();

export function literal(text: string): Node {
  return { kind: 'bytes', id: ++last, bytes: utf8.encode(text) };
}

/** One byte out of these ranges, ends included. */
export function bytesOf(...ranges: readonly (readonly [from: number, to: number])[]): Node {
  const has = new Uint8Array(256);
  for (const [from, to] of ranges) has.fill(1, from, to + 1);
  return { kind: 'set', id: ++last, has };
}

export function sequence(...nodes: readonly Node[]): Node {
  return nodes.length === 1 ? nodes[0]! : { kind: 'sequence', id: ++last, nodes };
}

export function choice(...nodes: readonly Node[]): Node {
  return nodes.length === 1 ? nodes[0]! : { kind: 'choice', id: ++last, nodes };
}

/** So many times, at most Infinity. The node must not match nothing. */
export function repeat(node: Node, least: number, most = Number.POSITIVE_INFINITY): Node {
  return { kind: 'repeat', id: ++last, node, least, most };
}

export function maybe(node: Node): Node {
  return repeat(node, 0, 1);
}

/** A node that is made when it is first needed. */
export function reference(make: () => Node): Node {
  let made: Node | undefined;
  return {
    kind: 'reference',
    id: ++last,
    get() {
      made ??= make();
      return made;
    },
  };
}

export function numberIn(range: NumberRange): Node {
  return { kind: 'number', id: ++last, range };
}
