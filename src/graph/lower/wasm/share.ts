/**
 * How threads divide what a step writes. A step that reads along its own share only what the same thread has made before
 * needs not wait for the others, so that element-wise steps follow a product or a recurrence without a barrier.
 */
import { encodeMap, loadsOf, type MapStep, writesOf } from './map.js';
import type { Share, Step } from './step.js';
import { type Buffer, count, type View } from './value.js';

/** Elements that a thread takes at once of a line of a product's result. */
export const PRODUCT_UNIT = 4;
/** The same of a result of which nothing else says how it is divided. */
const UNIT = 16;
/** Elements of a line that a longer step is divided along. */
const SHORTEST_LINE = 64;
/** Lines of a step that is divided along each of them: parts of many lie apart in memory, which costs more than a barrier. */
const MOST_LINES = 32;

/** Whether the elements of a view, in order, lie at the same places of lines in its buffer as in its own. */
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
 * Steps with the ways in which threads divide them. An element-wise step is divided as what it reads was, or as what reads
 * its result wants it.
 */
export function divided(steps: readonly (Step | MapStep)[]): Step[] {
  const writers = new Map<Buffer, number>();
  const wanted = new Map<Buffer, Share>();
  for (const step of steps) {
    for (const buffer of writesOf(step)) writers.set(buffer, (writers.get(buffer) ?? 0) + 1);
    if ('stores' in step || !step.share) continue;
    for (const view of step.share.along) if (follows(view, step.share)) wanted.set(view.buffer, step.share);
  }
  /** The shares by which buffers were written, and by which step. */
  const made = new Map<Buffer, { share: Share; at: number }>();

  /** What a step that is divided so, and reads these views along its share, finds made by its own thread. */
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
    // Parts of short lines are so small that going over them costs more than waiting: those of a single number are one thread's alone.
    const fits = ({ length }: Share): boolean =>
      length === size || (size % length === 0 && length >= SHORTEST_LINE && size / length <= MOST_LINES);
    // As what was made last, for which it would have to wait.
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
