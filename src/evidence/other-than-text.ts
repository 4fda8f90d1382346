/** Images, time series, speech and translation: the same layers on other data. */
import type { Section } from './section.js';
import { SIBLINGS } from './siblings.js';
import { type Trial, trialWorks } from './trial.js';
import { trialReport } from './trial-report.js';

const SECTION = 'other';

const BASE = {
  section: SECTION,
  size: 'nano' as const,
  designs: SIBLINGS,
  seeds: [1, 2, 3],
  count: 64,
  longest: 16_384,
};

const RATES = [1e-3, 3e-3];

const QUICK: readonly Trial[] = [
  { ...BASE, stages: [{ task: 'co2', steps: 200, batch: 16 }], rates: [2e-3], seeds: [1] },
];

/** The settings of series, whose layers start from a fitted linear map: where they find nothing more, the best evaluation is the one before the first step. */
const SERIES = [
  ...['weather', 'co2'].map((task) => ({ task, steps: 96, batch: 32, rates: [3e-4, 1e-3] })),
  ...['births', 'prices', 'temperature-24', 'temperature-96', 'temperature-336'].map((task) => ({
    ...{ task, steps: 48, batch: 16, rates: [1e-3] },
  })),
].map((series) => ({ ...series, keep: 'best' as const, evaluateEvery: 8 }));

/** The fitted linear map of series is frozen, and the layers learn its residual. */
const STRAIGHT = { 'lags.*': 0 };
/** So are the fitted effects of the calendar, where there is one. */
const DATED = { ...STRAIGHT, 'calendar.*': 0 };

/** For long runs, a tenth of the steps selects the rate. */
const LONG = { rates: RATES, tuning: 0.1 };

/** A network that halves images between convolutions, and then has a Mamba-2 layer in both directions and one of attention. */
const NETWORK = { designs: ['convolutional-hybrid'] };

/** The config of that network, 32 wide at first, whose first places are squares of `patch` x `patch` pixels. */
function halving(pattern: string, patch: number): NonNullable<Trial['set']> {
  return {
    pattern,
    hidden_size: 32,
    intermediate_size: 64,
    mamba_num_heads: 1,
    num_attention_heads: 1,
    num_key_value_heads: 1,
    input: { patch, stem: 'convolution' },
  };
}

const FULL: readonly Trial[] = [
  { ...BASE, stages: [{ task: 'mnist', steps: 2500, batch: 256 }], rates: [2e-3] },
  {
    ...{ ...BASE, ...NETWORK },
    stages: [{ task: 'mnist', steps: 1200, batch: 64, average: 0.99 }],
    set: halving('c/c/<M><*>-', 2),
    rates: [2e-3],
  },
  { ...BASE, stages: [{ task: 'mnist-pixels', steps: 2000, batch: 128 }], rates: [2e-3] },
  { ...BASE, stages: [{ task: 'fashion-mnist', steps: 5000, batch: 128 }], rates: [2e-3] },
  {
    ...{ ...BASE, ...NETWORK },
    stages: [{ task: 'fashion-mnist', steps: 4500, batch: 256, average: 0.999 }],
    set: halving('c/cc/cc/<M>-<*>-', 1),
    rates: [2e-3],
  },
  ...SERIES.map(({ rates, ...stage }) => ({
    ...BASE,
    stages: [{ ...stage, factors: stage.task === 'births' ? DATED : STRAIGHT }],
    ...{ rates, tuning: 1 },
  })),
  { ...BASE, stages: [{ task: 'heartbeat', steps: 500, batch: 16 }], rates: RATES },
  {
    ...BASE,
    ...LONG,
    stages: [{ task: 'book-bytes', steps: 1000, batch: 32, keep: 'best' }],
    set: { attention_selected: 64, attention_window: 64 },
  },
  { ...BASE, stages: [{ task: 'spoken-digits', steps: 700, batch: 16 }], rates: RATES },
  { ...BASE, ...LONG, stages: [{ task: 'spoken-digits-raw', steps: 2000, batch: 32 }] },
  {
    ...{ ...BASE, ...LONG, size: 'small' as const, count: 128 },
    stages: [{ task: 'verses', steps: 3000, batch: 64, keep: 'best', evaluateEvery: 200 }],
  },
  { ...BASE, ...LONG, stages: [{ task: 'fashion-mnist-pixels', steps: 8000, batch: 32 }] },
];

/** Tasks of images, series, sounds and translation. */
export const otherThanText: Section = {
  name: SECTION,
  title: 'Images, series, speech and language',
  works: ({ quick }) => (quick ? QUICK : FULL).flatMap(trialWorks),
  report: (findings) => trialReport(SECTION, findings),
};
