/** Reads tools and template variables from a request's JSON text without the losses of `JSON.parse` (large numbers, the order of keys). */
import type { Context } from 'hono';
import { type ExactJson, readExactJson, type TemplateVariables } from '../../text/index.js';
import type { Tool } from './messages.js';

/** Parses the body again without loss; empty if it has no parts that a template would see. */
export async function exactBodyOf(
  context: Context,
  { tools, chat_template_kwargs: variables }: { tools?: unknown; chat_template_kwargs?: unknown },
): Promise<ReadonlyMap<string, ExactJson>> {
  if (!tools && !variables) return new Map();
  const body = readExactJson(await context.req.text());
  return body instanceof Map ? body : new Map();
}

/** Tools with the exact parameters of the body's tools of the same names. */
export function exactTools(tools: readonly Tool[], body: ReadonlyMap<string, ExactJson>): readonly unknown[] {
  const sent = body.get('tools');
  const declared = (Array.isArray(sent) ? sent : []).map((tool) => memberOf(tool, 'function') ?? tool);
  return tools.map((tool) => {
    const same = declared.find((one) => memberOf(one, 'name') === tool.function.name);
    const parameters = memberOf(same, 'parameters');
    if (!(parameters instanceof Map && tool.function.parameters)) return tool;
    return { ...tool, function: { ...tool.function, parameters } };
  });
}

const memberOf = (value: ExactJson | undefined, name: string): ExactJson | undefined =>
  value instanceof Map ? value.get(name) : undefined;

/** Template variables with the exact values of the body. */
export function exactVariables(
  variables: Readonly<Record<string, unknown>>,
  body: ReadonlyMap<string, ExactJson>,
): TemplateVariables {
  const sent = body.get('chat_template_kwargs');
  return sent instanceof Map ? new Map([...Object.entries(variables), ...sent]) : variables;
}
