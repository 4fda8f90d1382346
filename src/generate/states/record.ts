/** The metadata of saved states. */
import { z } from 'zod';
import { randomHex } from '../../platform/random-hex.js';

const ID = /^state-[0-9a-f]{24}$/;

/** The id of a saved state: `state-` and 24 hexadecimal digits. */
export const StateId = z
  .string()
  .regex(ID, 'expected the id of a state, such as state-0123456789abcdef01234567');

/** The record of a saved state, which is validated when it is read. */
export const StateRecord = z.strictObject({
  id: StateId,
  object: z.literal('state'),
  model: z.string(),
  /** Seconds since 1970. */
  created: z.int(),
  /** The number of its tokens. */
  tokens: z.int(),
  /** The size of the state's file. */
  bytes: z.int(),
  name: z.string().nullable(),
  /** The state that it continues or is a fork of. */
  parent: z.string().nullable(),
  /** Tokens before the first message. */
  base: z.int(),
  /** The messages of the conversation, after the base. */
  messages: z.array(z.looseObject({ role: z.string() })),
});
/** A stored state, without its values. */
export type StateRecord = z.infer<typeof StateRecord>;

/** A random id for a new state. */
export function newStateId(): string {
  return `state-${randomHex(12)}`;
}
