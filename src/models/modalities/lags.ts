/**
 * A linear skip connection from the last patches of a series to its forecast, parallel to the layers: the last value plus a linear map of the
 * differences to it, as in NLinear (Zeng et al., 2022, arXiv 2205.13504). The layers add the rest, in units of what the map misses: where it is nearly right,
 * a step of training changes the forecast as little as where it is not.
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

/** The sizes of the linear skip connection. */
export interface LagSizes {
  readonly lags: number;
  readonly patch: number;
  readonly channels: number;
  /** The indices of the channels that are forecast. */
  readonly targets: readonly number[];
  readonly horizon: number;
}

/** States: the previous patches, and masks of their observed values. */
const STATES = ['lagValues', 'lagObserved'] as const;

/** The states of a stream. */
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
 * x and `observed` [batch, positions, patch, channels], 0 for missing values, and the mean [batch, positions, channels] of all values so far,
 * which replaces a missing last value -> forecasts [batch, positions, horizon, targets], the size of their errors [horizon, targets] in deviations of the
 * window, and the new state. The map is initialized to zero, so that the forecast is the last value, and the sizes to 1.
 */
export function straightForecast(
  parameters: Parameters,
  { lags, patch, channels, targets, horizon }: LagSizes,
  { x, observed, mean }: { readonly x: Tensor; readonly observed: Tensor; readonly mean: Tensor },
  before: StateTensors | undefined,
): { forecast: Tensor; misses: Tensor; state: StateTensors } {
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
  const misses = parameters.within('lags', (p) =>
    p.get('misses', [horizon, targets.length], constantly(1), { decay: false, precise: true }),
  );
  const lastTargets = concat(
    targets.map((place) => slice(last, -1, place, place + 1)),
    -1,
  );
  const end = addDims(positions, lags - 1);
  return {
    forecast: add(reshape(map, [batch, positions, horizon, targets.length]), lastTargets),
    misses,
    state:
      lags === 1
        ? {}
        : { lagValues: slice(values, 1, positions, end), lagObserved: slice(seen, 1, positions, end) },
  };
}
