/** Abilities of the designs: tasks of recall and reasoning, learned by siblings of one size. */
import type { Section } from './section.js';
import { SIBLINGS } from './siblings.js';
import { type Stage, type Trial, trialWorks } from './trial.js';
import { trialReport } from './trial-report.js';

const SECTION = 'ability';
const SEEDS = [1, 2, 3];
const FIVE = [1, 2, 3, 4, 5];

/** Selective attention that keeps `places` tokens, with scores from a causal convolution. */
function selecting(places: number): NonNullable<Trial['set']> {
  return {
    attention_selected: places,
    attention_window: 16,
    attention_score: 'convolution',
    attention_scores_window: true,
  };
}

/** Defaults of the trials. */
const COMMON = {
  section: SECTION,
  size: 'nano',
  designs: SIBLINGS,
  rates: [1e-3, 3e-3],
  seeds: SEEDS,
} as const;

/** Parity needs more steps than these, but with intermediate steps written out all designs learn it in fifty. */
const QUICK: readonly Trial[] = [
  { task: 'parity', length: 12 },
  { task: 'parity-steps', length: 24 },
].map((stage) => ({
  ...COMMON,
  stages: [{ ...stage, steps: 100, batch: 16 }],
  ...{ rates: [3e-3], seeds: [1], count: 64, longest: 40 },
}));

/** Half as wide as `nano`, as in the model that recalls 32 pairs of a smaller vocabulary. */
const NARROW = {
  hidden_size: 64,
  intermediate_size: 128,
  mamba_num_heads: 4,
  num_attention_heads: 2,
  num_key_value_heads: 2,
};

const TIED = { tie_word_embeddings: true };

/**
 * With a tied head, a model that finds one value finds all of them. But its logits are too small for a confident choice among 8,192 until the
 * last norm and the embeddings have grown, so these have larger learning rates.
 */
const GROWING = { '*embeddings*': 4, '*norm_f*': 10 };

/** The first stage learns the lookup on few pairs. */
const FEW_PAIRS: Stage = {
  task: 'mqar-8',
  length: 32,
  steps: 400,
  batch: 512,
  until: 0.95,
  factors: GROWING,
};

/** What is tested is an average of the last stage's weights. */
const PAIRS: readonly Stage[] = [
  FEW_PAIRS,
  { task: 'mqar-64', length: 256, steps: 1200, batch: 512, until: 0.99, factors: GROWING },
  { task: 'mqar-64', steps: 1200, batch: 256, until: 0.998, factors: GROWING, average: 0.99 },
];

const FEW_FACTS: Stage = { task: 'facts-8', length: 64, steps: 1500, batch: 256, until: 0.95 };

const WRITTEN_STEPS: Stage = { task: 'inference-steps', length: 144, steps: 1500, batch: 256, until: 0.99 };

/** Each token is a mirror or several, whatever stands before it: a convolution over four tokens would have to be unlearned. */
const MIRRORING = { negative_eigenvalues: true, conv_kernel: 1 };

const FULL: readonly Trial[] = [
  {
    ...COMMON,
    stages: PAIRS,
    designs: ['M-S-', ...SIBLINGS],
    set: { ...NARROW, ...TIED, ...selecting(128) },
    // A part of the steps cannot select a rate: until the lookup is learned, all rates are at chance.
    ...{ rates: [3e-3], seeds: FIVE, count: 64, longest: 1024 },
  },
  {
    ...COMMON,
    name: 'mqar-64, as many places',
    stages: PAIRS,
    designs: ['M-S-', 'hybrid-selective'],
    set: { ...NARROW, ...TIED, ...selecting(64) },
    ...{ rates: [3e-3], seeds: FIVE, count: 64, longest: 1024 },
  },
  {
    ...COMMON,
    stages: [
      FEW_PAIRS,
      { task: 'mqar-16', length: 64, steps: 600, batch: 512, until: 0.99, factors: GROWING },
      { task: 'mqar-16', steps: 1000, batch: 256, until: 0.998, factors: GROWING },
    ],
    set: { ...NARROW, ...TIED, ...selecting(32) },
    ...{ rates: [3e-3], count: 128, longest: 256 },
  },
  {
    ...COMMON,
    stages: [{ task: 'facts-16', length: 256, steps: 1500, batch: 64 }],
    designs: ['M-S-', ...SIBLINGS],
    // The MLPs of siblings are sized so that all have the same number of parameters.
    set: { ...selecting(64), intermediate_size: 128 },
    ...{ rates: [2e-3, 4e-3], count: 16, longest: 1_048_576 },
  },
  {
    ...COMMON,
    stages: [{ task: 'facts-8', length: 256, steps: 1500, batch: 64 }],
    designs: ['M-S-'],
    set: selecting(64),
    ...{ rates: [2e-3, 4e-3], count: 16, longest: 1_048_576 },
  },
  // In these steps `M-S-` alone learns facts-16 from long texts. Few facts in short texts first, or Muon, teach deeper siblings, too.
  {
    ...COMMON,
    name: 'facts-16, short texts first',
    stages: [
      FEW_FACTS,
      { task: 'facts-16', length: 128, steps: 800, batch: 128, until: 0.98 },
      { task: 'facts-16', length: 256, steps: 1500, batch: 64 },
    ],
    designs: ['M-S-', ...SIBLINGS],
    set: { ...selecting(64), intermediate_size: 128 },
    ...{ rates: [1e-3], count: 16, longest: 1_048_576 },
  },
  {
    ...COMMON,
    name: 'facts-16, Muon',
    stages: [{ task: 'facts-16', length: 256, steps: 1500, batch: 64, optimizer: 'muon' }],
    set: { ...selecting(64), intermediate_size: 128 },
    ...{ rates: [3e-3], count: 16, longest: 1_048_576 },
  },
  ...(
    [
      [
        'facts-16-rewritten',
        64,
        { task: 'facts-16-rewritten', length: 128, steps: 1200, batch: 128, until: 0.98 },
      ],
      [
        'facts-16-unmarked',
        64,
        { task: 'facts-16-unmarked', length: 128, steps: 1200, batch: 128, until: 0.98 },
      ],
      ['facts-32', 128, { task: 'facts-16', length: 128, steps: 800, batch: 128, until: 0.98 }],
    ] as const
  ).map(([task, places, between]) => ({
    ...COMMON,
    stages: [FEW_FACTS, between, { task, length: 256, steps: 1500, batch: 64 }],
    designs: ['M-S-'],
    set: selecting(places),
    ...{ rates: [2e-3], count: 16, longest: 1_048_576 },
  })),
  {
    ...COMMON,
    stages: [
      { task: 'selective-copying', length: 128, steps: 3000, batch: 256, until: 0.995 },
      { task: 'selective-copying', length: 512, steps: 600, batch: 64, until: 0.995 },
      { task: 'selective-copying', steps: 400, batch: 16, until: 0.999 },
    ],
    set: selecting(32),
    ...{ rates: [2e-3], count: 32, longest: 4096 },
  },
  {
    ...COMMON,
    // One answer in 256 tokens is a weak training signal, so short texts come first.
    stages: [
      { task: 'induction', length: 16, steps: 400, batch: 256 },
      { task: 'induction', length: 32, steps: 300, batch: 256 },
      { task: 'induction', length: 64, steps: 300, batch: 128 },
      { task: 'induction', steps: 600, batch: 64 },
    ],
    designs: ['M-S-', ...SIBLINGS],
    set: selecting(32),
    ...{ count: 256, longest: 65_536 },
  },
  {
    ...COMMON,
    // Scores that were learned among 256 tokens alone keep the number among some thousands, and not among more.
    stages: [
      { task: 'passkey', length: 256, steps: 1000, batch: 64 },
      { task: 'passkey', length: 4096, steps: 400, batch: 8 },
    ],
    designs: ['M-S-'],
    set: selecting(32),
    ...{ rates: [3e-3], count: 32, longest: 1_048_576 },
  },
  {
    ...COMMON,
    stages: [
      { task: 'phonebook', length: 64, steps: 1500, batch: 256, until: 0.99 },
      { task: 'phonebook', steps: 1000, batch: 128, until: 0.998 },
    ],
    set: selecting(128),
    tuning: 0.5,
    ...{ count: 128, longest: 1024 },
  },
  // Many questions about few rules come first, with intermediate steps written out, without which nothing is learned.
  ...(
    [
      [WRITTEN_STEPS, { task: 'inference-steps', steps: 800, batch: 256, until: 0.998 }],
      [
        WRITTEN_STEPS,
        { task: 'inference', length: 144, steps: 1500, batch: 256, until: 0.99 },
        { task: 'inference', steps: 1000, batch: 256 },
      ],
    ] as const
  ).map((stages) => ({
    ...COMMON,
    stages,
    set: selecting(64),
    ...{ rates: [1e-3], count: 96, longest: 192 },
  })),
  // The same of nouns: to say at once what is some steps up is learned after writing the steps.
  ...[2, 4].flatMap((up) => {
    const written: Stage = { task: `wordnet-${up}-steps`, length: 48, steps: 1500, batch: 256, until: 0.99 };
    return [
      [written, { task: `wordnet-${up}-steps`, steps: 800, batch: 256, until: 0.998 }],
      [
        written,
        { task: `wordnet-${up}`, length: 48, steps: 1000, batch: 256, until: 0.99 },
        { task: `wordnet-${up}`, steps: 800, batch: 256, until: 0.998 },
      ],
    ].map((stages) => ({
      ...COMMON,
      stages,
      set: selecting(64),
      ...{ tuning: 0.5, count: 256, longest: 192 },
    }));
  }),
  ...(['listops', 'listops-steps'] as const).map((task) => ({
    ...COMMON,
    stages: [{ task, length: 64, steps: 2000, batch: 128 }],
    set: selecting(64),
    ...{ count: 256, longest: 256 },
  })),
  {
    ...COMMON,
    stages: [
      { task: 's5-swaps', length: 8, steps: 600, batch: 512, until: 0.995 },
      { task: 's5-swaps', steps: 1000, batch: 256, until: 0.999 },
    ],
    designs: ['D-'],
    set: { delta_steps: 1, ...MIRRORING },
    ...{ rates: [2e-3], count: 128, longest: 256 },
  },
  {
    ...COMMON,
    // Swaps are learned first: every permutation is a product of at most four of them.
    stages: [
      { task: 's5-swaps', length: 16, steps: 800, batch: 512, until: 0.99 },
      { task: 's5', length: 16, steps: 2500, batch: 1024, until: 0.98 },
      { task: 's5', steps: 2000, batch: 256, until: 0.9985 },
    ],
    designs: ['D-'],
    set: { delta_steps: 4, ...MIRRORING },
    ...{ rates: [1e-3], count: 128, longest: 256 },
  },
  {
    ...COMMON,
    stages: [{ task: 's5-steps', length: 32, steps: 2000, batch: 256 }],
    set: selecting(32),
    ...{ count: 128, longest: 64 },
  },
  {
    ...COMMON,
    stages: [{ task: 'parity', steps: 600, batch: 128, until: 0.999 }],
    designs: ['D-'],
    set: { delta_steps: 1, ...MIRRORING },
    ...{ rates: [2e-3], count: 256, longest: 256 },
  },
  {
    ...COMMON,
    stages: [{ task: 'parity-steps', steps: 600, batch: 128 }],
    set: selecting(16),
    ...{ count: 256, longest: 256 },
  },
];

/** The tasks that each design learns. */
export const ability: Section = {
  name: SECTION,
  title: 'What each design can do',
  works: ({ quick }) => (quick ? QUICK : FULL).flatMap(trialWorks),
  report: (findings) => trialReport(SECTION, findings),
};
