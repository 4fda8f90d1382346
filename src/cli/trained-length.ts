/** Texts that are longer than those that a model was made for. */
import type { LanguageModel } from '../generate/index.js';
import { contextLength } from '../models/index.js';

/**
 * What to tell of a text of so many tokens, behind other words; nothing where it is no longer, and where the model's memory
 * does not grow with the text, which is made to read on and on.
 */
export function beyondTraining({ model }: LanguageModel, tokens: number): string {
  const length = contextLength(model);
  if (length === undefined || tokens <= length) return '';
  return `; longer than the ${length.toLocaleString('en')} tokens that the model was made for: it may write nonsense`;
}
