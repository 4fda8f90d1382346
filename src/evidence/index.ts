/** Evidence: measurements of the cost and abilities of designs, collected on a page. */
import { ability } from './ability.js';
import { designSpace } from './design-space.js';
import { energy } from './energy.js';
import { identification } from './identification.js';
import { memory } from './memory.js';
import { otherThanText } from './other-than-text.js';
import type { Section } from './section.js';
import { time } from './time.js';

export { type Finding, Findings, readFindings } from './finding.js';
export { gather } from './gather.js';
export { writePage } from './page.js';
export type { Scope, Section } from './section.js';
export { takeFindings } from './take.js';
export { ANSWERS, BASELINE, SCORE } from './trial.js';
export { taskTold } from './trial-report.js';
export { type Bench, benchOf, type Work } from './work.js';

/** All sections, in the order of the page. */
export const SECTIONS: readonly Section[] = [
  memory,
  time,
  energy,
  ability,
  designSpace,
  otherThanText,
  identification,
];
