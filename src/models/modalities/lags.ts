/**
 * A straight way from the last patches of a series to its forecast, beside the layers: the last value, and a linear map of what those before
 * it differ from it by, as NLinear's (Zeng et al., 2022, arXiv 2205.13504). The layers add what no linear map tells.
 */
import {
  add,
  addDims,
  concat,
  type Dim,
  multiply,
  reshape,
  slice,
  subtract,
  type Tensor,
  zeros,
} from '../../graph/index.js';
import { constantly, linear, type Parameters, type StateSpec, type StateTensors } from '../../nn/index.js';

/** Sizes of a straight way: patches that it reads, and of what. */
export interface LagSizes {
  readonly lags: number;
  readonly patch: number;
  readonly channels: number;
  /** The channels that are forecast, by their places. */
  readonly targets: readonly number[];
  readonly horizon: number;
}

/** The patches before the present one, and where their values were observed. */
const STATES = ['lagValues', 'lagObserved'] as const;

/** What a stream keeps of the patches that it read. */
export function lagStates({ lags, patch, channels }: LagSizes): StateSpec[] {
  if (lags === 1) return [];
  return STATES.map((name) => ({
    name,
    dtype: 'float32',
    shape: ['batch', lags - 1, patch, channels],
    initial: 0,
  }));
}

/**
 * Values x and `observed` [batch, positions, patch, channels], 0 where nothing was observed, and the mean [batch, positions, channels] of what was
 * read so far, which stands for a last value that is missing -> forecasts [batch, positions, horizon, targets], and the state that follows. The
 * map begins as zeros: the forecast is the last value then.
 */
export function straightForecast(
  parameters: Parameters,
  { lags, patch, channels, targets, horizon }: LagSizes,
  { x, observed, mean }: { readonly x: Tensor; readonly observed: Tensor; readonly mean: Tensor },
  before: StateTensors | undefined,
): { forecast: Tensor; state: StateTensors } {
  const [batch, positions] = x.shape as [Dim, Dim];
  const lastOf = (each: Tensor): Tensor => slice(each, 2, patch - 1, patch);
  const missing = subtract(1, lastOf(observed));
  const last = add(lastOf(x), multiply(missing, reshape(mean, [batch, positions, 1, channels])));
  const [values, seen] = [x, observed].map((now, i) => {
    if (lags === 1) return now;
    return concat([before ? before[STATES[i]!]! : zeros([batch, lags - 1, patch, channels]), now], 1);
  }) as [Tensor, Tensor];
  const differences = Array.from({ length: lags }, (_, lag) => {
    const [value, isThere] = [values, seen].map((each) => slice(each, 1, lag, addDims(positions, lag)));
    return reshape(multiply(isThere!, subtract(value!, last)), [batch, positions, patch * channels]);
  });
  const size = horizon * targets.length;
  const map = parameters.within('lags', (p) =>
    linear(p, concat(differences, -1), size, { bias: true, precise: true, initialize: constantly(0) }),
  );
  const lastTargets = concat(
    targets.map((place) => slice(last, -1, place, place + 1)),
    -1,
  );
  const end = addDims(positions, lags - 1);
  return {
    forecast: add(reshape(map, [batch, positions, horizon, targets.length]), lastTargets),
    state:
      lags === 1
        ? {}
        : { lagValues: slice(values, 1, positions, end), lagObserved: slice(seen, 1, positions, end) },
  };
}
