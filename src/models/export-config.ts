/**
 * The text of a `config.json` for others to read. JSON has one kind of number, Python two, and transformers refuses a config
 * in which a key that it declares as float holds 1 instead of 1.0. So what is copied keeps its text, and where the fraction was
 * lost, it is put back.
 */
import { fromSafetensors } from '../graph/index.js';
import type { StoredDtype } from './stored-weights.js';

/** Keys that transformers' configs declare as float, or as a list of such, and whose values are often whole. */
const FLOATS =
  /"(?:\w+_multipliers?|logits_soft_cap|time_step_(?:limit|scale)|linear_a_log_(?:min|max)|z_loss_coefficient)"\s*:\s*(?:\[[^\]]*\]|-?\d+(?![\d.eE]))/g;

/** `text` with whole numbers written as fractions where transformers expects such. */
export function withFractions(text: string): string {
  return text.replace(FLOATS, (entry) => {
    const start = entry.indexOf(':');
    const value = entry.slice(start).replace(/(?<![\w.+-])(-?\d+)(?![\w.+-])/g, '$1.0');
    return entry.slice(0, start) + value;
  });
}

/** `text` with `dtype` and `torch_dtype` saying how the weights are stored. */
export function withDtype(text: string, dtype: StoredDtype): string {
  return text.replace(/("(?:torch_)?dtype"\s*:\s*)"\w+"/g, `$1"${fromSafetensors(dtype)}"`);
}
