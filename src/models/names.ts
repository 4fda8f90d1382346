/** What the files and folders of models and runs are called. */

/** The folder of a training run's model, or of its adapter, inside the run's own. */
export const CHECKPOINT = 'checkpoint';

/** The log of a training run, in its folder: a line of JSON for each event. */
export const METRICS = 'metrics.jsonl';

/** The model that comes with Heddle, by its name. */
export const SHIPPED_MODEL = 'sotu-hybrid';

/** The file with a model's config in its folder, as on Hugging Face. */
export const CONFIG_FILE = 'config.json';
/** The file with a model's weights, where they are in one. */
export const WEIGHTS_FILE = 'model.safetensors';
/** The config of an adapter, in its folder (lora-folder.ts). */
export const ADAPTER_CONFIG_FILE = 'adapter_config.json';
