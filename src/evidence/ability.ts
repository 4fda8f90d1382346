/** What each design can do: tasks of recall and reasoning, learned by siblings of one size. */
import type { Section } from './section.js';
import { SIBLINGS } from './siblings.js';
import { type Trial, trialWorks } from './trial.js';
import { trialReport } from './trial-report.js';

const SECTION = 'ability';
const SEEDS = [1, 2, 3];
const FIVE = [1, 2, 3, 4, 5];

/** Places for twice as many tokens as there are answers, found by scores that see the tokens before. */
function selecting(places: number): NonNullable<Trial['set']> {
  return {
    attention_selected: places,
    attention_window: 16,
    attention_score: 'convolution',
    attention_scores_window: true,
  };
}

const QUICK: readonly Trial[] = [
  {
    section: SECTION,
    stages: [{ task: 'induction', length: 48, steps: 200, batch: 32 }],
    size: 'nano',
    designs: SIBLINGS,
    rates: [2e-3, 6e-3],
    seeds: [1],
    count: 32,
    longest: 256,
  },
  {
    section: SECTION,
    stages: [{ task: 'parity', length: 12, steps: 150, batch: 32 }],
    size: 'nano',
    designs: SIBLINGS,
    rates: [2e-3, 6e-3],
    seeds: [1],
    count: 64,
    longest: 256,
  },
];

const FULL: readonly Trial[] = [
  {
    section: SECTION,
    stages: [{ task: 'mqar-64', length: 256, steps: 3000, batch: 128 }],
    size: 'nano',
    designs: ['M-S-', ...SIBLINGS],
    set: selecting(128),
    rates: [3e-3],
    seeds: FIVE,
    count: 64,
    longest: 1024,
  },
  {
    section: SECTION,
    name: 'mqar-64, as many places',
    stages: [{ task: 'mqar-64', length: 256, steps: 3000, batch: 128 }],
    size: 'nano',
    designs: ['M-S-'],
    set: selecting(64),
    rates: [3e-3],
    seeds: FIVE,
    count: 64,
    longest: 1024,
  },
  {
    section: SECTION,
    stages: [{ task: 'facts-16', length: 256, steps: 1500, batch: 64 }],
    size: 'nano',
    designs: ['M-S-', ...SIBLINGS],
    set: selecting(64),
    rates: [2e-3],
    seeds: SEEDS,
    count: 16,
    longest: 1_048_576,
  },
  {
    section: SECTION,
    stages: [
      { task: 'selective-copying', length: 256, steps: 1200, batch: 64 },
      { task: 'selective-copying', steps: 200, batch: 4 },
    ],
    size: 'nano',
    designs: SIBLINGS,
    set: selecting(32),
    rates: [3e-3],
    seeds: SEEDS,
    count: 32,
    longest: 4096,
  },
  {
    section: SECTION,
    stages: [{ task: 'induction', steps: 1000, batch: 64 }],
    size: 'nano',
    designs: SIBLINGS,
    set: selecting(32),
    rates: [2e-3],
    seeds: SEEDS,
    count: 32,
    longest: 65_536,
  },
  ...(['listops', 'listops-steps'] as const).map((task) => ({
    section: SECTION,
    stages: [{ task, length: 64, steps: 2000, batch: 128 }],
    size: 'nano' as const,
    designs: SIBLINGS,
    set: selecting(64),
    rates: [2e-3],
    seeds: SEEDS,
    count: 256,
    longest: 256,
  })),
  ...(['inference-2', 'inference-4', 'inference-4-steps'] as const).map((task) => ({
    section: SECTION,
    stages: [{ task, steps: 2000, batch: 128 }],
    size: 'nano' as const,
    designs: SIBLINGS,
    set: selecting(64),
    rates: [3e-3],
    seeds: SEEDS,
    count: 256,
    longest: 192,
  })),
  {
    section: SECTION,
    stages: [
      { task: 's5-swaps', length: 8, steps: 600, batch: 512 },
      { task: 's5-swaps', steps: 1000, batch: 256 },
    ],
    size: 'nano',
    designs: ['D-', ...SIBLINGS],
    set: { delta_steps: 1, negative_eigenvalues: true, ...selecting(32) },
    rates: [1e-3],
    seeds: SEEDS,
    count: 128,
    longest: 256,
  },
  {
    section: SECTION,
    // What swaps are is learned first: every permutation is four of them at most.
    stages: [
      { task: 's5-swaps', length: 8, steps: 600, batch: 512 },
      { task: 's5-swaps', length: 32, steps: 800, batch: 256 },
      { task: 's5', length: 8, steps: 1500, batch: 512 },
      { task: 's5', steps: 1500, batch: 256 },
    ],
    size: 'nano',
    designs: ['D-'],
    set: { delta_steps: 4, negative_eigenvalues: true },
    rates: [1e-3],
    seeds: SEEDS,
    count: 128,
    longest: 256,
  },
  {
    section: SECTION,
    // Short rows first: of long ones alone nothing is learned.
    stages: [
      { task: 'parity', length: 4, steps: 150, batch: 128 },
      { task: 'parity', length: 8, steps: 200, batch: 128 },
      { task: 'parity', length: 16, steps: 300, batch: 128 },
      { task: 'parity', steps: 300, batch: 128 },
    ],
    size: 'nano',
    designs: ['D-', ...SIBLINGS],
    set: { delta_steps: 1, negative_eigenvalues: true, ...selecting(16) },
    rates: [2e-3],
    seeds: SEEDS,
    count: 256,
    longest: 256,
  },
];

export const ability: Section = {
  name: SECTION,
  title: 'What each design can do',
  works: ({ quick }) => (quick ? QUICK : FULL).flatMap(trialWorks),
  report: (findings) => trialReport(SECTION, findings),
};
