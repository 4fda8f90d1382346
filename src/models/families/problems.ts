/** Formats the issues of a config's schema. */
import type { z } from 'zod';

/** Keys and messages of the first few issues: one wrong list may have thousands. */
export function problemsIn({ issues }: z.ZodError): string {
  const shown = issues.slice(0, 5).map(({ path, message }) => `${path.join('.')}: ${message}`);
  const more = issues.length - shown.length;
  return `${shown.join('; ')}${more > 0 ? `; and ${more} more` : ''}`;
}
