/** Snippets compared with the results of Jinja 3.1 in `test/fixtures/jinja/results.json`, which a script beside it writes. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { readExactJson } from '../exact-json.js';
import { TEMPLATE_LIMITS, Template, TemplateError } from './index.js';

interface Result {
  readonly kind: string;
  readonly template: string;
  readonly text?: string;
  readonly error?: string;
}

const FIXTURE = new URL('../../../test/fixtures/jinja/results.json', import.meta.url);
const { variables, results, conversation, conversations } = JSON.parse(readFileSync(FIXTURE, 'utf8')) as {
  variables: string;
  results: readonly Result[];
  conversation: string;
  conversations: readonly Result[];
};

function rendered(template: string, values: string): string | TemplateError {
  try {
    return new Template(template).render([readExactJson(values) as Map<string, unknown>], TEMPLATE_LIMITS);
  } catch (error) {
    if (error instanceof TemplateError) return error;
    throw error;
  }
}

/** The `failure` that corresponds to an error of Jinja. */
function failureOf(error: string): string {
  if (error.startsWith('TemplateSyntaxError')) return 'syntax';
  return error.startsWith('TemplateError') ? 'raised' : 'failed';
}

describe.each([...new Set(results.map(({ kind }) => kind))])('%s', (kind) => {
  test.each(results.filter((result) => result.kind === kind))('$template', ({ template, text, error }) => {
    const answer = rendered(template, variables);
    if (text !== undefined) {
      expect(answer instanceof TemplateError ? answer.message : answer).toBe(text);
    } else {
      expect(answer).toBeInstanceOf(TemplateError);
      expect((answer as TemplateError).failure).toBe(failureOf(error!));
    }
  });
});

test.each(conversations)('a conversation: $kind', ({ template, text }) => {
  expect(rendered(template, conversation)).toBe(text);
});
