/**
 * Writes a `config.json` for other programs. JSON has one kind of number, Python two, and transformers refuses a config with 1 instead of 1.0
 * for a key that it declares as float. So copied values keep their text, and lost fractions are restored.
 */
import { fromSafetensors } from '../graph/index.js';
import type { StoredDtype } from './stored-weights.js';

/** Keys that transformers' configs declare as float, or list of floats, and whose values are often whole. */
const FLOATS =
  /"(?:\w+_multipliers?|logits_soft_cap|time_step_(?:limit|scale)|linear_a_log_(?:min|max)|z_loss_coefficient)"\s*:\s*(?:\[[^\]]*\]|-?\d+(?![\d.eE]))/g;

/** `text` with whole numbers written as floats for the keys above. */
export function withFractions(text: string): string {
  return text.replace(FLOATS, (entry) => {
    const start = entry.indexOf(':');
    const value = entry.slice(start).replace(/(?<![\w.+-])(-?\d+)(?![\w.+-])/g, '$1.0');
    return entry.slice(0, start) + value;
  });
}

/** `text` with `dtype` and `torch_dtype` set to the dtype of the stored weights. */
export function withDtype(text: string, dtype: StoredDtype): string {
  return text.replace(/("(?:torch_)?dtype"\s*:\s*)"\w+"/g, `$1"${fromSafetensors(dtype)}"`);
}
