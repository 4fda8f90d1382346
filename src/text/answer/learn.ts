/**
 * Learns the form of a model's calls and thoughts from its chat template: the template renders answers that have them, and the
 * result is analysed. The model was trained on such texts, so it generates the same form.
 */
import { TokenizerError } from '../../errors.js';
import type { ChatMessage, ChatTemplate } from '../chat-template.js';
import {
  type AnswerForm,
  type CallForm,
  type CallIds,
  type ElementForm,
  HERMES,
  ID_PLACE,
  KNOWN_CALLS,
  KNOWN_THOUGHTS,
  NO_FORM,
  namedId,
  THINK,
  type ThoughtForm,
  tagsOf,
} from './form.js';

const ONE = 'heddle_probe_one';
const TWO = 'heddle_probe_two';
const TEXT = 'probed text';
const NUMBER = 73_911;
const PONDERED = 'heddle pondered';
const SAID = 'heddle said';
const USER: ChatMessage = { role: 'user', content: 'hello' };
/** Some templates refuse ids of another form. */
const LONG_ID = `call_${ID_PLACE}`;

const TOOLS = [ONE, TWO].map((name) => ({
  type: 'function',
  function: {
    name,
    description: name,
    parameters: {
      type: 'object',
      properties: { alpha: { type: 'string' }, beta: { type: 'integer' } },
      required: ['alpha', 'beta'],
    },
  },
}));

/** The same call without arguments, since some templates require more of an argument than a text. */
const BARE_TOOLS = TOOLS.map(({ type, function: { name, description } }) => ({
  type,
  function: { name, description, parameters: { type: 'object', properties: {} } },
}));

/** Names of tokens in the vocabulary: which may include marks that the template does not render. */
type HasToken = (name: string) => boolean;

/** Renders a conversation; undefined if the template refuses it. */
type Render = (
  messages: readonly ChatMessage[],
  options?: { prompt?: boolean; tools?: readonly unknown[] },
) => Promise<string | undefined>;

/** The form of a template's answers. Throws `TokenizerError` for a template that cannot be rendered within its limits. */
export async function learnAnswerForm(
  template: ChatTemplate,
  hasToken: HasToken = () => false,
): Promise<AnswerForm> {
  const render: Render = async (messages, { prompt = false, tools } = {}) => {
    try {
      return await template.render(messages, { addGenerationPrompt: prompt, ...(tools && { tools }) });
    } catch (error) {
      if (error instanceof TokenizerError) return undefined;
      throw error;
    }
  };
  // A template that cannot render this cannot render anything.
  const rendersNothing =
    (await render([USER])) === undefined && (await render([USER], { tools: TOOLS })) === undefined;
  if (rendersNothing) return NO_FORM;
  const shown = await learnThought(render);
  const known = KNOWN_THOUGHTS.filter(({ open }) => template.mentions(open) || hasToken(open));
  const thoughts = [...(shown ? [shown.thought] : []), ...known, THINK];
  const distinct = thoughts.filter(({ open }, i) => thoughts.findIndex((each) => each.open === open) === i);
  const ask = (tools: readonly unknown[]) => render([USER], { prompt: true, tools });
  const prompt = (await ask(TOOLS)) ?? (await ask(BARE_TOOLS));
  const told = prompt?.includes(ONE) ?? false;
  const { calls, takesText, ids } = told ? await learnCalls(render, distinct) : NOT_LEARNED;
  const spokenOf = KNOWN_CALLS.find(
    ([evidence]) => template.mentions(evidence) || prompt?.includes(evidence) || hasToken(evidence),
  )?.[1];
  return {
    calls: told ? withPythonTag(calls ?? spokenOf ?? HERMES, template) : undefined,
    thoughts: distinct,
    thinks: shown !== undefined || known.length > 0 || template.mentions(THINK.open),
    history: { takesText, ids, thoughtKey: shown?.key ?? NO_FORM.history.thoughtKey },
  };
}

/** The prefix that a template renders before an answer: the difference between the texts with and without one. */
export function generationPromptOf(without: string, withPrompt: string): string {
  let at = 0;
  while (at < without.length && without[at] === withPrompt[at]) at++;
  return withPrompt.slice(at);
}

/** The thought that a generation prompt opens. */
export function openThought(prompt: string, { thoughts }: AnswerForm): ThoughtForm | undefined {
  return thoughts.find(({ open, close }) => prompt.lastIndexOf(open) > prompt.lastIndexOf(close));
}

/** Llama 3 may mark a call, or not. */
function withPythonTag(form: CallForm, template: ChatTemplate): CallForm {
  const mark = '<|python_tag|>';
  if (form.opens.length > 0 || !template.mentions(mark)) return form;
  return { ...form, marks: [mark] };
}

/** Names of the message field for a thought, the most common first. */
const THOUGHT_KEYS = ['reasoning_content', 'thinking', 'reasoning'];

async function learnThought(render: Render): Promise<{ thought: ThoughtForm; key: string } | undefined> {
  for (const key of THOUGHT_KEYS) {
    const text = await render([USER, { role: 'assistant', content: SAID, [key]: PONDERED }]);
    const thought = text === undefined ? undefined : thoughtFormOf(text);
    if (thought) return { thought, key };
  }
  return undefined;
}

function thoughtFormOf(text: string): ThoughtForm | undefined {
  const at = text.indexOf(PONDERED);
  if (at < 0) return undefined;
  const open = tagsOf(text.slice(0, at)).at(-1);
  const close = tagsOf(text.slice(at)).at(0);
  // The marks are adjacent to it.
  if (!open || !text.slice(0, at).trimEnd().endsWith(open)) return undefined;
  if (
    !close ||
    !text
      .slice(at + PONDERED.length)
      .trimStart()
      .startsWith(close)
  )
    return undefined;
  return { open, close };
}

interface LearnedCalls {
  readonly calls: CallForm | undefined;
  readonly takesText: boolean;
  readonly ids: CallIds;
}

const NOT_LEARNED: LearnedCalls = { calls: undefined, takesText: false, ids: 'any' };

/** Tries the variants of templates, the most common first: long ids, short ones or those with the name, several calls or one. */
async function learnCalls(render: Render, thoughts: readonly ThoughtForm[]): Promise<LearnedCalls> {
  const answered = (answer: object) => render([USER, { role: 'assistant', ...answer }], { tools: TOOLS });
  const plain = (await answered({ content: 'zeta' })) ?? '';
  for (const ids of ['any', 'short', 'named'] as const) {
    for (const names of [[ONE, TWO], [ONE]]) {
      const tool_calls = names.map((name, i) => probe(name, ids, ARGUMENTS, i));
      const text = await answered({ content: '', tool_calls });
      const calls = text === undefined ? undefined : callFormOf(text, plain, names.length, thoughts);
      if (!calls) continue;
      const unread = await answered({ content: '', tool_calls: [probe(ONE, ids, PONDERED)] });
      return { calls, takesText: unread?.includes(PONDERED) ?? false, ids };
    }
  }
  return NOT_LEARNED;
}

const ARGUMENTS = JSON.stringify({ alpha: TEXT, beta: NUMBER });

function probe(name: string, ids: CallIds, given: string, index = 0) {
  return {
    id: { any: LONG_ID, short: ID_PLACE, named: namedId(name, index) }[ids],
    type: 'function',
    function: { name, arguments: given },
  };
}

/** Analyses a text that ends with calls; `plain` ends with the answer `zeta` instead. Undefined if no form is recognized. */
function callFormOf(
  rendered: string,
  plain: string,
  count: number,
  thoughts: readonly ThoughtForm[],
): CallForm | undefined {
  const text = rendered.replaceAll(LONG_ID, ID_PLACE);
  const start = answerStart(text, plain);
  const one = text.indexOf(ONE, start);
  if (one < 0) return undefined;
  const first = withoutThoughts(text.slice(start, one), thoughts);
  const afterName = text.slice(one + ONE.length);
  const body = argumentsOf(afterName);
  if (!body) return undefined;
  const { between, end } = body;
  const rest = afterName.slice(end);
  const tail = sharedTail(text, plain);
  const two = count > 1 ? rest.indexOf(TWO) : -1;
  if (count > 1 && two < 0) return undefined;
  const next = two < 0 ? undefined : rest.slice(0, two);
  const afterTwo = two < 0 ? rest : rest.slice(two + TWO.length);
  const lastFrom = two < 0 ? 0 : argumentsOf(afterTwo)?.end;
  if (lastFrom === undefined) return undefined;
  const last = afterTwo.slice(lastFrom, Math.max(lastFrom, afterTwo.length - tail));
  const marks = {
    opens: tagsOf(first),
    closes: [...new Set(tagsOf(last))].filter((tag) => !tagsOf(first).includes(tag)),
  };
  const spelled = { first, between, next, last };
  if (body.elements) return elementForm(body.elements, marks, spelled);
  if (/"(?:tool_)?name"\s*:\s*"$/.test(first)) return { style: 'object', ...marks, ...spelled };
  if (body.python) return { style: 'python', ...marks, ...spelled };
  // Without any mark a name could be any word.
  const begin = /<[^<>\s]*$/.exec(first)?.[0];
  const opens = marks.opens.length > 0 ? marks.opens : begin ? [begin] : [];
  if (opens.length === 0) return undefined;
  return { style: 'named', ...marks, opens, ...spelled };
}

function elementForm(
  elements: Omit<ElementForm, 'head' | 'end'>,
  { opens, closes }: Pick<CallForm, 'opens' | 'closes'>,
  spelled: Pick<CallForm, 'first' | 'between' | 'next' | 'last'>,
): CallForm {
  const head = /<[^<>]*$/.exec(spelled.first)?.[0] ?? '';
  const end = head === '' ? '' : (closes[0] ?? '');
  return {
    style: 'elements',
    opens,
    closes: closes.filter((mark) => mark !== end),
    ...spelled,
    elements: { ...elements, head, end },
  };
}

/** The position and style of the arguments after a name. */
function argumentsOf(text: string):
  | {
      between: string;
      /** The position after the arguments. */
      end: number;
      elements?: Omit<ElementForm, 'head' | 'end'>;
      python?: boolean;
    }
  | undefined {
  const json = /\{\s*"alpha"\s*:\s*"probed text"\s*,\s*"beta"\s*:\s*73911\s*\}/.exec(text);
  const key = text.indexOf('alpha');
  if (key < 0) return undefined;
  if (json && json.index < key)
    return { between: text.slice(0, json.index), end: json.index + json[0].length };
  const python = /^\s*\(\s*alpha\s*=\s*["']probed text["']\s*,\s*beta\s*=\s*73911/.exec(text);
  if (python) return { between: '(', end: python[0].length, python: true };
  const value = text.indexOf(TEXT, key);
  const second = text.indexOf('beta', value);
  const number = text.indexOf(String(NUMBER), second);
  if (value < 0 || second < 0 || number < 0) return undefined;
  const before = text.slice(0, key);
  const begin = before.lastIndexOf('<');
  const keyMark = before.slice(begin);
  const keyEnd = text.slice(key + 'alpha'.length, value);
  const gap = text.slice(value + TEXT.length, second);
  const numberEnd = number + String(NUMBER).length;
  if (begin < 0 || !keyEnd.trim() || !gap.endsWith(keyMark)) return undefined;
  const valueEnd = gap.slice(0, -keyMark.length);
  if (!valueEnd.includes('<') || !text.startsWith(valueEnd.trimEnd(), numberEnd)) return undefined;
  const end = text.startsWith(valueEnd, numberEnd) ? valueEnd : valueEnd.trimEnd();
  return {
    between: before.slice(0, begin),
    end: numberEnd + end.length,
    elements: { key: keyMark, keyEnd, valueEnd },
  };
}

/** The start of an answer: the first position where two renderings differ, or the start of the mark that contains it. */
function answerStart(text: string, plain: string): number {
  let at = 0;
  while (at < text.length && text[at] === plain[at]) at++;
  const mark = text.lastIndexOf('<', at - 1);
  return mark >= 0 && text.indexOf('>', mark) >= at ? mark : at;
}

/** The length of the common suffix of two renderings, from its first complete mark on. */
function sharedTail(text: string, plain: string): number {
  let length = 0;
  while (length < text.length && text.at(-1 - length) === plain.at(-1 - length)) length++;
  const from = text.length - length;
  const mark = text.lastIndexOf('<', from - 1);
  const end = mark < 0 ? -1 : text.indexOf('>', mark);
  return end >= from ? text.length - end - 1 : length;
}

/** The text that a template renders for an empty thought. */
function withoutThoughts(text: string, thoughts: readonly ThoughtForm[]): string {
  const rest = text.trimStart();
  const mark = thoughts.flatMap(({ open, close }) => [open, close]).find((each) => rest.startsWith(each));
  return mark === undefined ? rest : withoutThoughts(rest.slice(mark.length), thoughts);
}
