/** Shared types of the readers of call styles. */
import type { CallForm } from './form.js';
import type { CallableTool } from './typed-value.js';

/** Receives the tool calls of an answer while they are read. */
export interface CallSink {
  /** A call starts, with the model's id if it gave one. */
  begin(name: string, id?: string): void;
  /** A piece of the JSON text of the last call's arguments. */
  arguments(json: string): void;
}

/** 'none' if there is no call and nothing was emitted; 'cut' if the text ended within one. */
export type CallEnd = 'call' | 'none' | 'cut';

/** The form of calls, and the tools that may be called. */
export interface CallScope {
  readonly form: CallForm;
  readonly tools: readonly CallableTool[];
  /** Whether a call is recognized only by the name of a tool, since there was no mark. */
  readonly unmarked: boolean;
}

/** The most characters of a name before arguments. */
export const LONGEST_NAME = 300;

/** Whether a name may be that of a call. */
export function isCallable(name: string, { tools, unmarked }: CallScope): boolean {
  return unmarked ? tools.some((tool) => tool.name === name) : name !== '';
}
