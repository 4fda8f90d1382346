/** What contenders in the race of runtimes are asked, and what they say: lines of JSON. */
import { z } from 'zod';

/** How an answer may be asked for. */
export const ANSWER_KINDS = [
  'plain',
  'temperature 0',
  '5 log probabilities',
  'penalties',
  'a JSON schema',
] as const;
/** In which way a session writes: plainly, or with what costs time besides. */
export type AnswerKind = (typeof ANSWER_KINDS)[number];

/** What a contender is asked to do. */
export type RuntimeTask =
  /** Reads so many tokens into a new sequence. */
  | { readonly kind: 'prefill'; readonly tokens: number }
  /** Writes the likeliest tokens, one sequence or `streams` of them at once, behind so many tokens each. */
  | { readonly kind: 'decode'; readonly tokens: number; readonly streams: number }
  /** Writes as a session does, behind so many tokens. */
  | { readonly kind: 'answer'; readonly tokens: number; readonly how: AnswerKind };

/** A contender has loaded its model: seconds, and bytes that it holds then. Or it says why it takes no part. */
export const readySchema = z.union([
  z.object({ seconds: z.number().positive(), heldBytes: z.number().positive() }),
  z.object({ declines: z.string() }),
]);
/** What a runtime says when it has loaded its model. */
export type RuntimeReady = Exclude<z.output<typeof readySchema>, { declines: string }>;

/** Of all sequences together, the milliseconds between tokens where they come one by one, and the most bytes that were held until then. */
const doneSchema = z.object({
  tokensPerSecond: z.number().positive(),
  gaps: z.array(z.number().positive()).optional(),
  peakBytes: z.number().positive(),
});
/** What a task took; or nothing, of a task that a contender does not know. */
export const answerSchema = z.union([doneSchema, z.object({ unknown: z.literal(true) })]);
/** What a runtime says of one task that it did. */
export type RuntimeAnswer = z.output<typeof doneSchema>;

/** A task in words. */
export function taskName(task: RuntimeTask): string {
  const tokens = task.tokens.toLocaleString('en');
  if (task.kind === 'prefill') return `prefill of ${tokens}`;
  if (task.kind === 'answer') return task.how;
  return task.streams === 1 ? `decode behind ${tokens}` : `${task.streams} streams behind ${tokens}`;
}
