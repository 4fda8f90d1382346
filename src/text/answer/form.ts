/**
 * The form of a model's tool calls and thoughts, as its chat template renders them (see learn.ts). Plain
 * data, so that it can be sent between threads.
 */

/** Marks around a thought, without white space at their ends. */
export interface ThoughtForm {
  readonly open: string;
  readonly close: string;
}

/** The arguments of a call as elements, such as Qwen3-Coder's `<parameter=city>\nParis\n</parameter>\n`, white space included. */
export interface ElementForm {
  /** Precedes the name: `<function=`; empty if the name follows the opening mark. */
  readonly head: string;
  /** Precedes the name of an argument: `<parameter=`. */
  readonly key: string;
  /** Between the name and the value of an argument: `>\n`. */
  readonly keyEnd: string;
  /** Follows the value: `\n</parameter>\n`. */
  readonly valueEnd: string;
  /** The last mark of a call: `</function>`; empty if the closing mark of all calls does that. */
  readonly end: string;
}

/** How a template writes a tool call: marks, separators, and the positions of the name and the arguments. */
export interface CallForm {
  /**
   * The style of the arguments: 'object', one JSON object with the name and the arguments; 'named', the arguments as JSON after the
   * name; 'elements'; 'python', calls such as `[name(city='Paris')]`.
   */
  readonly style: 'object' | 'named' | 'elements' | 'python';
  /** Opening marks of calls; empty if calls have no mark, as in Llama 3: a call is then recognized only by the name of a tool. */
  readonly opens: readonly string[];
  /** Optional marks before a call. */
  readonly marks?: readonly string[];
  readonly closes: readonly string[];
  /** The texts of the template before the name, between name and arguments, between two calls, and after the last one. */
  readonly first: string;
  readonly between: string;
  /** Absent if the template supports one call at a time. */
  readonly next?: string | undefined;
  readonly last: string;
  /** For the style 'elements'. */
  readonly elements?: ElementForm | undefined;
}

/** The form in which a model writes thoughts and tool calls, learned from its chat template. */
export interface AnswerForm {
  /** The form of tool calls; undefined if the template does not describe tools to the model. */
  readonly calls: CallForm | undefined;
  /** Marks of thoughts, those that the template shows first. */
  readonly thoughts: readonly ThoughtForm[];
  /** Whether the template renders thoughts, so that the model was certainly trained on them. */
  readonly thinks: boolean;
  /** Requirements of the template for calls in earlier turns. */
  readonly history: {
    /** Whether arguments may be a text that is not JSON; templates that iterate over the arguments fail on it. */
    readonly takesText: boolean;
    readonly ids: CallIds;
    /** The name of the message field for a thought. */
    readonly thoughtKey: string;
  };
}

/** The form of an unknown model. */
export const NO_FORM: AnswerForm = {
  calls: undefined,
  thoughts: [],
  thinks: false,
  history: { takesText: false, ids: 'any', thoughtKey: 'reasoning_content' },
};

/** The ids of calls that a template accepts: any, 9 letters and digits (Mistral), or with the name of the tool (Kimi). */
export type CallIds = 'any' | 'short' | 'named';

/** Kimi's id of a call, which its templates render instead of the name; `index` counts the calls of a conversation. */
export function namedId(name: string, index: number): string {
  return `functions.${name}:${index}`;
}

/** The placeholder of a call's id in learned forms. */
export const ID_PLACE = 'idofcall0';

/** The tags of thoughts in most models. */
export const THINK: ThoughtForm = { open: '<think>', close: '</think>' };

/** Marks of thoughts that some templates only mention. */
export const KNOWN_THOUGHTS: readonly ThoughtForm[] = [
  { open: '[THINK]', close: '[/THINK]' },
  { open: '<seed:think>', close: '</seed:think>' },
  { open: '<|START_THINKING|>', close: '<|END_THINKING|>' },
  { open: '<|inner_prefix|>', close: '<|inner_suffix|>' },
  { open: '<thought>', close: '</thought>' },
];

/** The form of Qwen2.5, Qwen3, Granite 4 and many others, which is the default. */
export const HERMES: CallForm = {
  style: 'object',
  opens: ['<tool_call>'],
  closes: ['</tool_call>'],
  first: '<tool_call>\n{"name": "',
  between: '", "arguments": ',
  next: '}\n</tool_call>\n<tool_call>\n{"name": "',
  last: '}\n</tool_call>',
};

/** The form of Qwen3-Coder, Qwen3.5 and Nemotron 3. */
export const FUNCTION_ELEMENTS: CallForm = {
  style: 'elements',
  opens: ['<tool_call>'],
  closes: ['</tool_call>'],
  first: '<tool_call>\n<function=',
  between: '>\n',
  next: '</function>\n</tool_call>\n<tool_call>\n<function=',
  last: '</function>\n</tool_call>',
  elements: {
    head: '<function=',
    key: '<parameter=',
    keyEnd: '>\n',
    valueEnd: '\n</parameter>\n',
    end: '</function>',
  },
};

function objects(open: string, close: string): CallForm {
  return {
    style: 'object',
    opens: [open],
    closes: close === '' ? [] : [close],
    first: `${open}[{"name": "`,
    between: '", "arguments": ',
    next: '}, {"name": "',
    last: `}]${close}`,
  };
}

const LFM2: CallForm = {
  style: 'python',
  opens: ['<|tool_call_start|>'],
  closes: ['<|tool_call_end|>'],
  first: '<|tool_call_start|>[',
  between: '(',
  next: '), ',
  last: ')]<|tool_call_end|>',
};

/**
 * Forms for templates that describe tools but render no call of an earlier turn, by a text in the template, in its output,
 * or among the tokenizer's tokens.
 */
export const KNOWN_CALLS: readonly (readonly [evidence: string, form: CallForm])[] = [
  ['<function=', FUNCTION_ELEMENTS],
  ['<tool_call>', HERMES],
  ['<|tool_call_start|>', LFM2],
  ['<|tool_list_start|>', LFM2],
  ['<TOOLCALL>', objects('<TOOLCALL>', '</TOOLCALL>')],
  ['<tool_calls>', objects('<tool_calls>', '</tool_calls>')],
  ['<|/tool_call|>', objects('<|tool_call|>', '<|/tool_call|>')],
  ['<|tool_call|>', objects('<|tool_call|>', '')],
  ['[TOOL_CALLS]', objects('[TOOL_CALLS]', '')],
  [
    '<function_calls>',
    {
      style: 'python',
      opens: ['<function_calls>'],
      closes: ['</function_calls>'],
      first: '<function_calls>\n',
      between: '(',
      next: ')\n',
      last: ')\n</function_calls>',
    },
  ],
];

/** A pattern for complete marks in a text: `<tool_call>`, `</tool_call>`, `<|python_tag|>`, `[TOOL_CALLS]`. */
export function tagsOf(text: string): string[] {
  return text.match(/<[^<>\s"=]+>|\[\/?[A-Z][A-Z_]+\]|◁[^▷\s]+▷/g) ?? [];
}

/** All marks that an answer in this form may have. */
export function marksIn({ calls, thoughts }: AnswerForm): string[] {
  const spelled = calls ? [calls.first, calls.between, calls.next ?? '', calls.last] : [];
  return [
    ...thoughts.flatMap(({ open, close }) => [open, close]),
    ...(calls ? [...calls.opens, ...(calls.marks ?? []), ...calls.closes] : []),
    ...spelled.flatMap(tagsOf),
  ];
}

/** A mark without the white space around it, as the reader searches for it. */
export function trimmed(mark: string): string {
  return mark.trim();
}
