/**
 * Generates several tokens of each row in one run: a loop over the decoding program and sampling.ts. A row that has ended, by a stop token or
 * its limit, stays unchanged while others continue.
 */
import type { StableHloBuilder } from './builder.js';
import { drawn, SAMPLING_SETTINGS } from './sampling.js';
import type { Plain } from './value.js';

/** The most stop tokens of a row. */
export const MOST_STOPS = 16;

/** The names of the loop's arguments, besides the states. */
export const WRITING_ARGUMENTS = {
  /** f32 [steps, rows]: a random number for each token. */
  uniforms: 'writing/uniforms',
  /** f32 [rows, 4] */
  settings: 'writing/settings',
  /** i32 [rows, MOST_STOPS], -1 for none. */
  stops: 'writing/stops',
  /** i32 [rows]: the limit of tokens of each row. */
  counts: 'writing/counts',
} as const;

/** The names of its results, besides the states. */
export const WRITING_RESULTS = {
  /** i32 [steps, rows]: the tokens, -1 after a row's end. */
  tokens: 'tokens',
  /** f32 [steps, rows]: their logits. */
  chosen: 'chosen',
  /** f32 [rows, vocabulary]: the logits of each row's last token. */
  logits: 'logits',
} as const;

/** The shapes of the arguments. */
export function writingArguments(steps: number, rows: number) {
  return [
    { name: WRITING_ARGUMENTS.uniforms, element: 'f32', dims: [steps, rows] },
    { name: WRITING_ARGUMENTS.settings, element: 'f32', dims: [rows, SAMPLING_SETTINGS.length] },
    { name: WRITING_ARGUMENTS.stops, element: 'i32', dims: [rows, MOST_STOPS] },
    { name: WRITING_ARGUMENTS.counts, element: 'i32', dims: [rows] },
  ] as const;
}

/** The inputs of a step: `ids` i64 [rows, 1], and `position` and `lengths` i64 [rows]. */
export interface Standing {
  readonly ids: Plain;
  readonly position: Plain;
  readonly lengths: Plain;
}

/** The results of the loop. */
export interface Written {
  readonly states: readonly Plain[];
  readonly tokens: Plain;
  readonly chosen: Plain;
  readonly logits: Plain;
}

/**
 * Runs `step` for a number of tokens. It takes the rows' positions and states, and returns new states and logits [rows, vocabulary]. `keeps`
 * marks states that need no masking for rows that have ended: growing ones, of which only the entries up to the row's length are valid.
 */
export function writeTokens(
  builder: StableHloBuilder,
  steps: number,
  vocabulary: number,
  first: { readonly standing: Standing; readonly states: readonly Plain[] },
  given: Readonly<Record<keyof typeof WRITING_ARGUMENTS, Plain>>,
  grows: readonly boolean[],
  step: (standing: Standing, states: readonly Plain[]) => { states: readonly Plain[]; logits: Plain },
): Written {
  const rows = given.counts.dims[0]!;
  const { states } = first;
  const { ids, position, lengths } = first.standing;
  const going = builder.as(builder.compare('GT', given.counts, builder.splat(0, 'i32')), 'i32');
  const initial = [
    ids,
    position,
    lengths,
    going,
    builder.splat(-1, 'i32', [steps, rows]),
    builder.splat(0, 'f32', [steps, rows]),
    builder.splat(0, 'f32', [rows, vocabulary]),
    ...states,
  ];
  const made = builder.loop(
    steps,
    initial,
    (index, [own, at, held, isGoing, tokens, chosen, kept, ...before]) => {
      const made = step({ ids: own!, position: at!, lengths: held! }, before);
      const isActive = builder.compare('GT', isGoing!, builder.splat(0, 'i32'));
      const along = (x: Plain): Plain => builder.reshape(isActive, [rows, ...x.dims.slice(1).map(() => 1)]);
      const row = builder.reshape(builder.dynamicSlice(given.uniforms, 0, index, 1), [rows]);
      const { token, logit } = drawn(builder, made.logits, row, given.settings);
      const told = builder.select(isActive, token, builder.splat(-1, 'i32'));
      const stopsHere = builder.compare('EQ', builder.reshape(token, [rows, 1]), given.stops);
      const stops = builder.reduce('add', builder.as(stopsHere, 'i32'), [1]);
      const goesOn = builder.as(builder.compare('EQ', stops, builder.splat(0, 'i32')), 'i32');
      const done = builder.binary('add', index, builder.splat(1, 'i32'));
      const isLeft = builder.as(builder.compare('GT', given.counts, done), 'i32');
      const goes = builder.binary('multiply', builder.binary('multiply', isGoing!, isLeft), goesOn);
      const step64 = builder.as(isGoing!, 'i64');
      const next = builder.reshape(builder.as(token, 'i64'), [rows, 1]);
      const put = (all: Plain, values: Plain): Plain =>
        builder.dynamicUpdateSlice(all, builder.reshape(values, [1, rows]), 0, index);
      return [
        builder.select(along(own!), next, own!),
        builder.binary('add', at!, step64),
        builder.binary('add', held!, step64),
        goes,
        put(tokens!, told),
        put(chosen!, builder.select(isActive, logit, builder.splat(0, 'f32'))),
        builder.select(along(kept!), made.logits, kept!),
        ...made.states.map((state, i) =>
          grows[i] ? state : builder.select(along(state), state, before[i]!),
        ),
      ];
    },
  );
  const [, , , , tokens, chosen, logits, ...after] = made;
  return { states: after, tokens: tokens!, chosen: chosen!, logits: logits! };
}
