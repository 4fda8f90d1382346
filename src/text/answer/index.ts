/** Parses generated answers into thoughts, content and tool calls. */
export type { AnswerForm, CallForm, ElementForm, ThoughtForm } from './form.js';
export { ID_PLACE, marksIn, NO_FORM } from './form.js';
export { historyMessages } from './history.js';
export { generationPromptOf, learnAnswerForm, openThought } from './learn.js';
export { answerMessage, type JoinedAnswer, joinedParts, messageOf, type WrittenCall } from './message.js';
export { type AnswerPart, AnswerReader, type Reading } from './reader.js';
export { type Argument, argumentsOf, type CallableTool, callableTool, isStringAlone } from './typed-value.js';
