/** Converts the text of an argument in an element: to a string, or to JSON of the type in the tool's schema. */
import { Characters } from './characters.js';
import { wholeLiteral } from './literal.js';

type Schema = Readonly<Record<string, unknown>>;

/** A tool that a model may call. */
export interface CallableTool {
  readonly name: string;
  /** A JSON schema of an object. */
  readonly parameters?: unknown;
}

/** Parses a client's tool, `{type: 'function', function: {name, parameters}}` or the inner object; undefined if it is invalid. */
export function callableTool(tool: unknown): CallableTool | undefined {
  const given = isSchema(tool) && isSchema(tool.function) ? tool.function : tool;
  if (!isSchema(given) || typeof given.name !== 'string') return undefined;
  return { name: given.name, parameters: given.parameters };
}

/** The types that the schema of a tool's argument allows; undefined if it does not restrict them. */
export function argumentTypes(tool: CallableTool | undefined, key: string): ReadonlySet<string> | undefined {
  const root = tool?.parameters;
  if (!isSchema(root)) return undefined;
  const properties = resolved(root, root)?.properties;
  if (!isSchema(properties) || !Object.hasOwn(properties, key)) return undefined;
  return typesOf(properties[key], root, 0);
}

/** One argument of a tool, as the tool's JSON schema declares it. */
export interface Argument {
  readonly name: string;
  /** A self-contained schema, with its referenced definitions. */
  readonly schema: unknown;
  readonly required: boolean;
  readonly types: ReadonlySet<string> | undefined;
}

/** The arguments that a tool's schema names, in its order. */
export function argumentsOf(tool: CallableTool): Argument[] {
  const root = tool.parameters;
  const given = isSchema(root) ? resolved(root, root) : undefined;
  if (!isSchema(root) || !isSchema(given?.properties)) return [];
  const required = Array.isArray(given.required) ? given.required : [];
  const { $defs, definitions } = root;
  return Object.entries(given.properties).map(([name, schema]) => ({
    name,
    schema: isSchema(schema)
      ? { ...schema, ...($defs ? { $defs } : {}), ...(definitions ? { definitions } : {}) }
      : schema,
    required: required.includes(name),
    types: typesOf(schema, root, 0),
  }));
}

/** The most references that are followed, which ends cycles. */
const DEEPEST = 20;

function typesOf(schema: unknown, root: Schema, depth: number): ReadonlySet<string> | undefined {
  const given = depth < DEEPEST ? resolved(schema, root) : undefined;
  if (!given) return undefined;
  if (given.type !== undefined) {
    return new Set([given.type, given.nullable === true ? 'null' : []].flat().map(String));
  }
  if ('const' in given) return new Set([typeOf(given.const)]);
  if (Array.isArray(given.enum)) return new Set(given.enum.map(typeOf));
  for (const key of ['anyOf', 'oneOf'] as const) {
    if (!Array.isArray(given[key])) continue;
    const types = given[key].map((each: unknown) => typesOf(each, root, depth + 1));
    return types.includes(undefined) ? undefined : new Set(types.flatMap((each) => [...each!]));
  }
  if (Array.isArray(given.allOf)) {
    for (const each of given.allOf) {
      const types = typesOf(each, root, depth + 1);
      if (types) return types;
    }
  }
  if ('properties' in given) return new Set(['object']);
  if ('items' in given) return new Set(['array']);
  return undefined;
}

function resolved(schema: unknown, root: Schema): Schema | undefined {
  let now = schema;
  for (let hops = 0; isSchema(now) && typeof now.$ref === 'string'; hops++) {
    if (hops > DEEPEST || !now.$ref.startsWith('#')) return undefined;
    now = now.$ref
      .slice(1)
      .split('/')
      .filter((part) => part !== '')
      .map((part) => decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~'))
      .reduce<unknown>(
        (value, part) => (isSchema(value) && Object.hasOwn(value, part) ? value[part] : undefined),
        root,
      );
  }
  return isSchema(now) ? now : undefined;
}

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value;
}

/** Whether a value must be a string, so that its text can be streamed before it is complete. */
export function isStringAlone(types: ReadonlySet<string> | undefined): boolean {
  return types?.size === 1 && types.has('string');
}

/**
 * The JSON of an argument's text. The text is parsed as JSON or as Python if the schema allows the type; a text
 * that is neither is a string.
 */
export function typedValue(text: string, types: ReadonlySet<string> | undefined): string {
  if (isStringAlone(types)) return JSON.stringify(text);
  const json = valueIn(text.trim());
  if (json === undefined) return JSON.stringify(text);
  const type = typeOf(JSON.parse(json));
  const fits =
    types === undefined || types.has('any') || types.has(type) || (type === 'integer' && types.has('number'));
  if (fits) return json;
  // Python's names for numbers and truth in other letters are what is asked for; everything else may be a string.
  return types.has('string') || type === 'string' ? JSON.stringify(text) : json;
}

/** The JSON of a text that is exactly one value. */
function valueIn(text: string): string | undefined {
  const word = /^(?:true|false|null|none)$/i.exec(text)?.[0].toLowerCase();
  if (word) return word === 'none' ? 'null' : word;
  // A word that is not a number, a string or a bracket is a text.
  if (!/^(?:["'{[(]|[-+.]?\d)/.test(text)) return undefined;
  const chars = new Characters();
  // A value at the end of the text might continue; a line break ends it.
  chars.add(`${text}\n`);
  chars.end();
  const step = wholeLiteral(chars).next();
  if (!step.done || step.value === undefined) return undefined;
  const rest = chars.peek().next();
  if (!(rest.done && rest.value === '\n') || chars.takeUntil(/\S/).trim() !== '') return undefined;
  const isNumber = /^[-+.]?\d/.test(text);
  if (isNumber && step.value.startsWith('"')) return undefined;
  try {
    JSON.parse(step.value);
    return step.value;
  } catch {
    return undefined;
  }
}
