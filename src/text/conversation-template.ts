/** The chat template of models that are trained on conversations and have none. */
import { TokenizerError } from '../errors.js';
import type { Tokenizer } from './tokenizer.js';

/**
 * The source of a chat template that writes each role on a line of its own above the text, and ends each answer with the end-of-text token.
 * Throws `TokenizerError` for a tokenizer without one, since answers could not end.
 */
export function conversationTemplate(tokenizer: Tokenizer): string {
  const { beginning, endOfText } = tokenizer;
  if (endOfText === undefined)
    throw new TokenizerError(
      'the tokenizer has no end-of-text token, which ends an answer; name one as eos_token in its tokenizer_config.json',
    );
  return [
    tokenizer.decode(beginning),
    `{% for message in messages %}{{ message.role | capitalize + ':\\n' + message.content | trim }}`,
    `{% if message.role == 'assistant' %}${tokenizer.decode([endOfText])}{% endif %}{{ '\\n' }}{% endfor %}`,
    `{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}`,
  ].join('');
}
