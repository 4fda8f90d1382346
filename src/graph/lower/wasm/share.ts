/**
 * The partition of a step's results over threads. If a step reads only elements that the same thread has computed, it needs no barrier, so that
 * element-wise steps follow a product or a recurrence without one.
 */
import { encodeMap } from './encode-map.js';
import { loadsOf, type MapStep, writesOf } from './map.js';
import type { Share, Step } from './step.js';
import { type Buffer, count, type View } from './value.js';

/** The unit in which lines of a product's result are partitioned, in elements. */
export const PRODUCT_UNIT = 4;
/** The default unit. */
const UNIT = 16;
/** The shortest line that is partitioned, in elements. */
const SHORTEST_LINE = 64;
/** The most lines that are partitioned individually: parts of many lines are scattered in memory, which costs more than a barrier. */
const MOST_LINES = 32;

/** Whether the elements of a view have the same positions within lines as in its buffer. */
function follows({ dims, strides, offset }: View, { length }: Share): boolean {
  if (count(dims) % length !== 0 || offset % length !== 0) return false;
  let covered = 1;
  let axis = dims.length - 1;
  for (; axis >= 0 && covered % length !== 0; axis--) {
    if (dims[axis] === 1) continue;
    if (strides[axis] !== covered) return false;
    covered *= dims[axis]!;
  }
  const outer = dims.slice(0, axis + 1);
  return covered % length === 0 && outer.every((dim, i) => dim === 1 || strides[i]! % length === 0);
}

/**
 * Assigns partitions to steps. An element-wise step is partitioned like its operands, or as the consumers of its result need it.
 */
export function divided(steps: readonly (Step | MapStep)[]): Step[] {
  const writers = new Map<Buffer, number>();
  const wanted = new Map<Buffer, Share>();
  for (const step of steps) {
    for (const buffer of writesOf(step)) writers.set(buffer, (writers.get(buffer) ?? 0) + 1);
    if ('stores' in step || !step.share) continue;
    for (const view of step.share.along) if (follows(view, step.share)) wanted.set(view.buffer, step.share);
  }
  /** The partition of each written buffer, and the step that wrote it. */
  const made = new Map<Buffer, { share: Share; at: number }>();

  /** The buffers that a step with this partition reads only where its own thread has written them. */
  function ownOf({ length, unit }: Share, views: readonly View[]): Set<Buffer> {
    const own = new Set<Buffer>();
    for (const { buffer } of views) {
      const share = made.get(buffer)?.share;
      if (share?.length === length && share.unit === unit) own.add(buffer);
    }
    for (const view of views) if (!follows(view, { length, unit })) own.delete(view.buffer);
    return own;
  }

  function mapShare({ dims, stores }: MapStep, loads: readonly View[]): Share {
    const size = count(dims);
    // Parts of short lines are so small that their overhead exceeds that of a barrier; lines of one element belong to one thread.
    const fits = ({ length }: Share): boolean =>
      length === size || (size % length === 0 && length >= SHORTEST_LINE && size / length <= MOST_LINES);
    // Prefer the partition of the operand that was written last, since it would need a barrier otherwise.
    const given = loads.flatMap(({ buffer }) => {
      const known = made.get(buffer);
      return known && fits(known.share) && ownOf(known.share, loads).has(buffer) ? [known] : [];
    });
    const last = given.sort((a, b) => b.at - a.at)[0];
    if (last) return last.share;
    const asked = stores.find(({ view }) => {
      const share = wanted.get(view.buffer);
      return share && fits(share) && follows(view, share);
    });
    return asked ? wanted.get(asked.view.buffer)! : { length: size, unit: UNIT };
  }

  return steps.map((step, at) => {
    const isMap = 'stores' in step;
    const views = isMap ? loadsOf(step) : (step.share?.along ?? []);
    const share = isMap ? mapShare(step, views) : step.share;
    if (!share) return step as Step;
    const own = ownOf(share, views);
    const written = isMap
      ? step.stores.flatMap(({ view }) => (follows(view, share) ? [view.buffer] : []))
      : step.writes;
    for (const buffer of written) if (writers.get(buffer) === 1) made.set(buffer, { share, at });
    return { ...(isMap ? encodeMap(step, share) : step), own };
  });
}
