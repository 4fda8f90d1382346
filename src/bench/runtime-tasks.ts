/** The protocol of the runtime benchmark: tasks and answers as lines of JSON. */
import { z } from 'zod';

/** The kinds of answers. */
export const ANSWER_KINDS = [
  'plain',
  'temperature 0',
  '5 log probabilities',
  'penalties',
  'a JSON schema',
] as const;
/** A kind of answer: plain, or with a feature that costs time. */
export type AnswerKind = (typeof ANSWER_KINDS)[number];

/** A task for a contender. */
export type RuntimeTask =
  /** Reads `tokens` tokens into a new sequence. */
  | { readonly kind: 'prefill'; readonly tokens: number }
  /** Decodes greedily, one sequence or `streams` of them at once, after `tokens` tokens each. */
  | { readonly kind: 'decode'; readonly tokens: number; readonly streams: number }
  /** Generates as a session does, after `tokens` tokens. */
  | { readonly kind: 'answer'; readonly tokens: number; readonly how: AnswerKind };

/** The message that a contender has loaded its model, with the seconds and its memory in bytes; or the reason why it does not take part. */
export const readySchema = z.union([
  z.object({ seconds: z.number().positive(), heldBytes: z.number().positive() }),
  z.object({ declines: z.string() }),
]);
/** The message of a runtime that has loaded its model. */
export type RuntimeReady = Exclude<z.output<typeof readySchema>, { declines: string }>;

/** The rate of all sequences together, the gaps in milliseconds if tokens come one by one, and the peak memory in bytes. */
const doneSchema = z.object({
  tokensPerSecond: z.number().positive(),
  gaps: z.array(z.number().positive()).optional(),
  peakBytes: z.number().positive(),
});
/** The result of a task, or the answer that the contender does not know the task. */
export const answerSchema = z.union([doneSchema, z.object({ unknown: z.literal(true) })]);
/** The result of a task. */
export type RuntimeAnswer = z.output<typeof doneSchema>;

/** Formats a task. */
export function taskName(task: RuntimeTask): string {
  const tokens = task.tokens.toLocaleString('en');
  if (task.kind === 'prefill') return `prefill of ${tokens}`;
  if (task.kind === 'answer') return task.how;
  return task.streams === 1 ? `decode after ${tokens}` : `${task.streams} streams after ${tokens}`;
}
