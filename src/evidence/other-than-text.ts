/** Images, series, sounds and language: the same layers on other things. */
import type { Section } from './section.js';
import { SIBLINGS } from './siblings.js';
import { type Trial, trialWorks } from './trial.js';
import { trialReport } from './trial-report.js';

const SECTION = 'other';

const QUICK: readonly Trial[] = [];
const FULL: readonly Trial[] = [];

export const otherThanText: Section = {
  name: SECTION,
  title: 'Images, series, speech and language',
  works: ({ quick }) => (quick ? QUICK : FULL).flatMap(trialWorks),
  report: (findings) => trialReport(SECTION, findings),
};
void SIBLINGS;
