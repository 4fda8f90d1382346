/** The numbers of a finding for a person: each with its unit. */
import { ANSWERS, BASELINE, type Finding, SCORE, taskTold } from '../evidence/index.js';
import { ACCURACY, type Measure, scoreText } from '../tasks/index.js';
import { formatBytes, formatCount, formatRate } from './format.js';

/** Measures of tasks that a model learns by forecasting values. */
const FORECAST: readonly Measure['name'][] = ['squared error', 'area under ROC'];

/** `loss 0.024 nats, accuracy 99.8 %, 58.3M tokens`: all of them, in their order. */
export function numbersTold(finding: Finding): string {
  return Object.entries(finding.numbers)
    .map(([name, value]) => numberTold(name, value, finding))
    .join(', ');
}

function numberTold(name: string, value: number, finding: Finding): string {
  const measure = taskTold(finding)?.measure ?? ACCURACY;
  for (const kind of [SCORE, BASELINE])
    if (name.startsWith(kind)) return `${name.slice(kind.length)}: ${scoreText(measure, value)}`;
  if (name.startsWith(ANSWERS)) return `${value.toLocaleString('en')} answers`;
  if (name.includes('bytes')) return name.replace('bytes', formatBytes(value));
  const digits = String(Number(value.toPrecision(4)));
  switch (name) {
    case 'loss':
      // Of forecasts it is an error in deviations.
      return `loss ${digits}${FORECAST.includes(measure.name) ? '' : ' nats'}`;
    case 'accuracy':
      return `accuracy ${scoreText(ACCURACY, value)}`;
    case 'seconds':
      return `${digits} s`;
    case 'watts':
      return `${digits} W`;
    case 'joules for 1,000 tokens':
      return `${digits} J for 1,000 tokens`;
    case 'tokens/s':
      return formatRate(value);
    case 'context':
      return `behind ${value.toLocaleString('en')} tokens`;
    case 'tokens':
    case 'parameters':
      return `${formatCount(value)} ${name}`;
    default:
      return `${name} ${digits}`;
  }
}
