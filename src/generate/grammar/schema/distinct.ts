/** Items that differ from each other: what is written for one part of each is kept apart from what was written for the same part before. */
import { choice, type Node, sequence, terminal } from '../node.js';
import { NumberRange } from '../number.js';
import { type Terminal, Words } from '../terminal.js';
import { isText, plainText } from '../text.js';

export interface Distinct {
  readonly node: Node;
  /** What is captured within. */
  readonly terminals: readonly Terminal[];
  /** There are at least so many different items. */
  readonly size: number;
}

/** Beyond this, how many there are is not counted. */
const MANY = 100;

/** The node with a part that is captured; undefined where none can be told, because items can be alike in all of their parts. */
export function distinctNode(node: Node): Distinct | undefined {
  switch (node.kind) {
    case 'bytes':
      return capturing(new Words([new TextDecoder().decode(node.bytes)]));
    case 'terminal': {
      const { terminal: own } = node;
      if (own instanceof NumberRange) return capturing(own.plain());
      return isText(own) ? capturing(plainText(own)) : own instanceof Words ? capturing(own) : undefined;
    }
    case 'sequence': {
      const found = node.nodes
        .map((child, i) => (child.kind === 'bytes' ? undefined : { i, distinct: distinctNode(child) }))
        .filter((each) => each?.distinct !== undefined) as { i: number; distinct: Distinct }[];
      const [best] = found.sort((a, b) => b.distinct.size - a.distinct.size);
      if (!best) return undefined;
      const nodes = node.nodes.map((child, i) => (i === best.i ? best.distinct.node : child));
      return { ...best.distinct, node: sequence(...nodes) };
    }
    case 'choice': {
      const ways = node.nodes.map(distinctNode);
      // A way that is taken must not turn out to be used up at its end.
      const isDirect = (i: number): boolean => 'bytes terminal'.includes(node.nodes[i]!.kind);
      if (!ways.every((way, i) => way && (isDirect(i) || way.size >= MANY))) return undefined;
      const all = ways as Distinct[];
      return {
        node: choice(...all.map((way) => way.node)),
        terminals: all.flatMap(({ terminals }) => terminals),
        size: all.reduce((sum, { size }) => sum + size, 0),
      };
    }
    default:
      return undefined;
  }
}

function capturing(of: Terminal): Distinct {
  return { node: terminal(of, true), terminals: [of], size: of.size(MANY) };
}
