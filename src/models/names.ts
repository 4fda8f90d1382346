/** What the files and folders of models and runs are called. */

/** The folder of a training run's model, or of its adapter, inside the run's own. */
export const CHECKPOINT = 'checkpoint';

/** The log of a training run, in its folder: a line of JSON for each event. */
export const METRICS = 'metrics.jsonl';

/** The model that comes with Heddle, by its name. */
export const SHIPPED_MODEL = 'sotu-hybrid';
