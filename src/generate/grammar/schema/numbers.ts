/** What numbers have to be. */
import { choice, type Node, terminal } from '../node.js';
import { type NumberBounds, NumberRange } from '../number.js';
import { impossible, keyword, type Place, unfollowable } from './document.js';
import { boundsOfFormat } from './formats.js';

/** Numbers within the bounds of all schemas, but for a few. Throws `Impossible` where there are none. */
export function numberNode(
  type: 'number' | 'integer',
  places: readonly Place[],
  refused: readonly number[],
  path: string,
): Node {
  const least = new Bound(1);
  const most = new Bound(-1);
  const multiplesOf: number[] = [];
  for (const place of places) {
    least.take(place, 'minimum', 'exclusiveMinimum');
    most.take(place, 'maximum', 'exclusiveMaximum');
    const factor = numberOf(place, 'multipleOf');
    if (factor !== undefined && factor <= 0)
      throw unfollowable(`${place.path}/multipleOf`, 'expected more than 0');
    if (factor !== undefined) multiplesOf.push(factor);
    const format = keyword(place.schema, 'format');
    const bounds = typeof format === 'string' ? boundsOfFormat(format) : undefined;
    if (bounds) {
      least.narrow(bounds[0], false);
      most.narrow(bounds[1], false);
    }
  }
  const all: NumberBounds = {
    integer: type === 'integer',
    multiplesOf,
    ...(least.value !== undefined && { least: least.value, aboveLeast: least.isExclusive }),
    ...(most.value !== undefined && { most: most.value, belowMost: most.isExclusive }),
  };
  const ranges = rangesWithout(
    all,
    [...new Set(refused)].sort((a, b) => a - b),
  );
  if (ranges.length === 0) throw impossible(path, 'no number that is written here lies within its bounds');
  return choice(...ranges.map((range) => terminal(range)));
}

/** Ranges on both sides of what is left out. */
function rangesWithout(bounds: NumberBounds, refused: readonly number[]): NumberRange[] {
  const ranges: NumberRange[] = [];
  let lower = bounds;
  for (const value of refused) {
    if (value < (bounds.least ?? -Infinity) || value > (bounds.most ?? Infinity)) continue;
    ranges.push(new NumberRange({ ...lower, most: value, belowMost: true }));
    lower = { ...lower, least: value, aboveLeast: true };
  }
  ranges.push(new NumberRange(lower));
  return ranges.filter((range) => range.possible);
}

/** The narrowest of several bounds on one side. */
class Bound {
  value: number | undefined;
  isExclusive = false;

  /** `sign` is 1 for the least number, -1 for the greatest. */
  constructor(private readonly sign: 1 | -1) {}

  take(place: Place, key: string, exclusiveKey: string): void {
    const value = numberOf(place, key);
    // Draft 4 says of a bound whether it is exclusive.
    const exclusive = keyword(place.schema, exclusiveKey);
    if (value !== undefined) this.narrow(value, exclusive === true);
    if (typeof exclusive === 'boolean') return;
    const own = numberOf(place, exclusiveKey);
    if (own !== undefined) this.narrow(own, true);
  }

  narrow(value: number, isExclusive: boolean): void {
    const difference = this.value === undefined ? 1 : (value - this.value) * this.sign;
    if (difference < 0) return;
    this.isExclusive = difference === 0 ? this.isExclusive || isExclusive : isExclusive;
    this.value = value;
  }
}

function numberOf({ schema, path }: Place, key: string): number | undefined {
  const value = keyword(schema, key);
  if (value === undefined || (typeof value === 'number' && Number.isFinite(value))) return value;
  throw unfollowable(`${path}/${key}`, 'it is no number');
}
