/** What a lender of a database and its borrowers say to each other. */
import type { Socket } from 'node:net';
import { deserialize, serialize } from 'node:v8';
import { ArchiveUnavailableError } from '../../errors.js';

/** What a lender says first: which folder it has. */
export interface Greeting {
  readonly folder: string;
}
interface Statement {
  readonly sql: string;
  readonly values: readonly unknown[] | undefined;
}
/** What a borrower asks: a statement, the begin of a transaction, or its end. */
export type Asked = Statement | { readonly begin: { readonly small: boolean } } | { readonly commit: string };
/** What the lender answers: rows, or an error. */
export type Told =
  | { readonly rows: unknown[] }
  | { readonly name: string; readonly message: string; readonly code: unknown };

/** The process that lent a database has ended, or lends it no more. Nothing of what was asked is done. */
export class LostDatabaseError extends ArchiveUnavailableError {}

/** The error of a connection that has ended. */
export function lost(cause?: unknown): LostDatabaseError {
  return new LostDatabaseError('the process that had the archive open has ended: start again', { cause });
}

/** A message is its length, in four bytes, and what V8 makes of it. */
export function send(socket: Socket, message: Greeting | Asked | Told): void {
  const bytes = serialize(message);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  socket.write(length);
  socket.write(bytes);
}

/** Messages until the connection ends, or fails. */
export async function* messagesOf<Message>(socket: Socket): AsyncGenerator<Message, void> {
  let parts: Buffer[] = [];
  let size = 0;
  let needed = 4;
  try {
    for await (const part of socket) {
      parts.push(part as Buffer);
      size += (part as Buffer).length;
      if (size < needed) continue;
      let held = Buffer.concat(parts);
      while (held.length >= 4 && held.length >= 4 + held.readUInt32LE()) {
        const end = 4 + held.readUInt32LE();
        yield deserialize(held.subarray(4, end)) as Message;
        held = held.subarray(end);
      }
      parts = [held];
      size = held.length;
      needed = held.length < 4 ? 4 : 4 + held.readUInt32LE();
    }
  } catch {
    // It is over, whatever the reason.
  }
}
