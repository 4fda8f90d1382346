/** Grammars over bytes, composed of a few kinds of nodes. Nodes may refer to each other recursively. */
import { OneByte, type Terminal } from './terminal.js';

/** A part of a grammar over bytes. `id` numbers nodes; `reference` allows recursion. */
export type Node =
  | { readonly kind: 'bytes'; readonly id: number; readonly bytes: Uint8Array }
  /** `captured`: its text must differ from its earlier texts within the nearest enclosing repetition of distinct nodes. */
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
  /** The node with the separator before it, for every repetition but the first. */
  readonly again: Node;
  /** Whether each repetition contains one captured terminal, whose texts must differ. */
  readonly distinct: boolean;
}

let last = 0;
const utf8 = new TextEncoder();

/** Exactly this text, in UTF-8. */
export function literal(text: string): Node {
  return { kind: 'bytes', id: ++last, bytes: utf8.encode(text) };
}

/** A terminal's texts; `captured` as in `Node`. */
export function terminal(of: Terminal, captured = false): Node {
  return { kind: 'terminal', id: ++last, terminal: of, captured };
}

/** One byte out of these inclusive ranges. */
export function bytesOf(...ranges: readonly (readonly [from: number, to: number])[]): Node {
  return terminal(new OneByte(ranges));
}

/** A concatenation of nodes; without any, the empty text. */
export function sequence(...nodes: readonly Node[]): Node {
  return nodes.length === 1 ? nodes[0]! : { kind: 'sequence', id: ++last, nodes };
}

/** An alternative of nodes; without any, it matches nothing. */
export function choice(...nodes: readonly Node[]): Node {
  return nodes.length === 1 ? nodes[0]! : { kind: 'choice', id: ++last, nodes };
}

/** A repetition, with an optional separator. The node must not match the empty text. */
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

/** A node that is created when it is first needed, for recursion. */
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
