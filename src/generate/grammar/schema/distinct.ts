/** Items that differ from each other: what is written for one part of each is kept apart from what was written for the same part before. */
import { choice, type Node, sequence, terminal } from '../node.js';
import { NumberRange } from '../number.js';
import { shortTexts } from '../seen.js';
import { type Terminal, Words } from '../terminal.js';
import { isText, plainText } from '../text.js';
import type { Work } from '../work.js';

/** A node for items that must all differ. */
export interface Distinct {
  readonly node: Node;
  /** Some of the texts by which items differ: as many as were asked for, or all. */
  readonly texts: ReadonlySet<string>;
}

/**
 * The node with a part that is captured; undefined where none can be told, because items can be alike in all of their parts. `count` is
 * how many items there must be.
 */
export function distinctNode(node: Node, count: number, work: Work): Distinct | undefined {
  const capturing = (of: Terminal): Distinct => {
    const texts = shortTexts(of, Math.max(count, 2), (steps) => work.spend(steps));
    return { node: terminal(of, true), texts: new Set(texts) };
  };
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
        .map((child, i) =>
          child.kind === 'bytes' ? undefined : { i, way: distinctNode(child, count, work) },
        )
        .filter((each) => each?.way !== undefined) as { i: number; way: Distinct }[];
      const [best] = found.sort((a, b) => b.way.texts.size - a.way.texts.size);
      if (!best) return undefined;
      const nodes = node.nodes.map((child, i) => (i === best.i ? best.way.node : child));
      return { node: sequence(...nodes), texts: best.way.texts };
    }
    case 'choice': {
      const ways = node.nodes.map((child) => distinctNode(child, count, work));
      if (!ways.every((way) => way !== undefined)) return undefined;
      return {
        node: choice(...ways.map((way) => way.node)),
        texts: new Set(ways.flatMap(({ texts }) => [...texts])),
      };
    }
    default:
      return undefined;
  }
}
