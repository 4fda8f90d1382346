/**
 * A checkpoint's chat template: a Jinja program that renders a conversation as the text that the model was trained
 * on. It is looked up in the same files as in `transformers`, and gets the same variables.
 *
 * A template is untrusted: it can only use its variables, and its work is limited (see jinja/budget.ts).
 */

import { z } from 'zod';
import { join, readText, statsOf } from '#platform';
import { expectList, expectObject } from '../arguments.js';
import { DataError, TokenizerError } from '../errors.js';
import { reasonOf } from '../platform/unreadable.js';
import { readExactJson } from './exact-json.js';
import {
  TEMPLATE_LIMITS,
  Template,
  TemplateError,
  type TemplateLimits,
  type Variables,
} from './jinja/index.js';
import { readJson, TOKENIZER_CONFIG } from './tokenizer-json.js';
import { checkTokenizerConfig } from './tokenizer-schema.js';

/** The file with only a template. */
export const TEMPLATE_FILE = 'chat_template.jinja';
const LEGACY_FILE = 'chat_template.json';

/** One message; other fields that a template uses, such as `tool_calls`, are further members. */
export interface ChatMessage {
  readonly role: string;
  /** Text, or a list of parts that the template supports. */
  readonly content?: unknown;
  readonly [key: string]: unknown;
}

/**
 * The other inputs of a template. Values may come from `readExactJson`, which preserves numbers and the order of
 * keys.
 */
export interface ChatRenderOptions {
  /** Whether the text ends with the prefix of an answer. */
  addGenerationPrompt?: boolean;
  /** Tools that the model may call, as JSON schemas. */
  tools?: readonly unknown[];
  /** Documents to answer from. */
  documents?: readonly unknown[];
  /** Other variables of the template, such as `enable_thinking`. */
  variables?: Variables;
}

/** Templates by name: `default`, and optionally `tool_use` for conversations with tools. */
type Sources = Readonly<Record<string, string>>;

/** The parts of a chat template: its Jinja source or sources, and the variables of the tokenizer's config. */
export interface ChatTemplateParts {
  readonly sources: Sources;
  /** The file named in errors. */
  readonly origin: string;
  /** Variables of every rendering, such as `bos_token`. */
  readonly variables?: Readonly<Record<string, unknown>>;
  readonly limits?: Partial<TemplateLimits>;
}

/** A model's chat template, which renders the messages of a conversation as one text. */
export class ChatTemplate {
  /** The file that it was read from. */
  readonly origin: string;
  readonly #sources: Sources;
  readonly #variables: Readonly<Record<string, unknown>>;
  readonly #limits: TemplateLimits;
  /** Parsed templates by source. */
  readonly #parsed = new Map<string, Template>();

  constructor({ sources, origin, variables = {}, limits = {} }: ChatTemplateParts) {
    this.origin = origin;
    this.#sources = sources;
    this.#variables = variables;
    this.#limits = { ...TEMPLATE_LIMITS, ...limits };
  }

  /**
   * The template of a model's folder: of `chat_template.jinja`, else of `tokenizer_config.json`, else of
   * `chat_template.json`; undefined when there is none, or an empty one. That of the folder `adapter` comes first: an
   * adapter may have been trained on conversations of another form. Throws `TokenizerError`, with the file's path, for
   * one that cannot be read.
   */
  static async load(
    folder: string,
    limits: Partial<TemplateLimits> = {},
    adapter?: string,
  ): Promise<ChatTemplate | undefined> {
    const base = await templateIn(folder);
    const own = adapter === undefined ? undefined : await templateIn(adapter);
    const { origin, sources } = own?.sources ? own : base;
    if (!sources || sources.default?.trim() === '') return undefined;
    return new ChatTemplate({ sources, origin, variables: { ...base.variables, ...own?.variables }, limits });
  }

  /**
   * Renders the conversation as text, with special tokens by name. Arguments of calls that are JSON text, as clients and models
   * write them, are parsed for the template; a template that fails on parsed values gets the text. Throws
   * `TokenizerError`, which names the file, when the template is invalid, refuses the messages, or exceeds its
   * limits; `DataError` for messages that are not plain data.
   */
  async render(messages: readonly ChatMessage[], options: ChatRenderOptions = {}): Promise<string> {
    expectMessages(messages);
    const template = this.#template(options.tools !== undefined);
    const read = messages.map(withReadArguments);
    try {
      return this.#rendered(template, read, options);
    } catch (error) {
      const isTextWanted = error instanceof TemplateError && error.failure === 'failed';
      if (!isTextWanted || read.every((message, i) => message === messages[i])) throw this.#complaint(error);
    }
    try {
      return this.#rendered(template, messages, options);
    } catch (error) {
      throw this.#complaint(error);
    }
  }

  #rendered(template: Template, messages: readonly ChatMessage[], options: ChatRenderOptions): string {
    const { addGenerationPrompt = false, tools, documents, variables } = options;
    const own = {
      messages,
      tools: tools ?? null,
      documents: documents ?? null,
      add_generation_prompt: addGenerationPrompt,
    };
    return template.render([this.#variables, variables ?? {}, own], this.#limits);
  }

  /** Whether the template's source contains a text. */
  mentions(text: string): boolean {
    return Object.values(this.#sources).some((source) => source.includes(text));
  }

  #template(forTools: boolean): Template {
    const source = (forTools ? this.#sources.tool_use : undefined) ?? this.#sources.default;
    if (source === undefined) {
      throw new TokenizerError(
        `${this.origin} has chat templates named ${Object.keys(this.#sources).join(', ')}, but none named default, which is the one that is needed`,
      );
    }
    try {
      const template = this.#parsed.get(source) ?? new Template(source);
      this.#parsed.set(source, template);
      return template;
    } catch (error) {
      throw this.#complaint(error);
    }
  }

  /** The error for a failed rendering. */
  #complaint(error: unknown): Error {
    if (error instanceof TemplateError) {
      return new TokenizerError(`${this.origin}: the chat template ${this.#wording(error)}`, {
        cause: error,
      });
    }
    if (!(error instanceof TypeError || error instanceof RangeError)) return error as Error;
    const message = `the messages, or what goes with them, are no plain data: ${error.message}`;
    return new DataError(message, { cause: error });
  }

  #wording({ failure, message }: TemplateError): string {
    const advice = 'look at what it does, or fetch the model from where you trust it';
    switch (failure) {
      case 'syntax':
        return `cannot be parsed: ${message}`;
      case 'raised':
        return `refuses these messages: ${message}`;
      case 'failed':
        return `fails on these messages: ${message}`;
      case 'steps':
        return `did not end within ${this.#limits.steps} steps, so it was stopped; ${advice}`;
      case 'length':
        return `made ${message} of these messages, more than the ${this.#limits.length} characters that are allowed; ${advice}`;
    }
  }
}

interface Call {
  readonly function?: { readonly arguments?: unknown } | null;
}

/** The message with the arguments of its calls parsed from JSON. */
function withReadArguments(message: ChatMessage): ChatMessage {
  const { tool_calls: calls } = message;
  if (!Array.isArray(calls)) return message;
  const read = calls.map((call: Call | null) => (call?.function ? withArguments(call) : call));
  return read.every((call, i) => call === calls[i]) ? message : { ...message, tool_calls: read };
}

function withArguments(call: Call): Call {
  const given = call.function?.arguments;
  if (typeof given !== 'string') return call;
  try {
    // Several clients send an empty text for a call without arguments.
    const read = readExactJson(given.trim() === '' ? '{}' : given);
    return { ...call, function: { ...call.function, arguments: read } };
  } catch {
    // Invalid JSON, such as a truncated text, is passed to the template as it is.
    return call;
  }
}

/** Throws `DataError` for anything but a list of objects. */
export function expectMessages(messages: readonly ChatMessage[]): void {
  expectList(messages, 'the messages are', 'objects, each with a role and a content');
  for (const [i, message] of messages.entries())
    expectObject(message, `message ${i + 1} is`, 'an object with a role and a content');
}

/** The templates in a folder, the file that has them, and the special tokens that the tokenizer's config names. */
async function templateIn(
  folder: string,
): Promise<{ origin: string; sources: Sources | undefined; variables: Record<string, unknown> }> {
  const [ownPath, configPath, legacyPath] = [TEMPLATE_FILE, TOKENIZER_CONFIG, LEGACY_FILE].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  const config = checkTokenizerConfig((await readJson(configPath)) ?? {}, configPath);
  const variables = specialTokens(config);
  const own = await readTemplate(ownPath);
  if (own !== undefined) return { origin: ownPath, sources: { default: own }, variables };
  const configured = sourcesOf(config, configPath);
  if (configured) return { origin: configPath, sources: configured, variables };
  const legacy = sourcesOf((await readJson(legacyPath)) ?? {}, legacyPath);
  return { origin: legacyPath, sources: legacy, variables };
}

/** The largest size of a template file. */
const MAX_BYTES = 2 ** 20;

/** The file's text, or undefined if it does not exist. */
async function readTemplate(path: string): Promise<string | undefined> {
  try {
    const { size } = await statsOf(path);
    if (size <= MAX_BYTES) return await readText(path);
    throw new Error(`it has ${size} bytes, and a template has at most ${MAX_BYTES}`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A GGUF file is not a folder.
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new TokenizerError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
  }
}

const Holder = z.looseObject({
  chat_template: z
    .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() })).min(1)])
    .nullish(),
});

/** The templates in a JSON file; undefined if it has none. */
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
