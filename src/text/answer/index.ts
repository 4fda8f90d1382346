/** What models write, taken apart: thoughts, content and calls of tools. */
export type { AnswerForm, CallForm, ElementForm, ThoughtForm } from './form.js';
export { ID_PLACE } from './form.js';
export { learnAnswerForm, openThought } from './learn.js';
export { type AnswerPart, AnswerReader, type Reading } from './reader.js';
export { argumentTypes, type CallableTool, isStringAlone } from './typed-value.js';
