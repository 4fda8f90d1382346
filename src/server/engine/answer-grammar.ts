/** The grammar that constrains an answer. */
import {
  afterThought,
  anyObject,
  callNode,
  choice,
  maybeAfterThought,
  type Node,
  schemaNode,
} from '../../generate/grammar/index.js';
import type { AnswerForm } from '../../text/index.js';
import type { PreparedPrompt } from './prompts.js';
import type { Format, GenerateRequest } from './protocol.js';

/** Undefined if the answer is not constrained. Throws `ConfigError` for a schema that cannot be enforced. */
export function answerGrammar(
  { format, calls }: Pick<GenerateRequest, 'format' | 'calls'>,
  { calls: form, thoughts, thinks }: AnswerForm,
  { generationPrompt, thinking }: Pick<PreparedPrompt, 'generationPrompt' | 'thinking'>,
): Node | undefined {
  const call = calls && form && (calls.demanded || format) ? callNode(calls.tools, form) : undefined;
  const answers = [...(format && !calls?.demanded ? [formatNode(format)] : []), ...(call ? [call] : [])];
  if (answers.length === 0) return undefined;
  const answer = choice(...answers);
  if (thinking) return afterThought(answer, thinking);
  // If the prompt already contains a closed thought, the answer has none.
  const [thought] = thoughts;
  const mayThink = thinks && generationPrompt !== undefined && !generationPrompt.includes(thought!.close);
  return mayThink ? maybeAfterThought(answer, thought!) : answer;
}

function formatNode(format: Format): Node {
  return format.kind === 'json' ? anyObject() : schemaNode(format.schema);
}
