/** Training of forecasters: quantiles of the following values after each patch of a window. */
import { ConfigError, DataError } from '../errors.js';
import {
  constant,
  divide,
  maximum,
  multiply,
  reshape,
  scalar,
  subtract,
  sum,
  type Tensor,
} from '../graph/index.js';
import { calendarFeeds, calendarInputs, perceive, type SeriesConfig, timeText } from '../models/index.js';
import { Random } from '../nn/index.js';
import { constantColumns } from '../signals/index.js';
import { calendarEffects, startOf, withoutEffects } from './calendar-effects.js';
import {
  type DataSource,
  digestOf,
  type Examples,
  type FiniteExamples,
  inputConfigOf,
  type Objective,
} from './data.js';
import { straightMap } from './straight-map.js';

/** Rows of values in the order of the model's channels, flat; NaN for missing values. */
export interface SeriesRows {
  readonly values: Float32Array;
  readonly channels: readonly string[];
  /** When the first row is, in milliseconds since 1970, for a model that reads a calendar. */
  readonly start?: number;
}

/** The forecasts of each position, and their targets, both normalized. */
interface Said {
  /** [batch, sequence, horizon, targets, quantiles] */
  readonly scaled: Tensor;
  /** [batch, sequence, horizon, targets, 1] */
  readonly target: Tensor;
  /** The standard deviations of the normalization: [batch, sequence, 1, targets, 1]. */
  readonly spread: Tensor;
}

/** The mean of `lossOf` [batch, sequence, horizon, targets] over observed values. */
function forecastObjective(
  config: SeriesConfig,
  sequence: number,
  lossOf: (said: Said) => Tensor,
): Objective {
  const { channels, targets, patch, horizon, lags = 1, calendar } = config;
  const read = [sequence, patch, channels.length];
  const said = [sequence, horizon, targets.length];
  // The linear skip connection needs all lags, so earlier positions are not trained.
  const behindLags = constant(
    Float32Array.from({ length: sequence }, (_, i) => Number(i >= lags - 1)),
    [sequence, 1, 1],
  );
  return {
    inputs: [
      { name: 'values', dtype: 'float32', shape: read },
      { name: 'observed', dtype: 'float32', shape: read },
      { name: 'future', dtype: 'float32', shape: said },
      { name: 'known', dtype: 'float32', shape: said },
      ...(calendar
        ? calendarInputs(config).map(({ name, rows }) => ({
            name,
            dtype: 'int64' as const,
            shape: [sequence, rows, calendar.fields.length],
          }))
        : []),
    ],
    loss(model, registry, { future, known, ...inputs }) {
      const result = perceive(model, registry, inputs, scalar(0, 'int64')).said;
      const { scaled, center, spread } = result as Record<'scaled' | 'center' | 'spread', Tensor>;
      const [batch] = future!.shape;
      const alone = (x: Tensor) => reshape(x, [batch!, sequence, 1, targets.length]);
      const target = divide(subtract(future!, alone(center)), alone(spread));
      const each = lossOf({
        scaled,
        target: reshape(target, [batch!, ...said, 1]),
        spread: reshape(spread, [batch!, sequence, 1, targets.length, 1]),
      });
      const counted = lags > 1 ? multiply(known!, behindLags) : known!;
      return { total: sum(multiply(each, counted)), count: maximum(sum(counted), 1) };
    },
  };
}

/**
 * The quantile loss (Koenker & Bassett, 1978) of each observed value, twice the mean over quantiles, in normalized units; for the median alone it
 * is the absolute error.
 */
export function quantileObjective(config: SeriesConfig, sequence: number): Objective {
  const { quantiles } = config;
  return forecastObjective(config, sequence, ({ scaled, target }) => {
    const error = subtract(target, scaled);
    const levels = constant(Float32Array.from(quantiles), [quantiles.length]);
    const pinball = maximum(multiply(error, levels), multiply(error, subtract(levels, 1)));
    return multiply(sum(pinball, -1), 2 / quantiles.length);
  });
}

/**
 * The squared error of each observed value, in units of the channel's scale, for a model with only the median, which then becomes the mean.
 * Throws `ConfigError` for other quantiles.
 */
export function squaredObjective(config: SeriesConfig, sequence: number): Objective {
  const { channels, targets, quantiles, scale } = config;
  if (quantiles.length !== 1)
    throw new ConfigError(
      `squared errors are learned by a model of one quantile, 0.5, and this one says ${quantiles.length}`,
    );
  const scales = constant(
    Float32Array.from(targets, (name) => scale[channels.indexOf(name)]!),
    [targets.length, 1],
  );
  return forecastObjective(config, sequence, ({ scaled, target, spread }) => {
    const error = multiply(subtract(target, scaled), divide(spread, scales));
    return sum(multiply(error, error), -1);
  });
}

/**
 * Windows of `settings.sequence` patches: random ones of `training`, ones at even steps of `validation`. A window needs at least one row to
 * forecast; the rest of the horizon may be missing. Throws `DataError` for too few rows and for a constant target, `ConfigError` for a model
 * that is not a forecaster.
 */
export function seriesData(
  training: SeriesRows,
  validation: SeriesRows,
  { objective = quantileObjective }: { readonly objective?: typeof quantileObjective } = {},
): DataSource {
  return (model, { sequence, seed }) => {
    const config = inputConfigOf<SeriesConfig>(model, 'series');
    const learned = new Windows(training, 'rows to learn from', config, sequence);
    const held = new Windows(validation, 'held-out rows', config, sequence);
    expectChange(training, config.targets);
    if (sequence < (config.lags ?? 1))
      throw new ConfigError(
        `the model reads ${config.lags} lags, and windows are ${sequence} patches long: make them longer`,
      );
    return {
      objective: objective(config, sequence),
      training: learned.random(seed),
      validation: held.evenly(),
      initial: () => fittedParts(training, validation, config),
      // A forecaster learns few rows by heart within few steps, and begins with a fitted map.
      keep: 'best',
      identity: {
        ...{ series: digestOf(training.values), 'held-out series': digestOf(validation.values) },
        ...(config.calendar && { 'first time': timeText(startOf(training)) }),
      },
    };
  };
}

/**
 * Initial values of the parameters that are fitted before the first step: the effects of the calendar, then the linear map of the lags to the rows
 * less these effects. Empty for a model with neither.
 */
export function fittedParts(
  training: SeriesRows,
  validation: SeriesRows,
  config: SeriesConfig,
): Map<string, Float32Array> {
  const { calendar, lags } = config;
  const fitted = new Map<string, Float32Array>();
  let [learned, held] = [training, validation];
  if (calendar) {
    const read = { ...config, calendar };
    const effects = calendarEffects(training, validation, read);
    fitted.set('calendar.weight', effects);
    learned = withoutEffects(training, effects, read);
    held = withoutEffects(validation, effects, read);
  }
  if (lags === undefined) return fitted;
  return new Map([...fitted, ...straightMap(learned, held, config)]);
}

/** Throws `DataError` for a constant target. */
function expectChange({ channels, values }: SeriesRows, targets: readonly string[]): void {
  const [target] = constantColumns({ columns: channels, values }, targets);
  if (target === undefined) return;
  const value = values.find((_, i) => channels[i % channels.length] === target && !Number.isNaN(values[i]));
  const what = value === undefined ? 'has no value at all' : `is always ${Number(value.toPrecision(7))}`;
  throw new DataError(
    `the target '${target}' ${what} in the rows to learn from: name another one, or use rows in which it changes`,
  );
}

/** The held-out windows of few rows share most of their values, since a mean over few windows would tell weights apart by chance. */
const FEWEST_HELD = 256;

class Windows {
  private readonly width: number;
  private readonly rows: number;
  private readonly columns: readonly number[];
  /** The number of rows that a window reads. */
  private readonly span: number;
  constructor(
    private readonly series: SeriesRows,
    called: 'rows to learn from' | 'held-out rows',
    private readonly config: SeriesConfig,
    private readonly sequence: number,
  ) {
    this.width = series.channels.length;
    this.rows = series.values.length / this.width;
    this.span = sequence * config.patch;
    this.columns = config.targets.map((name) => config.channels.indexOf(name));
    if (config.channels.join() !== series.channels.join()) {
      throw new DataError(
        `the series has the columns ${series.channels.join(', ')}, and the model reads ${config.channels.join(', ')}`,
      );
    }
    if (this.rows <= this.span) {
      throw new DataError(
        `there are ${this.rows} ${called}, and a window of ${sequence} x ${config.patch} needs ${this.span + 1} at least: use more rows${called === 'held-out rows' ? ', a larger --validation' : ''} or a shorter --sequence`,
      );
    }
    if (config.calendar) startOf(series);
  }

  /** The inputs of the calendar, if the model reads one. */
  private calendarAt(starts: readonly number[]): Record<string, BigInt64Array> {
    const { config, sequence, series } = this;
    const { calendar } = config;
    if (!calendar) return {};
    const inputs = calendarInputs(config).map(({ name, rows }) => {
      const size = sequence * rows * calendar.fields.length;
      return [name, new BigInt64Array(starts.length * size)] as const;
    });
    for (const [i, first] of starts.entries()) {
      const feeds = calendarFeeds({ ...config, calendar }, startOf(series), first, sequence);
      for (const [name, all] of inputs) all.set(feeds[name]!, i * feeds[name]!.length);
    }
    return Object.fromEntries(inputs);
  }

  /** Example i begins at a random row, determined by the seed and i. */
  random(seed: number): Examples {
    const starts = this.rows - this.span;
    return {
      take: (first, count) =>
        this.take(Array.from({ length: count }, (_, i) => Random.at(seed, first + i).below(starts))),
    };
  }

  /** Windows at even steps, at least `FEWEST_HELD` where the rows have as many. */
  evenly(): FiniteExamples {
    const last = this.rows - this.span - 1;
    const step = Math.max(1, Math.min(this.span, this.config.horizon, Math.floor(last / FEWEST_HELD)));
    const count = Math.floor(last / step) + 1;
    return {
      count,
      take: (first, many) => this.take(Array.from({ length: many }, (_, i) => (first + i) * step)),
    };
  }

  private take(starts: readonly number[]): Record<string, Float32Array | BigInt64Array> {
    const { width, span, columns, sequence } = this;
    const { patch, horizon } = this.config;
    const { values: all } = this.series;
    const read = span * width;
    const said = sequence * horizon * columns.length;
    const values = new Float32Array(starts.length * read);
    const observed = new Float32Array(starts.length * read);
    const future = new Float32Array(starts.length * said);
    const known = new Float32Array(starts.length * said);
    const put = (value: number | undefined, at: number, into: Float32Array, mask: Float32Array): void => {
      if (value === undefined || Number.isNaN(value)) return;
      into[at] = value;
      mask[at] = 1;
    };
    for (const [i, start] of starts.entries()) {
      for (let j = 0; j < read; j++) put(all[start * width + j], i * read + j, values, observed);
      let at = i * said;
      for (let position = 0; position < sequence; position++) {
        for (let step = 0; step < horizon; step++) {
          const row = start + (position + 1) * patch + step;
          for (const column of columns) put(all[row * width + column], at++, future, known);
        }
      }
    }
    return { values, observed, future, known, ...this.calendarAt(starts) };
  }
}
