/**
 * Handling of unknown parameters. Clients send parameters of other servers, mostly with values that have no effect. Such a parameter is
 * ignored, unless it would change the answer or is a misspelling of a known one: then it is refused.
 */
import { z } from 'zod';

/** Synonyms of parameters in OpenAI's APIs, llama.cpp and transformers. A request uses the first name that its schema has. */
const SYNONYMS: readonly (readonly string[])[] = [
  ['repetition_penalty', 'repeat_penalty'],
  ['max_completion_tokens', 'max_tokens', 'max_output_tokens', 'n_predict', 'num_predict', 'max_new_tokens'],
];

interface Foreign {
  /** Values without an effect, in addition to null. */
  readonly neutral: readonly unknown[];
  /** Why other values are refused. */
  readonly reason: string;
}

const OFF = [false, 0, -1, '', 'none'];
const SAMPLING = 'the sampler knows temperature, top_k, top_p, min_p and the penalties alone';
const FORMATS = "what is written can be held to a 'response_format' alone";
const LENGTH = 'an answer ends where the model ends it, or at max_tokens';
const TEMPLATE = "the model's own chat template writes the prompt";

const sampling = (...neutral: unknown[]): Foreign => ({ neutral, reason: SAMPLING });
const format: Foreign = { neutral: ['', [], {}], reason: FORMATS };
const length: Foreign = { neutral: [0, false, []], reason: LENGTH };
const template: Foreign = { neutral: ['', false, []], reason: TEMPLATE };

/** Parameters that would change an answer and are not supported, by the servers that have them. */
const FOREIGN: Readonly<Record<string, Foreign>> = {
  // OpenAI
  functions: { neutral: [[]], reason: "functions are declared in 'tools'" },
  function_call: { neutral: ['none', 'auto'], reason: "functions are chosen with 'tool_choice'" },
  modalities: { neutral: [[], ['text']], reason: 'answers are text' },
  audio: { neutral: [], reason: 'answers are text' },
  web_search_options: { neutral: [], reason: 'nothing is searched here' },
  suffix: { neutral: [''], reason: 'a text is continued at its end alone' },
  conversation: { neutral: [''], reason: "what was said before is named by 'previous_response_id'" },
  background: { neutral: [false], reason: 'an answer is given while its client waits' },
  prompt: { neutral: ['', {}], reason: 'no prompts are stored here' },
  // llama.cpp, Ollama, vLLM, text-generation-webui, OpenRouter
  typical_p: sampling(0, 1),
  tfs: sampling(0, 1),
  tfs_z: sampling(0, 1),
  top_a: sampling(0),
  top_n_sigma: sampling(0, -1),
  epsilon_cutoff: sampling(0),
  eta_cutoff: sampling(0),
  xtc_probability: sampling(0),
  dry_multiplier: sampling(0),
  dynatemp_range: sampling(0),
  mirostat: sampling(0),
  mirostat_mode: sampling(0),
  length_penalty: sampling(1),
  use_beam_search: sampling(false),
  no_repeat_ngram_size: sampling(0),
  penalty_alpha: sampling(0),
  guidance_scale: sampling(0, 1),
  bad_words: sampling([]),
  banned_tokens: sampling([], ''),
  allowed_token_ids: sampling([]),
  response_format: {
    neutral: [{ type: 'text' }],
    reason: "the form of a response is said with 'text': {'format': ...}",
  },
  format: { neutral: [''], reason: "the form of a response is said with 'text': {'format': ...}" },
  grammar: format,
  grammar_string: format,
  json_schema: format,
  guided_json: format,
  guided_regex: format,
  guided_choice: format,
  guided_grammar: format,
  structured_outputs: format,
  min_tokens: length,
  ignore_eos: length,
  stop_token_ids: length,
  chat_template: template,
  continue_final_message: template,
  documents: { neutral: [[]], reason: "give them in 'chat_template_kwargs', where the template knows them" },
  prompt_logprobs: { neutral: OFF, reason: "they come with 'echo' and 'logprobs' in /v1/completions" },
};

const text = (value: unknown): string => JSON.stringify(value);

/** Whether names differ by one letter omitted, added, changed or swapped, or by the separation of words. */
function isMisspelled(name: string, known: string): boolean {
  const [a, b] = [name, known].map((one) => one.toLowerCase().replaceAll(/[^a-z0-9]/g, '')) as [
    string,
    string,
  ];
  if (a === b) return true;
  if (Math.min(a.length, b.length) < 5 || Math.abs(a.length - b.length) > 1) return false;
  let start = 0;
  while (a[start] === b[start]) start++;
  let end = 0;
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const [x, y] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  if (x.length <= 1 && y.length <= 1) return true;
  return x.length === 2 && x[0] === y[1] && x[1] === y[0];
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const withoutNulls = (values: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));

const isSynonym = (name: string): boolean => SYNONYMS.some((names) => names.includes(name));

/** Parameters of other servers that resemble ours. */
const NOT_MISSPELLED = new Set(['models', 'messages', 'prompts', 'inputs']);

/**
 * The schema of a request with these parameters. Ollama's `options` hold further ones, which count where the request itself does not have them.
 * Unknown ones are ignored or refused as described above; errors name the parameter and the reason.
 */
export function requestOf<Shape extends z.ZodRawShape>(shape: Shape) {
  const known = Object.keys(shape);
  return z.preprocess((value, context) => {
    if (!isObject(value)) return value;
    const { options, ...own } = value;
    const given = isObject(options) ? { ...options, ...withoutNulls(own) } : own;
    if (options && !isObject(options) && text(options) !== '[]')
      refuse('options', 'is not supported: expected an object of parameters');
    for (const names of SYNONYMS) {
      const name = names.find((one) => known.includes(one));
      const said = names.find((one) => !known.includes(one) && (given[one] ?? null) !== null);
      if (name && said && names.every((one) => !known.includes(one) || (given[one] ?? null) === null))
        given[name] = given[said];
    }
    for (const [name, sent] of Object.entries(given)) {
      if (known.includes(name) || isSynonym(name) || sent === null) continue;
      const foreign = Object.hasOwn(FOREIGN, name) ? FOREIGN[name] : undefined;
      const meant =
        foreign || NOT_MISSPELLED.has(name) ? undefined : known.find((one) => isMisspelled(name, one));
      if (meant) refuse(name, `does not exist: write '${meant}'`);
      else if (foreign && !foreign.neutral.some((one) => text(one) === text(sent))) {
        refuse(name, `is not supported: ${foreign.reason}`);
      }
    }
    return given;
    function refuse(name: string, message: string): void {
      context.issues.push({ code: 'custom', path: [name], message, params: UNKNOWN, input: given });
    }
  }, z.object(shape));
}

/** Marks issues of refused parameters, whose messages go on behind `the parameter 'name'`. */
export const UNKNOWN = { code: 'unknown_parameter' } as const;
