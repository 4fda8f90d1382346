/** What a request's JSON text says of tools and variables, where `JSON.parse` would lose numbers or the order of keys. */
import type { Context } from 'hono';
import { type ExactJson, readExactJson, type TemplateVariables } from '../../text/index.js';
import type { Tool } from './messages.js';

/** The body that was read before, read again without loss; where it has nothing to lose for a template, an empty one. */
export async function exactBodyOf(
  context: Context,
  { tools, chat_template_kwargs: variables }: { tools?: unknown; chat_template_kwargs?: unknown },
): Promise<ReadonlyMap<string, ExactJson>> {
  if (!tools && !variables) return new Map();
  const body = readExactJson(await context.req.text());
  return body instanceof Map ? body : new Map();
}

/** Tools with the parameters that stand in the body's tool of the same name. */
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

/** Variables of the template, with those that the body has for it as they stand there. */
export function exactVariables(
  variables: Readonly<Record<string, unknown>>,
  body: ReadonlyMap<string, ExactJson>,
): TemplateVariables {
  const sent = body.get('chat_template_kwargs');
  return sent instanceof Map ? new Map([...Object.entries(variables), ...sent]) : variables;
}
