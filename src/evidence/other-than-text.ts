/** Images, series, sounds and language: the same layers on other things. */
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

const QUICK: readonly Trial[] = [
  { ...BASE, stages: [{ task: 'co2', steps: 200, batch: 16 }], rates: [2e-3], seeds: [1] },
];

const SIGNALS = [
  'weather',
  'temperature-24',
  'temperature-96',
  'temperature-336',
  'co2',
  'prices',
  'heartbeat',
];

const FULL: readonly Trial[] = [
  { ...BASE, stages: [{ task: 'mnist', steps: 5000, batch: 64 }], rates: [2e-3] },
  { ...BASE, stages: [{ task: 'mnist-pixels', steps: 4000, batch: 32 }], rates: [2e-3] },
  ...SIGNALS.map((task) => ({ ...BASE, stages: [{ task, steps: 500, batch: 16 }], rates: [2e-3] })),
  {
    ...BASE,
    stages: [{ task: 'book-bytes', steps: 1500, batch: 32 }],
    rates: [2e-3],
    set: { attention_selected: 64, attention_window: 64 },
  },
  { ...BASE, stages: [{ task: 'spoken-digits', steps: 700, batch: 16 }], rates: [2e-3] },
  { ...BASE, stages: [{ task: 'fashion-mnist', steps: 10_000, batch: 64 }], rates: [2e-3] },
];

export const otherThanText: Section = {
  name: SECTION,
  title: 'Images, series, speech and language',
  works: ({ quick }) => (quick ? QUICK : FULL).flatMap(trialWorks),
  report: (findings) => trialReport(SECTION, findings),
};
