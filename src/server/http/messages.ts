/**
 * Schemas of messages, tool calls and tools. Clients send back what they received, from this server or another one, with fields for other
 * servers, so unknown fields are ignored. Content that a model cannot read is refused by name.
 */
import { z } from 'zod';
import { IN_WORDS } from '../../schema-issues.js';

/** A parameter that may be left out, or be null. */
export function optional<Schema extends z.ZodType>(schema: Schema) {
  return schema.nullish().transform((value) => value ?? undefined);
}

/** Names of the types of non-text parts, for error messages. */
const KINDS: readonly (readonly [RegExp, string])[] = [
  [/image/, 'an image'],
  [/audio/, 'audio'],
  [/video/, 'a video'],
  [/file|document/, 'a file'],
];

const Part = z.looseObject({
  type: z.string().nullish(),
  text: z.string().nullish(),
  refusal: z.string().nullish(),
});
type Part = z.infer<typeof Part>;

/** The text of a part; undefined if it is not text. */
function textOfPart({ type, text, refusal }: Part): string | undefined {
  // The second and third types are those of /v1/responses.
  if (!type || ['text', 'input_text', 'output_text'].includes(type)) return text ?? '';
  if (type === 'refusal') return refusal ?? '';
  // The thoughts of earlier answers are taken from `reasoning_content` only.
  return ['thinking', 'redacted_thinking', 'reasoning'].includes(type) ? '' : undefined;
}

function refusalOf(type: string): string {
  const kind = KINDS.find(([pattern]) => pattern.test(type))?.[1] ?? `of the type '${type}'`;
  return `it is ${kind}, and here only text is read`;
}

const TextPart = Part.transform((part, context) => {
  const text = textOfPart(part);
  if (text !== undefined) return text;
  context.addIssue({ code: 'custom', message: refusalOf(part.type!) });
  return z.NEVER;
});

/** A text, or parts that are concatenated. Absent, null and an empty list mean an empty text. */
export const Content = z
  .union([z.string(), z.array(z.union([z.string(), TextPart]))])
  .nullish()
  .transform((content) => (typeof content === 'string' ? content : (content ?? []).join('')));

/** An image in a message: its address, usually a `data:` URL, and the index of its part. */
export interface ImageSaid {
  readonly address: string;
  readonly part: number;
  /** Its path in the request, for errors; a part of `messages` by default. */
  readonly param?: string;
}

/** The content of a user message: text and images. */
export interface Said {
  readonly text: string;
  readonly images: readonly ImageSaid[];
}

const Address = z.union([z.string(), z.looseObject({ url: z.string() })]);
/** An image part of OpenAI's two APIs, or of Anthropic's. */
const ImagePart = z.union([
  z.looseObject({ image_url: Address }),
  z.looseObject({ source: z.looseObject({ data: z.string(), media_type: z.string() }) }),
]);

const SaidPart = Part.transform((part, context): string | { address: string } => {
  const text = textOfPart(part);
  if (text !== undefined) return text;
  const { data: image } = ImagePart.safeParse(part);
  if (!/image/.test(part.type!) || !image) {
    const message = /image/.test(part.type!)
      ? 'it is an image without an image_url'
      : refusalOf(part.type!).replace('only text is', 'only text and images are');
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  }
  if ('source' in image) {
    const { media_type: type, data } = image.source as { media_type: string; data: string };
    return { address: `data:${type};base64,${data}` };
  }
  const address = image.image_url as z.infer<typeof Address>;
  return { address: typeof address === 'string' ? address : address.url };
});

/** `Content` for user messages, which may have images: see `apart`. */
export const SaidContent = z
  .union([z.string(), z.array(z.union([z.string(), SaidPart]))])
  .nullish()
  .transform((content): Said => {
    const parts = typeof content === 'string' ? [content] : (content ?? []);
    return {
      text: parts.filter((part) => typeof part === 'string').join(''),
      images: parts.flatMap((part, i) => (typeof part === 'string' ? [] : [{ ...part, part: i }])),
    };
  });

/** Splits the content of a user message into text and images. */
export function apart({ text, images }: Said): { content: string; images?: readonly ImageSaid[] } {
  return { content: text, ...(images.length > 0 && { images }) };
}

/** A call's arguments: JSON text, or the parsed value. */
export const Arguments = z
  .union([z.string(), z.record(z.string(), z.unknown())])
  .nullish()
  .transform((value) => (typeof value === 'string' ? value : JSON.stringify(value ?? {})));

const Called = z.looseObject({ name: z.string(), arguments: Arguments });

const ToolCall = z.looseObject({
  id: optional(z.string()),
  type: z.literal('function').nullish(),
  function: Called,
});
/** A call of a tool in an assistant's message. */
export type ToolCall = z.infer<typeof ToolCall>;

/** A field that is not supported, with an empty value. */
const nothing = z.union([z.null(), z.array(z.never())]).optional();

const name = optional(z.string()).describe('Given to the chat template.');
const text = { content: Content, name };

/** A chat message as in OpenAI's API; other keys are passed on to the chat template. */
export const Message = z.discriminatedUnion('role', [
  z.looseObject({ role: z.literal('system'), ...text }),
  z.looseObject({ role: z.literal('developer'), ...text }),
  z
    .looseObject({ role: z.literal('user'), content: SaidContent, name })
    .transform(({ role, content, name }) => ({ role, name, ...apart(content) })),
  z.looseObject({
    role: z.literal('assistant'),
    ...text,
    tool_calls: z.array(ToolCall).nullish(),
    function_call: optional(Called).describe('A call, as it was written before there were `tool_calls`.'),
    reasoning_content: z.unknown().optional().describe('Thoughts, as text, for the chat template.'),
    reasoning: z.unknown().optional().describe('The same.'),
    refusal: optional(z.string()).describe('Read where there is no content.'),
    audio: nothing,
    prefix: z.literal(false, 'an answer cannot be begun here').nullish(),
    partial: z.literal(false, 'an answer cannot be begun here').nullish(),
  }),
  z.looseObject({ role: z.literal('tool'), ...text, tool_call_id: optional(z.string()) }),
  z.looseObject({ role: z.literal('function'), ...text }),
]);
/** A message of a chat request, once it is read. */
export type Message = z.infer<typeof Message>;

/** An object; an empty list counts as an empty object, since PHP encodes empty objects as lists. */
export function orEmptyList<Schema extends z.ZodType>(schema: Schema) {
  return z.preprocess((value) => (Array.isArray(value) && value.length === 0 ? {} : value), schema);
}

/** A JSON Schema, which is validated when it is compiled to a grammar. */
export const JsonSchema = orEmptyList(z.record(z.string(), z.unknown()));

/** Arguments are an object: the schema of other values describes none. */
const Parameters = JsonSchema.refine(({ type }) => [type ?? 'object'].flat().includes('object'), {
  error: ({ input }) =>
    `expected the schema of an object, and its type is ${JSON.stringify((input as { type: unknown }).type)}`,
});

const Declared = z.looseObject({
  name: z.string().regex(/^[\w.:/-]{1,128}$/, 'expected 1 to 128 letters, digits, or one of _ - . : and /'),
  description: optional(z.string()),
  parameters: optional(Parameters),
});

/** A function tool; its declaration is in `function` or, in /v1/responses, next to `type`. */
export const Tool = z
  .looseObject({ type: z.string().nullish(), function: optional(z.unknown()) })
  .transform((tool, context) => {
    if (tool.type && tool.type !== 'function') {
      const message = `it is of the type '${tool.type}', and only functions can be called here`;
      context.addIssue({ code: 'custom', path: ['type'], message });
      return z.NEVER;
    }
    const nested = tool.function !== undefined;
    const result = Declared.safeParse(nested ? tool.function : tool, IN_WORDS);
    if (!result.success) {
      for (const { path, message } of result.error.issues) {
        context.addIssue({ code: 'custom', path: nested ? ['function', ...path] : path, message });
      }
      return z.NEVER;
    }
    const { name: called, description, parameters } = result.data;
    // In the order of keys that models were trained with.
    return {
      type: 'function' as const,
      function: {
        name: called,
        ...(description !== undefined && { description }),
        ...(parameters !== undefined && { parameters }),
      },
    };
  });
/** A tool that an answer may call. */
export type Tool = z.infer<typeof Tool>;

const Allowed = z.looseObject({
  mode: z.enum(['auto', 'required']),
  tools: z.array(
    z.looseObject({ name: z.string().optional(), function: z.looseObject({ name: z.string() }).optional() }),
  ),
});

/** Which functions a model must or may call. */
export interface Choice {
  readonly mode: 'none' | 'auto' | 'required';
  /** The functions that may be called; by default all. */
  readonly names?: readonly string[];
}

/** `any` is Mistral's word for `required`; a function may be named in `function` or, as in /v1/responses, beside `type`. */
export const ToolChoice = z
  .union([
    z.enum(['none', 'auto', 'required', 'any']),
    z.looseObject({
      type: z.enum(['function', 'tool', 'allowed_tools', 'none', 'auto', 'required', 'any']),
      name: z.string().nullish(),
      function: z.looseObject({ name: z.string() }).nullish(),
      allowed_tools: Allowed.nullish(),
    }),
  ])
  .transform((choice, context): Choice => {
    const { type, ...more } = typeof choice === 'string' ? { type: choice } : choice;
    const named = more.function?.name ?? more.name ?? undefined;
    if (type === 'allowed_tools') {
      const { data, error } = Allowed.safeParse(more.allowed_tools ?? more, IN_WORDS);
      if (data)
        return { mode: data.mode, names: data.tools.map((tool) => tool.function?.name ?? tool.name ?? '') };
      context.addIssue({ code: 'custom', message: error.issues[0]!.message, path: error.issues[0]!.path });
      return z.NEVER;
    }
    if (type === 'function' || type === 'tool') {
      if (named !== undefined) return { mode: 'required', names: [named] };
      context.addIssue({ code: 'custom', message: 'it names no function' });
      return z.NEVER;
    }
    return { mode: type === 'any' ? 'required' : type };
  });
