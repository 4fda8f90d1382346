/** Which choices matter: one is changed at a time, on tasks that need recall over a distance. */
import type { Section } from './section.js';
import { type Trial, trialWorks } from './trial.js';
import { trialReport } from './trial-report.js';

const SECTION = 'design-space';

/** By the name of the choice: layers, and keys of the config. */
const CHOICES: readonly [string, string, Record<string, unknown>][] = [
  ['ratio', 'M-M-M-M-S-', {}],
  ['ratio', 'M-S-', {}],
  ['ratio', 'M-M-S-M-M-S-', {}],
  ['place', 'S-M-M-M-M-', {}],
  ['place', 'M-M-S-M-M-', {}],
  ...[8, 16, 32].map((k) => ['places', 'M-M-M-M-S-', { attention_selected: k }] as [string, string, object]),
  ...[2, 64].map((w) => ['window', 'M-M-M-M-S-', { attention_window: w }] as [string, string, object]),
  ...['linear', 'surprise'].map(
    (s) => ['score', 'M-M-M-M-S-', { attention_score: s }] as [string, string, object],
  ),
  ...[4, 64].map((n) => ['state size', 'M-M-M-M-S-', { ssm_state_size: n }] as [string, string, object]),
  ...['m', 'N', 'G', 'K', 'D', 'V', 'R', 'I', 'C', 'L'].map(
    (letter) =>
      ['state matrix', `${letter}-${letter}-${letter}-${letter}-S-`, {}] as [string, string, object],
  ),
].map(([name, pattern, set]) => [name, pattern, set] as [string, string, Record<string, unknown>]);

const BASE = { attention_selected: 32, attention_window: 16, attention_score: 'convolution' };

export const designSpace: Section = {
  name: SECTION,
  title: 'The design space',
  works({ quick }) {
    const steps = quick ? 60 : 1500;
    const batch = quick ? 16 : 128;
    const chosen = quick ? CHOICES.filter(([name]) => name === 'place') : CHOICES;
    return chosen.flatMap(([name, pattern, set]): ReturnType<typeof trialWorks> => {
      const changed = Object.entries(set).map(([key, value]) => `${key.replaceAll('_', ' ')} ${value}`);
      const trial: Trial = {
        section: SECTION,
        name: [name, ...changed].join(', '),
        stages: [{ task: 'facts-16', length: 256, steps, batch }],
        size: 'nano',
        designs: [pattern],
        set: { ...BASE, ...set },
        rates: [3e-3],
        seeds: quick ? [1] : [1, 2],
        count: 64,
        longest: 1024,
      };
      return trialWorks(trial);
    });
  },
  report: (findings) => trialReport(SECTION, findings),
};
