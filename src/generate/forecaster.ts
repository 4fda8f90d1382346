/** Forecasting time series: values are pushed as they arrive, and the model forecasts the targets at any time. */
import { float32, type HostTensor } from '../engine/index.js';
import { ConfigError, DataError } from '../errors.js';
import { calendarFeeds, type SeriesConfig, timeOfRow, timeText, wrongKind } from '../models/index.js';
import { stepText } from '../signals/index.js';
import type { OpenedModel } from './loading.js';
import { SignalModel, type SignalSession } from './signal-model.js';

const DAY_SECONDS = 86_400;

/** Quantiles of the targets at future steps. */
export interface Forecast {
  /** Names of the columns. */
  readonly targets: readonly string[];
  /** The quantile levels, ascending. */
  readonly quantiles: readonly number[];
  /** [step][target][quantile], in the targets' own units. */
  readonly values: readonly (readonly (readonly number[])[])[];
  /** When each step is, of a model with a calendar. */
  readonly times?: readonly Date[];
}

/** A loaded model of series (see `loadModel`). */
export class Forecaster {
  readonly kind = 'series';
  readonly config: SeriesConfig;

  /** Throws `ConfigError` for a model of something other than series. */
  constructor(readonly signal: SignalModel) {
    const { input } = signal.model.json as { input: SeriesConfig };
    if (input.kind !== 'series') throw wrongKind(input.kind, ['series']);
    this.config = input;
  }

  /** Makes one of a model's files. Throws `ConfigError` for a model of something other than series. */
  static async load(opened: OpenedModel): Promise<Forecaster> {
    return new Forecaster(await SignalModel.load(opened));
  }

  /**
   * A new series. `start` is when its first row is, which a model with a calendar must be told; the rows after it follow at the step of the
   * calendar. Throws `ConfigError` without it, for a time that is none, and for one that is not the end of a month where the calendar is of month ends.
   */
  session({ start }: { readonly start?: Date | undefined } = {}): SeriesSession {
    const { calendar } = this.config;
    if (!calendar) return new SeriesSession(this, this.signal.session(), []);
    const time = start?.getTime();
    if (time === undefined)
      throw new ConfigError(
        `the model reads the calendar of its rows, which are ${stepText(calendar)} apart: say when the first one is, session({ start: new Date('2026-01-31') })`,
      );
    if (!Number.isFinite(time)) throw new ConfigError('the start of a series must be a time');
    if (timeOfRow(calendar, time, 0) !== time)
      throw new ConfigError(
        `the rows of the model are at month ends: ${timeText(time)} is no last day of a month`,
      );
    return new SeriesSession(this, this.signal.session(), [], time);
  }

  /** A series from a saved file. Throws `SnapshotError` for a file that is damaged or of another model. */
  async restore(path: string): Promise<SeriesSession> {
    const { session, extra } = await this.signal.restore(path);
    const { data, dims } = extra.get('pending') ?? float32([], [0, this.config.channels.length]);
    const width = dims[1]!;
    const rows = Array.from({ length: dims[0]! }, (_, i) =>
      Array.from((data as Float32Array).subarray(i * width, (i + 1) * width)),
    );
    const [days, seconds, milliseconds = 0] = (extra.get('start')?.data ?? []) as Float32Array;
    const start = days === undefined ? undefined : 1000 * (DAY_SECONDS * days + seconds!) + milliseconds;
    return new SeriesSession(this, session, rows, start, extra.get('said'));
  }

  dispose(): Promise<void> {
    return this.signal.dispose();
  }
}

/** One series, whose values are read as they arrive. */
export class SeriesSession {
  /** The model's output at the last position. */
  private said: Forecast['values'] | undefined;

  constructor(
    private readonly forecaster: Forecaster,
    private readonly session: SignalSession,
    /** Rows of an incomplete patch. */
    private pending: number[][],
    /** When the first row was, in milliseconds since 1970, for a model with a calendar. */
    private readonly start?: number,
    said?: HostTensor,
  ) {
    this.said = said && this.unflatten(said.data as Float32Array);
  }

  /** The number of rows that were pushed. */
  get length(): number {
    return this.session.position * this.forecaster.config.patch + this.pending.length;
  }

  /** When the next row is, for a model with a calendar. */
  get next(): Date | undefined {
    return this.start === undefined ? undefined : this.timeOf(this.length);
  }

  /** When a row is, counted from the first one that was pushed. */
  private timeOf(row: number): Date {
    return new Date(timeOfRow(this.forecaster.config.calendar!, this.start!, row));
  }

  /** Bytes of the state. */
  get bytes(): number {
    return this.session.bytes;
  }

  /**
   * Reads further rows of values, in the order of the model's channels; NaN is a missing value. Throws `DataError`, and reads nothing, for
   * what is no list of rows, and for a row of another length, with an infinite value or with what is no number.
   */
  async push(rows: readonly (readonly number[])[]): Promise<void> {
    const { channels } = this.forecaster.config;
    const width = channels.length;
    if (!Array.isArray(rows))
      throw new DataError('the rows are no list: expected rows of values, as in push([[1, 2], [3, 4]])');
    for (const [i, row] of rows.entries() as Iterable<[number, readonly number[]]>) {
      const isList: boolean = Array.isArray(row) || ArrayBuffer.isView(row);
      if (!isList)
        throw new DataError(`row ${i + 1} is no list of values, one for each of ${channels.join(', ')}`);
      if (row.length !== width)
        throw new DataError(
          `row ${i + 1} has ${row.length} values, and the model reads ${width}: ${channels.join(', ')}`,
        );
      const other = row.findIndex((value) => typeof value !== 'number');
      if (other !== -1)
        throw new DataError(
          `row ${i + 1} has ${JSON.stringify(row[other]) ?? row[other]} as ${channels[other]}: expected a number, or NaN where it is missing`,
        );
      const infinite = row.findIndex((value) => Math.abs(value) === Number.POSITIVE_INFINITY);
      if (infinite !== -1) throw new DataError(`row ${i + 1} has an infinite value of ${channels[infinite]}`);
    }
    const own = rows.map((row) => [...row]);
    await this.session.inTurn(() => this.read(own));
  }

  /** Reads whole patches; the remaining rows are pending. */
  private async read(rows: readonly number[][]): Promise<void> {
    const { patch, channels } = this.forecaster.config;
    const all = [...this.pending, ...rows];
    const count = Math.floor(all.length / patch);
    const values = all.slice(0, count * patch).flat();
    const dims = [1, count, patch, channels.length];
    const inputs = {
      values: float32(
        values.map((value) => (Number.isNaN(value) ? 0 : value)),
        dims,
      ),
      observed: float32(
        values.map((value) => (Number.isNaN(value) ? 0 : 1)),
        dims,
      ),
    };
    const heard = (said: Readonly<Record<string, HostTensor>>, done: number): void => {
      this.said = this.lastOf(said);
      this.pending = all.slice(done * patch);
    };
    await this.session.readInPieces(inputs, count, heard, (size) => this.calendarInputs(size));
    this.pending = all.slice(count * patch);
  }

  /** The further inputs of a model with a calendar, for the next `positions` positions. */
  private calendarInputs(positions: number): Record<string, HostTensor> {
    const { config } = this.forecaster;
    const { calendar, patch } = config;
    if (!calendar) return {};
    const first = this.session.position * patch;
    const feeds = calendarFeeds({ ...config, calendar }, this.start!, first, positions);
    const fields = calendar.fields.length;
    return Object.fromEntries(
      Object.entries(feeds).map(([name, data]) => [
        name,
        { dtype: 'int64', dims: [1, positions, data.length / positions / fields, fields], data },
      ]),
    );
  }

  /**
   * Forecasts the targets for the next `steps` rows, after pending pushes. Beyond the model's horizon its own medians are fed back as if they
   * were observed. Throws `DataError` if fewer rows than a patch were read, and if feeding back needs channels that are not targets.
   */
  async forecast(steps: number): Promise<Forecast> {
    if (!(Number.isSafeInteger(steps) && steps >= 1))
      throw new ConfigError(`${steps} steps cannot be forecast: expected a whole number, 1 or more`);
    return this.session.inTurn(() => this.goOn(steps));
  }

  private async goOn(steps: number): Promise<Forecast> {
    const { targets, quantiles, patch, horizon, channels } = this.forecaster.config;
    if (!this.said) throw new DataError(`${this.length} rows were read: a forecast needs ${patch} at least`);
    const values = this.said.slice(this.pending.length, this.pending.length + steps);
    if (values.length < steps) {
      if (targets.length < channels.length) {
        throw new DataError(
          `${steps} steps are beyond the model's horizon of ${horizon}, and it reads ${channels.filter((name) => !targets.includes(name)).join(', ')}, which it does not forecast: ask for ${values.length} at most, or train it on its targets alone (--channel) or with all of its channels as targets (--target)`,
        );
      }
      const median = quantiles.indexOf(0.5);
      // Values that are fed back must be in the order of the channels.
      const order = channels.map((name) => targets.indexOf(name));
      const fork = this.copyFrom(this.session.copy());
      try {
        await fork.push(values.map((row) => order.map((target) => row[target]![median]!)));
        values.push(...(await fork.forecast(steps - values.length)).values);
      } finally {
        fork.dispose();
      }
    }
    const times = this.start === undefined ? undefined : values.map((_, i) => this.timeOf(this.length + i));
    return { targets, quantiles, values, ...(times && { times }) };
  }

  /** An independent session with the same state. Throws `DataError` while this one is busy. */
  fork(): SeriesSession {
    return this.copyFrom(this.session.fork());
  }

  private copyFrom(session: SignalSession): SeriesSession {
    const copy = new SeriesSession(this.forecaster, session, [...this.pending], this.start);
    copy.said = this.said;
    return copy;
  }

  /**
   * Saves the state of the series, including pending rows, as one file for `Forecaster.restore`. Throws `StorageError`.
   */
  async save(path: string): Promise<void> {
    const width = this.forecaster.config.channels.length;
    await this.session.inTurn(async () => {
      const extra = new Map([['pending', float32(this.pending.flat(), [this.pending.length, width])]]);
      if (this.said) {
        const flat = this.said.flat(2);
        extra.set('said', float32(flat, [flat.length]));
      }
      if (this.start !== undefined) {
        const seconds = Math.floor(this.start / 1000);
        const days = Math.floor(seconds / DAY_SECONDS);
        // Each is small enough for float32.
        const parts = [days, seconds - days * DAY_SECONDS, this.start - 1000 * seconds];
        extra.set('start', float32(parts, [parts.length]));
      }
      await this.session.write(path, extra);
    });
  }

  dispose(): void {
    this.session.dispose();
  }

  /** The forecast after the last position, in the series' own units, with quantiles sorted. */
  private lastOf({ scaled, center, spread }: Record<string, HostTensor>): Forecast['values'] {
    const { targets } = this.forecaster.config;
    const last = ({ data }: HostTensor, size: number): Float32Array => (data as Float32Array).subarray(-size);
    const size = scaled!.dims.slice(2).reduce((a, b) => a * b, 1);
    const [centers, spreads] = [last(center!, targets.length), last(spread!, targets.length)];
    return this.unflatten(last(scaled!, size)).map((row) =>
      row.map((values, i) =>
        values.map((value) => Math.fround(value * spreads[i]! + centers[i]!)).sort((a, b) => a - b),
      ),
    );
  }

  private unflatten(flat: Float32Array): number[][][] {
    const { horizon, targets, quantiles } = this.forecaster.config;
    return Array.from({ length: horizon }, (_, step) =>
      targets.map((_, target) => {
        const at = (step * targets.length + target) * quantiles.length;
        return Array.from(flat.subarray(at, at + quantiles.length));
      }),
    );
  }
}
