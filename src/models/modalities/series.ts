/**
 * Time series: several channels with missing values, read in patches of consecutive values. After each patch the model forecasts quantiles of
 * the targets.
 *
 * A patch is normalized by the mean and standard deviation of all values up to it, per channel, as in Toto (Cohen et al., 2024, arXiv
 * 2407.07874). This is causal, so reading in pieces equals reading at once; the outputs are scaled back. Up to `window` values, both are
 * plain means; beyond, they are exponential moving averages: each patch scales down the sums of earlier values so that the count stays
 * `window`, and the state is three numbers for each channel. With S the sum of values (or of squares), n values in the patch and c before,
 *
 *     c_t = min(c_(t-1) + n_t, window)        S_t = (c_t / (c_(t-1) + n_t)) (S_(t-1) + sum of the patch)
 *
 * A sensor that is read for months is thus normalized like the windows that its model was trained on. Training all positions at once, each on
 * the values that follow it, is the scheme of TimesFM (Das et al., 2023, arXiv 2310.10688).
 */
import { z } from 'zod';
import { ConfigError } from '../../errors.js';
import {
  add,
  addDims,
  concat,
  constant,
  cumulativeSum,
  type Dim,
  divide,
  equal,
  fill,
  gather,
  linearRecurrence,
  log,
  maximum,
  minimum,
  multiply,
  reshape,
  slice,
  sqrt,
  subtract,
  sum,
  type Tensor,
  where,
  zeros,
} from '../../graph/index.js';
import { constantly, linear, type Parameters, type StateSpec, type StateTensors } from '../../nn/index.js';
import { type Calendar, calendarEntries, calendarSchema, calendarSize } from './calendar.js';
import { lagStates, straightForecast } from './lags.js';
import type { Modality } from './modality.js';

const names = z.array(z.string().min(1)).min(1).max(1024);
const positive = (most: number) => z.number().int().positive().max(most);

/** float32 represents all integers up to this one. */
const MOST_COUNTED = 2 ** 24;

/** The most rows of a patch, and of a horizon. */
export const MOST_SERIES_ROWS = 4096;

/** The key `input` of a model that forecasts series. */
export const seriesSchema = z.strictObject({
  kind: z.literal('series'),
  /** The names of the input columns, in order. */
  channels: names,
  /** The columns that are forecast. */
  targets: names,
  /** Consecutive values of one position. */
  patch: positive(MOST_SERIES_ROWS).default(1),
  /** The number of values that are forecast at each position. */
  horizon: positive(MOST_SERIES_ROWS),
  /** The quantile levels, ascending, including 0.5. */
  quantiles: z
    .array(z.number().gt(0).lt(1))
    .min(1)
    .max(99)
    .default([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
  /** The values that the normalization of a channel averages over; by default as many as float32 can count. */
  window: positive(MOST_COUNTED).optional(),
  /** The number of patches of the linear skip connection to the forecast; by default there is none. */
  lags: positive(MOST_SERIES_ROWS).optional(),
  /** When rows are, and the fields of the calendar whose effects the model adds; by default there are none. */
  calendar: calendarSchema.optional(),
  /** The offset and scale of each channel, from the training data. */
  offset: z.array(z.number()),
  scale: z.array(z.number().positive()),
});

/** The key `input` of a model of series. */
export type SeriesConfig = z.output<typeof seriesSchema>;

/** The share of a channel's scale below which a window counts as constant. */
export const LEAST_DEVIATION = 0.05;

/** Throws `ConfigError` for inconsistent keys. */
function expectConsistent(config: SeriesConfig): void {
  const { channels, targets, patch, horizon, quantiles, offset, scale, lags = 0, calendar } = config;
  const width = channels.length;
  const expect = (holds: boolean, text: string): void => {
    if (!holds) throw new ConfigError(`input: ${text}`);
  };
  expect(new Set(channels).size === width, 'two channels have one name');
  expect(
    targets.every((name) => channels.includes(name)),
    `targets must be among the channels (${channels.join(', ')})`,
  );
  expect(new Set(targets).size === targets.length, 'a target is named twice');
  expect(
    offset.length === width && scale.length === width,
    `offset and scale must have a number for each of the ${width} channels`,
  );
  expect(
    patch <= horizon,
    `patch is ${patch} and horizon ${horizon}: a forecast begins behind the last whole patch, so horizon must be at least patch, or it may end before the last row`,
  );
  expect(quantiles.includes(0.5), 'quantiles must have 0.5');
  expect(
    quantiles.every((q, i) => i === 0 || q > quantiles[i - 1]!),
    'quantiles must ascend',
  );
  const fields = calendar?.fields ?? [];
  expect(new Set(fields).size === fields.length, 'a field of the calendar is named twice');
  expect(
    lags * patch * width <= MOST_SERIES_ROWS,
    `${lags} lags of ${patch} rows of ${width} channels are more than ${MOST_SERIES_ROWS} values: take fewer`,
  );
}

/** A model's input of series, and its forecasts. Throws `ConfigError` for inconsistent keys. */
export function series(config: SeriesConfig, hiddenSize: number): Modality {
  expectConsistent(config);
  const { channels, targets, patch, horizon, quantiles, offset, scale, window = MOST_COUNTED } = config;
  const { lags, calendar } = config;
  const width = channels.length;
  const places = targets.map((name) => channels.indexOf(name));
  const fields = calendar?.fields ?? [];
  const offsets = constant(Float32Array.from(offset), [width]);
  const scales = constant(Float32Array.from(scale), [width]);
  /** Selects the targets from a tensor [..., channels]. */
  const targetsOf = (x: Tensor): Tensor => {
    if (places.every((place, i) => place === i) && places.length === width) return x;
    return concat(
      places.map((place) => slice(x, -1, place, place + 1)),
      -1,
    );
  };
  /** The sums of the effects of rows whose entries of the calendar are [..., fields], in scales of the channels: [..., channels]. */
  const effectsOf = (parameters: Parameters, entries: Tensor): Tensor =>
    parameters.within('calendar', (p) => {
      const size = calendarSize({ fields });
      const table = p.get('weight', [size, width], constantly(0), { decay: false, precise: true });
      return sum(gather(table, entries), -2);
    });
  const totals = ['count', 'sum', 'squares'].map(
    (name): StateSpec => ({ name, dtype: 'float32', shape: ['batch', width], initial: 0 }),
  );
  const sizes = lags === undefined ? undefined : { lags, patch, channels: width, targets: places, horizon };
  return {
    kind: 'series',
    about: `reads series of ${channels.join(', ')} in patches of ${patch} and forecasts ${targets.join(', ')}, ${horizon} rows at once`,
    unit: { name: 'rows', perPosition: patch },
    inputs: [
      ...['values', 'observed'].map((name) => ({
        name,
        dtype: 'float32' as const,
        shape: ['sequence', patch, width],
      })),
      ...(calendar
        ? calendarInputs(config).map(({ name, rows }) => ({
            name,
            dtype: 'int64' as const,
            shape: ['sequence', rows, fields.length],
          }))
        : []),
    ],
    state: [...totals, ...(sizes ? lagStates(sizes) : [])],
    enter(parameters, { values, observed, calendarNow, calendarAhead }, before) {
      const [batch, sequence] = values!.shape;
      const standard = divide(subtract(values!, offsets), scales);
      const x = multiply(
        calendar ? subtract(standard, effectsOf(parameters, calendarNow!)) : standard,
        observed!,
      );
      const read = totalsOf(sum(observed!, 2), sum(x, 2), sum(multiply(x, x), 2), window, before);
      const seen = maximum(read.count, 1);
      const center = divide(read.sum, seen);
      const variance = maximum(
        subtract(divide(read.squares, seen), multiply(center, center)),
        LEAST_DEVIATION ** 2,
      );
      const deviation = sqrt(variance);
      const wide = (each: Tensor): Tensor => reshape(each, [batch!, sequence!, 1, width]);
      const scaled = multiply(divide(subtract(x, wide(center)), wide(deviation)), observed!);
      const flat = (each: Tensor): Tensor => reshape(each, [batch!, sequence!, patch * width]);
      const features = concat([flat(scaled), flat(observed!), center, log(deviation)], -1);
      const straight =
        sizes && straightForecast(parameters, sizes, { x, observed: observed!, mean: center }, before);
      const ahead = calendar && targetsOf(effectsOf(parameters, calendarAhead!));
      const ofTargets = (each: Tensor): Tensor =>
        reshape(targetsOf(each), [batch!, sequence!, 1, places.length]);
      return {
        stream: parameters.within('input', (p) =>
          linear(p, features, hiddenSize, { bias: true, precise: true }),
        ),
        state: before ? { ...read.state, ...straight?.state } : {},
        kept: {
          center: targetsOf(add(multiply(center, scales), offsets)),
          spread: targetsOf(multiply(deviation, scales)),
          ...(straight && {
            straight: divide(subtract(straight.forecast, ofTargets(center)), ofTargets(deviation)),
            misses: straight.misses,
          }),
          ...(ahead && { ahead: divide(ahead, ofTargets(deviation)) }),
        },
      };
    },
    leave(parameters, hidden, { center, spread, straight, misses, ahead }) {
      const [batch, positions] = hidden.shape;
      const size = horizon * targets.length * quantiles.length;
      // With a linear skip connection the layers' output is initialized to zero.
      const begins = straight ? { initialize: constantly(0) } : {};
      const flat = parameters.within('output', (p) =>
        linear(p, hidden, size, { bias: true, precise: true, ...begins }),
      );
      const dims = [batch!, positions!, horizon, targets.length];
      const layers = reshape(flat, [...dims, quantiles.length]);
      const parts = [straight, ahead].filter((each) => each !== undefined);
      return {
        /** Normalized forecasts: [batch, positions, horizon, targets, quantiles]. */
        scaled: parts.reduce(
          (said, part) => add(said, reshape(part, [...dims, 1])),
          misses ? multiply(layers, reshape(misses, [horizon, targets.length, 1])) : layers,
        ),
        /** [batch, positions, targets], in the targets' own units. */
        center: center!,
        spread: spread!,
      };
    },
  };
}

/** The inputs of a model with a calendar: the entries of the rows of each patch, and of those that are forecast behind it. */
export function calendarInputs({ patch, horizon }: Pick<SeriesConfig, 'patch' | 'horizon'>) {
  return [
    { name: 'calendarNow', rows: patch, after: 0 },
    { name: 'calendarAhead', rows: horizon, after: patch },
  ] as const;
}

/** A config that has a calendar. */
export type DatedConfig = SeriesConfig & { readonly calendar: Calendar };

/**
 * The values of these inputs for `positions` positions, of which the first begins with row `first` of a series that starts at `start`
 * (milliseconds since 1970): [positions, rows, fields] by name, flat.
 */
export function calendarFeeds(
  config: DatedConfig,
  start: number,
  first: number,
  positions: number,
): Record<string, BigInt64Array> {
  const { calendar, patch, horizon } = config;
  const fields = calendar.fields.length;
  const entries = calendarEntries(calendar, start, first, positions * patch + horizon);
  const feeds = calendarInputs(config).map(({ name, rows, after }) => {
    const all = new BigInt64Array(positions * rows * fields);
    for (let position = 0; position < positions; position++) {
      const from = (position * patch + after) * fields;
      all.set(entries.subarray(from, from + rows * fields), position * rows * fields);
    }
    return [name, all] as const;
  });
  return Object.fromEntries(feeds);
}

/**
 * From the counts, sums and sums of squares of each patch, those of everything up to each position, [batch, positions, channels] each, and the
 * new state.
 */
function totalsOf(
  counts: Tensor,
  sums: Tensor,
  squares: Tensor,
  window: number,
  before: StateTensors | undefined,
) {
  const [batch, positions, width] = counts.shape as [Dim, Dim, number];
  const flat = (x: Tensor): Tensor => reshape(x, [batch, 1, width]);
  const start = before ? flat(before.count!) : zeros([batch, 1, width]);
  const count = minimum(add(cumulativeSum(counts, 1), start), window);
  const earlier = slice(concat([start, count], 1), 1, 0, positions);
  const kept = divide(count, maximum(add(earlier, counts), 1));
  // A channel without values yet has zero sums.
  const gate = log(where(equal(count, 0), 1, kept));
  const paired = (x: Tensor, y: Tensor, ...dims: Dim[]): Tensor => {
    const column = (each: Tensor): Tensor => reshape(each, [...each.shape, 1]);
    return reshape(concat([column(x), column(y)], -1), [batch, ...dims]);
  };
  const ones = fill([batch, positions, width], 1);
  const { output, state } = linearRecurrence(
    {
      query: ones,
      key: ones,
      value: paired(multiply(kept, sums), multiply(kept, squares), positions, 2 * width),
      gate,
      ...(before && { state: paired(before.sum!, before.squares!, width, 1, 2) }),
    },
    { query: width, key: width, value: width },
  );
  /** The sums and the sums of squares. */
  const apart = (x: Tensor, ...dims: Dim[]): [Tensor, Tensor] => {
    const pairs = reshape(x, [batch, ...dims, 2]);
    const half = (i: number): Tensor => reshape(slice(pairs, -1, i, i + 1), [batch, ...dims]);
    return [half(0), half(1)];
  };
  const [sum, square] = apart(output, positions, width);
  const [lastSum, lastSquare] = apart(state, width);
  const last = reshape(slice(count, 1, addDims(positions, -1), positions), [batch, width]);
  return { count, sum, squares: square, state: { count: last, sum: lastSum, squares: lastSquare } };
}
