/** What is known of a saved state besides the state itself. */
import { z } from 'zod';
import { randomHex } from '../../platform/random-hex.js';

const ID = /^state-[0-9a-f]{24}$/;

/** The id of a saved state: `state-` and 24 hexadecimal digits. */
export const StateId = z
  .string()
  .regex(ID, 'expected the id of a state, such as state-0123456789abcdef01234567');

/** What is known of a saved state, and checked when it is read. */
export const StateRecord = z.strictObject({
  id: StateId,
  object: z.literal('state'),
  model: z.string(),
  /** Seconds since 1970. */
  created: z.int(),
  /** How many it has read and written. */
  tokens: z.int(),
  /** Of the file with the state. */
  bytes: z.int(),
  name: z.string().nullable(),
  /** The state that it went on from or is a fork of. */
  parent: z.string().nullable(),
  /** Tokens before the first message. */
  base: z.int(),
  /** The conversation that it is the state of, after those. */
  messages: z.array(z.looseObject({ role: z.string() })),
});
export type StateRecord = z.infer<typeof StateRecord>;

/** A random id for a new state. */
export function newStateId(): string {
  return `state-${randomHex(12)}`;
}
