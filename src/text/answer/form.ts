/**
 * How a model writes calls of tools and thoughts: what its chat template shows when it is given such an answer (see learn.ts). Plain
 * data, so that it can go from thread to thread.
 */

/** Marks around a thought, without white space at their ends. */
export interface ThoughtForm {
  readonly open: string;
  readonly close: string;
}

/** The arguments of a call as elements, such as Qwen3-Coder's `<parameter=city>\nParis\n</parameter>\n`, white space included. */
export interface ElementForm {
  /** What stands before the name: `<function=`; nothing where the name stands behind the opening mark. */
  readonly head: string;
  /** What stands before the name of an argument: `<parameter=`. */
  readonly key: string;
  /** Between the name and the value of an argument: `>\n`. */
  readonly keyEnd: string;
  /** Behind the value: `\n</parameter>\n`. */
  readonly valueEnd: string;
  /** The last mark of a call: `</function>`; nothing where the closing mark of all calls does that. */
  readonly end: string;
}

/** How a template writes a tool call: marks, separators, and where the name and the arguments stand. */
export interface CallForm {
  /**
   * What the arguments are: 'object', one JSON object with the name and the arguments; 'named', the arguments alone as JSON behind the
   * name; 'elements'; 'python', calls such as `[name(city='Paris')]`.
   */
  readonly style: 'object' | 'named' | 'elements' | 'python';
  /** Marks at which calls begin; none where a call is not marked, as Llama 3's: it then is a call only if it names a tool. */
  readonly opens: readonly string[];
  /** Marks that may stand before a call, and need not. */
  readonly marks?: readonly string[];
  readonly closes: readonly string[];
  /** A call as the template writes it: before the name, between name and arguments, between two calls, and behind the last. */
  readonly first: string;
  readonly between: string;
  /** Absent where the template takes one call at a time. */
  readonly next?: string | undefined;
  readonly last: string;
  /** Of the style 'elements'. */
  readonly elements?: ElementForm | undefined;
}

/** The form in which a model writes thoughts and tool calls, learned from its chat template. */
export interface AnswerForm {
  /** How tools are called; undefined where the template tells the model of none. */
  readonly calls: CallForm | undefined;
  /** Marks of thoughts, those that the template shows first. */
  readonly thoughts: readonly ThoughtForm[];
  /** Whether the template shows a thought, so that the model certainly knows what one is. */
  readonly thinks: boolean;
  /** What templates ask of calls in earlier turns. */
  readonly history: {
    /** Whether arguments may be a text that is no JSON: templates that go through them one by one fail on it. */
    readonly takesText: boolean;
    readonly ids: CallIds;
    /** Under which name a message has its thought. */
    readonly thoughtKey: string;
  };
}

/** Of a model of which nothing is known. */
export const NO_FORM: AnswerForm = {
  calls: undefined,
  thoughts: [],
  thinks: false,
  history: { takesText: false, ids: 'any', thoughtKey: 'reasoning_content' },
};

/** Which ids of calls a template takes: any, 9 letters and digits as Mistral's, or Kimi's, which have the name of the tool in them. */
export type CallIds = 'any' | 'short' | 'named';

/** Kimi's id of a call, which its templates write in the place of the name; `index` counts the calls of a conversation. */
export function namedId(name: string, index: number): string {
  return `functions.${name}:${index}`;
}

/** Stands in learned forms where an id of a call stands. */
export const ID_PLACE = 'idofcall0';

/** The tags between which most models write what they think. */
export const THINK: ThoughtForm = { open: '<think>', close: '</think>' };

/** Marks of thoughts that some templates only speak of. */
export const KNOWN_THOUGHTS: readonly ThoughtForm[] = [
  { open: '[THINK]', close: '[/THINK]' },
  { open: '<seed:think>', close: '</seed:think>' },
  { open: '<|START_THINKING|>', close: '<|END_THINKING|>' },
  { open: '<|inner_prefix|>', close: '<|inner_suffix|>' },
  { open: '<thought>', close: '</thought>' },
];

/** As Qwen2.5, Qwen3, Granite 4 and many others were trained: the form of whom nothing else is known. */
export const HERMES: CallForm = {
  style: 'object',
  opens: ['<tool_call>'],
  closes: ['</tool_call>'],
  first: '<tool_call>\n{"name": "',
  between: '", "arguments": ',
  next: '}\n</tool_call>\n<tool_call>\n{"name": "',
  last: '}\n</tool_call>',
};

/** As Qwen3-Coder, Qwen3.5 and Nemotron 3. */
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
 * Forms of templates that tell of tools and write no call of an earlier turn, by a text that stands in the template, in what it writes,
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

/** Whole marks in a text: `<tool_call>`, `</tool_call>`, `<|python_tag|>`, `[TOOL_CALLS]`. */
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

/** The text of a form's mark as reading looks for it: white space around it is not heeded. */
export function trimmed(mark: string): string {
  return mark.trim();
}
