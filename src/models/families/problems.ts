/** What a schema finds wrong with a config, for a person. */
import type { z } from 'zod';

/** Key and problem, of the first few: one wrong list may have thousands. */
export function problemsIn({ issues }: z.ZodError): string {
  const shown = issues.slice(0, 5).map(({ path, message }) => `${path.join('.')}: ${message}`);
  const more = issues.length - shown.length;
  return `${shown.join('; ')}${more > 0 ? `; and ${more} more` : ''}`;
}
