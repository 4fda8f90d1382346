/** What the readers of the different styles of calls share. */
import type { CallForm } from './form.js';
import type { CallableTool } from './typed-value.js';

/** Receives the calls of tools that an answer is found to have, as they are written. */
export interface CallSink {
  /** A call begins, with the id that the model gave it if it did. */
  begin(name: string, id?: string): void;
  /** JSON text of the arguments of the call that began last. */
  arguments(json: string): void;
}

/** 'none' where there is no call, and nothing was handed on; 'cut' where the text ended within one. */
export type CallEnd = 'call' | 'none' | 'cut';

/** How a model writes calls, and which tools it may call. */
export interface CallScope {
  readonly form: CallForm;
  readonly tools: readonly CallableTool[];
  /** Whether only the name of a tool makes a call: no mark told of one. */
  readonly unmarked: boolean;
}

/** Characters beyond which what stands before arguments is no name. */
export const LONGEST_NAME = 300;

/** Whether a name may be that of a call. */
export function isCallable(name: string, { tools, unmarked }: CallScope): boolean {
  return unmarked ? tools.some((tool) => tool.name === name) : name !== '';
}
