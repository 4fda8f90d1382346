/** Generates the OpenAPI document from the schemas that requests are validated with. */
import { z } from 'zod';
import { ErrorBody } from './api-error.js';
import { OPERATIONS, type Operation } from './operations.js';

type Json = Record<string, unknown>;

/** The OpenAPI document of all operations. */
export function openApiDocument(version: string): Json {
  const schemas: Json = {};
  const reference = ([name, schema]: readonly [string, z.ZodType], io: 'input' | 'output'): Json => {
    const { $schema: _, ...json } = z.toJSONSchema(schema, { io, unrepresentable: 'any' });
    schemas[name] = json;
    return { $ref: `#/components/schemas/${name}` };
  };
  const failure = {
    description: 'What went wrong.',
    content: { 'application/json': { schema: reference(['Error', ErrorBody], 'output') } },
  };
  const paths: Record<string, Json> = {};
  for (const operation of OPERATIONS) {
    const { method, path, summary, query = {}, body, status, open } = operation;
    const parameters = [
      ...[...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
        name,
        in: 'path',
        required: true,
        schema: { type: 'string' },
      })),
      ...Object.entries(query).map(([name, description]) => ({
        name,
        in: 'query',
        description,
        schema: { type: 'string' },
      })),
    ];
    paths[path] = {
      ...paths[path],
      [method]: {
        summary,
        ...(parameters.length > 0 && { parameters }),
        ...(body && {
          requestBody: {
            required: true,
            content:
              typeof body === 'string'
                ? { [body]: {} }
                : { 'application/json': { schema: reference(body, 'input') } },
          },
        }),
        responses: {
          [status]: { description: summary, content: contentOf(operation, reference) },
          default: failure,
        },
        ...(open && { security: [] }),
      },
    };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Heddle',
      version,
      description: 'Language models whose state can be saved, forked and restored.',
    },
    paths,
    components: {
      schemas,
      securitySchemes: { key: { type: 'http', scheme: 'bearer' } },
    },
    // Without API keys the server accepts requests from this machine only.
    security: [{ key: [] }, {}],
  };
}

function contentOf(
  { answer, events }: Operation,
  reference: (schema: readonly [string, z.ZodType], io: 'output') => Json,
): Json {
  return {
    ...(typeof answer === 'string'
      ? { [answer]: { schema: { type: 'string' } } }
      : { 'application/json': { schema: reference(answer, 'output') } }),
    ...(events && { 'text/event-stream': { schema: reference(events, 'output') } }),
  };
}
