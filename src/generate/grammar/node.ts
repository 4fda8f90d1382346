/** Grammars of bytes: what a text may be, put together from few kinds of nodes. They may refer to each other in circles. */
import { OneByte, type Terminal } from './terminal.js';

/** A part of a grammar over bytes. `id` numbers nodes; `reference` allows recursion. */
export type Node =
  | { readonly kind: 'bytes'; readonly id: number; readonly bytes: Uint8Array }
  /** `captured`: what is written for it must differ from what was written for it before, within the nearest repetition of distinct nodes. */
  | {
      readonly kind: 'terminal';
      readonly id: number;
      readonly terminal: Terminal;
      readonly captured: boolean;
    }
  | { readonly kind: 'sequence'; readonly id: number; readonly nodes: readonly Node[] }
  | { readonly kind: 'choice'; readonly id: number; readonly nodes: readonly Node[] }
  | RepeatNode
  | { readonly kind: 'reference'; readonly id: number; readonly get: () => Node };

/** A node from `least` to `most` times; `most` may be Infinity. */
export interface RepeatNode {
  readonly kind: 'repeat';
  readonly id: number;
  readonly node: Node;
  readonly least: number;
  readonly most: number;
  /** The node behind another one: with what separates them. */
  readonly again: Node;
  /** Whether each repetition goes through one captured terminal, and they must differ in what is written for it. */
  readonly distinct: boolean;
}

let last = 0;
const utf8 = new TextEncoder();

/** Exactly this text, in UTF-8. */
export function literal(text: string): Node {
  return { kind: 'bytes', id: ++last, bytes: utf8.encode(text) };
}

/** What a terminal accepts; `captured` as in `Node`. */
export function terminal(of: Terminal, captured = false): Node {
  return { kind: 'terminal', id: ++last, terminal: of, captured };
}

/** One byte out of these ranges, ends included. */
export function bytesOf(...ranges: readonly (readonly [from: number, to: number])[]): Node {
  return terminal(new OneByte(ranges));
}

/** One node after the other; without any, the empty text. */
export function sequence(...nodes: readonly Node[]): Node {
  return nodes.length === 1 ? nodes[0]! : { kind: 'sequence', id: ++last, nodes };
}

/** One of several nodes; without any, no text at all. */
export function choice(...nodes: readonly Node[]): Node {
  return nodes.length === 1 ? nodes[0]! : { kind: 'choice', id: ++last, nodes };
}

/** So many times, at most Infinity, with `separator` between two. The node must not match nothing. */
export function repeat(
  node: Node,
  least: number,
  most = Number.POSITIVE_INFINITY,
  { separator, distinct = false }: { separator?: Node; distinct?: boolean } = {},
): Node {
  const again = separator ? sequence(separator, node) : node;
  return { kind: 'repeat', id: ++last, node, least, most, again, distinct };
}

/** A node, or nothing. */
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

/** The nodes that a node directly refers to. */
export function childrenOf(node: Node): readonly Node[] {
  switch (node.kind) {
    case 'sequence':
    case 'choice':
      return node.nodes;
    case 'repeat':
      return [node.node, node.again];
    case 'reference':
      return [node.get()];
    default:
      return [];
  }
}
