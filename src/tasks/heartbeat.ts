/**
 * Anomaly detection in a stream of heartbeats: a model learns to forecast normal beats; a large forecast error indicates an
 * abnormal beat. The stream is read piece by piece with a kept state. The signal is synthetic, a sum of waves around each beat as in
 * McSharry et al., 2003.
 */
import { Random } from '../nn/index.js';
import { seriesData } from '../train/index.js';
import { forecastsOf, streamForecasts } from './forecasts.js';
import { expectOwnLength, type Task } from './task.js';

const PATCH = 4;
/** Values of a window; a beat has about 64. */
const WINDOW = 512;
/** Patches at the start of a window that are not scored. */
const WARM = 32;
/** Patches of the stream that are read at once; earlier patches are known only through the model's state. */
const PATCHES_AT_ONCE = 16;

/** The position of each wave in a beat (0 to 1), its height and its width. */
const WAVES = [
  [0.2, 0.15, 0.03],
  [0.37, -0.12, 0.012],
  [0.4, 1, 0.014],
  [0.43, -0.25, 0.012],
  [0.65, 0.3, 0.05],
] as const;

/** A series of heartbeats. */
export interface Stream {
  readonly values: Float32Array;
  /** 1 for values of abnormal beats. */
  readonly ill: Uint8Array;
}

/** A sequence of beats of slightly varying speed; in a share `ill` of them the main wave is early, wide and inverted. */
export function heartbeats(random: Random, length: number, ill: number): Stream {
  const stream = { values: new Float32Array(length), ill: new Uint8Array(length) };
  for (let at = 0, period = 64; at < length; at += period) {
    period = Math.round(64 + 5 * random.normal());
    const isIll = random.uniform() < ill;
    for (let i = 0; i < period && at + i < length; i++) {
      const phase = i / period;
      for (const [place, height, width] of WAVES) {
        const main = height === 1;
        const [center, size, spread] = isIll && main ? [place - 0.12, -0.8, 0.035] : [place, height, width];
        stream.values[at + i]! += size * Math.exp(-(((phase - center) / spread) ** 2) / 2);
      }
      stream.values[at + i]! += 0.03 * random.normal();
      if (isIll) stream.ill[at + i] = 1;
    }
  }
  return stream;
}

/** Finding abnormal beats by the error of a model that forecasts normal ones. */
export const heartbeat: Task = {
  name: 'heartbeat',
  about: 'which beats of a made-up heart are not as they should be, by how far a forecast misses',
  source: 'made as in McSharry et al., 2003, IEEE Trans. Biomed. Eng. 50(3)',
  measure: { name: 'area under ROC', better: 'more' },
  chance: 0.5,
  lengths: { train: WINDOW / PATCH, test: [WINDOW / PATCH], unit: 'positions' },
  async prepare(length) {
    expectOwnLength('heartbeat', WINDOW / PATCH, length);
    const make = (seed: number, length: number, ill: number) => heartbeats(new Random(seed), length, ill);
    const channels = ['beat'];
    const test = make(3, 40 * WINDOW, 0.1);
    return {
      reads: {
        ...{ kind: 'series', channels, targets: channels, patch: PATCH, horizon: PATCH },
        ...{ quantiles: [0.5], offset: [0], scale: [0.25] },
      },
      sequence: WINDOW / PATCH,
      data: seriesData(
        { values: make(1, 30_000, 0).values, channels },
        { values: make(2, 6000, 0).values, channels },
      ),
      baselines: {
        // How much a patch differs from the one before it, without any model.
        'size of the change': separation(test, (at) =>
          missed(test.values, at, test.values.subarray(at - PATCH, at)),
        ),
      },
      async *score(trained) {
        const length = test.values.length.toLocaleString('en');
        const { forecasts } = await streamForecasts(trained, test.values, PATCHES_AT_ONCE);
        const streamed = (at: number): number => missed(test.values, at, forecasts[at / PATCH - 1]!);
        yield { of: `${length} values as one stream`, value: separation(test, streamed) };
        const errors = new Map<number, number>();
        const starts = Array.from({ length: test.values.length / WINDOW }, (_, i) => i * WINDOW);
        for await (const { start, forecasts } of forecastsOf(trained, test.values, starts, WINDOW)) {
          for (const [i, forecast] of forecasts.entries()) {
            const at = start + (i + 1) * PATCH;
            errors.set(at, missed(test.values, at, forecast));
          }
        }
        yield {
          of: `in windows of ${WINDOW}, each from nothing`,
          value: separation(test, (at) => errors.get(at)!),
        };
      },
    };
  },
};

function missed(values: Float32Array, at: number, forecast: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < PATCH; i++) sum += Math.abs(forecast[i]! - values[at + i]!);
  return sum;
}

/** The probability that the highest score of an abnormal beat exceeds that of a normal beat: the area under the ROC curve. */
function separation({ values, ill }: Stream, scoreAt: (at: number) => number): number {
  const [good, bad]: [number[], number[]] = [[], []];
  // Spans of a beat's length count as abnormal if most of their values are.
  for (let start = 0; start + 64 <= values.length; start += 64) {
    if (start % WINDOW < WARM * PATCH || (start % WINDOW) + 64 >= WINDOW) continue;
    let [count, worst] = [0, 0];
    for (let at = start; at < start + 64; at += PATCH) {
      worst = Math.max(worst, scoreAt(at));
      count += ill[at]!;
    }
    if (count >= 12) bad.push(worst);
    else if (count === 0) good.push(worst);
  }
  let above = 0;
  for (const a of bad) for (const b of good) above += a > b ? 1 : a === b ? 0.5 : 0;
  return above / (bad.length * good.length);
}
