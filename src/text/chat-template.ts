/**
 * A checkpoint's chat template: the program, in Jinja, that writes a conversation as the text that the model was trained
 * on. It is looked for where `transformers` looks, and gets what `transformers` gives it.
 *
 * A template is not trusted; where it is rendered, and within which limits, stands in chat-template-process.ts.
 */
import { z } from 'zod';
import { DataError, TokenizerError } from '../errors.js';
import {
  TEMPLATE_LIMITS,
  type TemplateAnswer,
  type TemplateLimits,
  TemplateProcess,
} from './chat-template-process.js';
import { readJson, TOKENIZER_CONFIG } from './tokenizer-json.js';
import { checkTokenizerConfig } from './tokenizer-schema.js';

const TEMPLATE_FILE = 'chat_template.jinja';
const LEGACY_FILE = 'chat_template.json';

/** One message; whatever else a template knows, such as `tool_calls`, stands beside these two. */
export interface ChatMessage {
  readonly role: string;
  /** Text, or the parts that the template takes. */
  readonly content?: unknown;
  readonly [key: string]: unknown;
}

export interface ChatRenderOptions {
  /** Ends with what precedes an answer. */
  addGenerationPrompt?: boolean;
  /** Tools that the model may call, as JSON schemas. */
  tools?: readonly unknown[];
  /** Documents to answer from. */
  documents?: readonly unknown[];
  /** What the template knows besides, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>>;
}

/** Templates by name: `default`, and `tool_use` where there is one for conversations with tools. */
type Sources = Readonly<Record<string, string>>;

export interface ChatTemplateParts {
  readonly sources: Sources;
  /** The file that errors name. */
  readonly origin: string;
  /** Variables of every rendering, such as `bos_token`. */
  readonly variables?: Readonly<Record<string, unknown>>;
  readonly limits?: Partial<TemplateLimits>;
}

export class ChatTemplate {
  /** The file that it was read from. */
  readonly origin: string;
  readonly #sources: Sources;
  readonly #variables: Readonly<Record<string, unknown>>;
  readonly #limits: TemplateLimits;
  readonly #process: TemplateProcess;

  constructor({ sources, origin, variables = {}, limits = {} }: ChatTemplateParts) {
    this.origin = origin;
    this.#sources = sources;
    this.#variables = variables;
    this.#limits = { ...TEMPLATE_LIMITS, ...limits };
    this.#process = new TemplateProcess(this.#limits);
  }

  /**
   * The template of a model's folder: of `chat_template.jinja`, else of `tokenizer_config.json`, else of
   * `chat_template.json`; undefined when there is none. Throws `TokenizerError`, with the file's path, for one that
   * cannot be read.
   */
  static async load(folder: string, limits: Partial<TemplateLimits> = {}): Promise<ChatTemplate | undefined> {
    const { join } = await import('node:path');
    const configPath = join(folder, TOKENIZER_CONFIG);
    const config = checkTokenizerConfig((await readJson(configPath)) ?? {}, configPath);
    const variables = specialTokens(config);
    const made = (origin: string, sources: Sources | undefined): ChatTemplate | undefined =>
      sources && new ChatTemplate({ sources, origin, variables, limits });

    const ownPath = join(folder, TEMPLATE_FILE);
    const own = await readTemplate(ownPath);
    if (own !== undefined) return made(ownPath, { default: own });
    const legacyPath = join(folder, LEGACY_FILE);
    return (
      made(configPath, sourcesOf(config, configPath)) ??
      made(legacyPath, sourcesOf((await readJson(legacyPath)) ?? {}, legacyPath))
    );
  }

  /**
   * The conversation as text, special tokens by their names. Throws `TokenizerError`, which names the file, when the
   * template is broken, refuses the messages, or does not end within the limits; `DataError` for messages that are no
   * plain JSON.
   */
  async render(messages: readonly ChatMessage[], options: ChatRenderOptions = {}): Promise<string> {
    const { addGenerationPrompt = false, tools, documents, variables } = options;
    const source = this.#sourceFor(tools !== undefined);
    const all = {
      ...this.#variables,
      ...variables,
      messages,
      tools: tools ?? null,
      documents: documents ?? null,
      add_generation_prompt: addGenerationPrompt,
    };
    let rendering: Promise<TemplateAnswer>;
    try {
      rendering = this.#process.render(source, all);
    } catch (error) {
      throw new DataError(`the messages, or what goes with them, are no plain JSON: ${String(error)}`, {
        cause: error,
      });
    }
    const answer = await rendering;
    if ('text' in answer) return answer.text;
    throw new TokenizerError(`${this.origin}: the chat template ${this.#complaint(answer)}`);
  }

  /** Whether a text stands anywhere in the template. */
  mentions(text: string): boolean {
    return Object.values(this.#sources).some((source) => source.includes(text));
  }

  /** Ends the process that renders; another rendering would start another. */
  close(): void {
    this.#process.close();
  }

  #sourceFor(tools: boolean): string {
    const source = (tools ? this.#sources.tool_use : undefined) ?? this.#sources.default;
    if (source !== undefined) return source;
    throw new TokenizerError(
      `${this.origin} has chat templates named ${Object.keys(this.#sources).join(', ')}, but none named default, which is the one that is needed`,
    );
  }

  #complaint({ failure, message }: Exclude<TemplateAnswer, { text: string }>): string {
    const { time, memory, length } = this.#limits;
    const advice = 'look at what it does, or fetch the model from where you trust it';
    switch (failure) {
      case 'syntax':
        return `cannot be parsed: ${message}`;
      case 'raised':
        return `refuses these messages: ${message}`;
      case 'failed':
        return `fails on these messages: ${message}`;
      case 'time':
        return `did not end within ${time / 1000} s, so it was stopped; ${advice}`;
      case 'length':
        return `made ${message} of these messages, more than the ${length} that are allowed; ${advice}`;
      case 'ended':
        return `ended the process that renders it (${message}), which may take ${memory} MB; ${advice}`;
      case 'unstartable':
        return `is rendered in a process of its own, which cannot be started: ${message}`;
    }
  }
}

/** A longer one is no template. */
const MAX_BYTES = 2 ** 22;

/** The file's text, or undefined where there is none. */
async function readTemplate(path: string): Promise<string | undefined> {
  const { readFile, stat } = await import('node:fs/promises');
  try {
    const { size } = await stat(path);
    if (size <= MAX_BYTES) return await readFile(path, 'utf8');
    throw new Error(`it has ${size} bytes, and a template has at most ${MAX_BYTES}`);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new TokenizerError(`${path} cannot be read: ${message}`, { cause: error });
  }
}

const Holder = z.looseObject({
  chat_template: z
    .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() })).min(1)])
    .nullish(),
});

/** The templates that a JSON file holds, or undefined when it holds none. */
function sourcesOf(json: object, path: string): Sources | undefined {
  const result = Holder.safeParse(json);
  if (!result.success) {
    throw new TokenizerError(
      `${path} has a chat_template of a kind that is not known: expected a text, or a list of {name, template}`,
    );
  }
  const found = result.data.chat_template;
  if (found === undefined || found === null) return undefined;
  if (typeof found === 'string') return { default: found };
  return Object.fromEntries(found.map(({ name, template }) => [name, template]));
}

const Named = z.union([z.string(), z.looseObject({ content: z.string() })]);

/** `bos_token`, `eos_token` and every other that a config names, by its text. */
function specialTokens(config: object): Record<string, unknown> {
  const text = (value: unknown): string | undefined => {
    const token = Named.safeParse(value).data;
    return typeof token === 'object' ? token.content : token;
  };
  const tokens: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(config)) {
    const token = name.endsWith('_token') ? text(value) : undefined;
    if (token !== undefined) tokens[name] = token;
    if (name === 'additional_special_tokens' && Array.isArray(value)) {
      tokens[name] = value.map(text).filter((entry) => entry !== undefined);
    }
  }
  return tokens;
}
