/** Learning rate over a run: linear warm-up, then half a cosine down to a tenth. */
export interface Schedule {
  /** The highest learning rate. */
  learningRate: number;
  warmupSteps: number;
  /** Steps of the whole run. */
  steps: number;
}

const FINAL_FRACTION = 0.1;

/** The learning rate of step `step`, 1 for the first. */
export function learningRateAt({ learningRate, warmupSteps, steps }: Schedule, step: number): number {
  if (step <= warmupSteps) return (learningRate * step) / warmupSteps;
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, steps - warmupSteps));
  const cosine = (1 + Math.cos(Math.PI * progress)) / 2;
  return learningRate * (FINAL_FRACTION + (1 - FINAL_FRACTION) * cosine);
}
