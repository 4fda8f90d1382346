/** The grammar that constrains an answer. */
import {
  anyObject,
  callNode,
  choice,
  type Node,
  schemaNode,
  withThought,
} from '../../generate/grammar/index.js';
import type { AnswerForm } from '../../text/index.js';
import type { PreparedPrompt } from './prompts.js';
import type { Format, GenerateRequest } from './protocol.js';

/** Undefined if the answer is not constrained. Throws `ConfigError` for a schema that cannot be enforced. */
export function answerGrammar(
  { format, calls }: Pick<GenerateRequest, 'format' | 'calls'>,
  form: AnswerForm,
  prompt: Pick<PreparedPrompt, 'generationPrompt' | 'thinking'>,
): Node | undefined {
  const call =
    calls && form.calls && (calls.demanded || format) ? callNode(calls.tools, form.calls) : undefined;
  const answers = [...(format && !calls?.demanded ? [formatNode(format)] : []), ...(call ? [call] : [])];
  if (answers.length === 0) return undefined;
  return withThought(choice(...answers), form, prompt);
}

function formatNode(format: Format): Node {
  return format.kind === 'json' ? anyObject() : schemaNode(format.schema);
}
