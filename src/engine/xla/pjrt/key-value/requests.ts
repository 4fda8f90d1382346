/** What the thread of a callback asks of the thread that has the connection to the store. */
import type { MessagePort } from 'node:worker_threads';

/** PJRT's three callbacks: one waits for a value, one stores it, one looks whether it is there. */
export const KINDS = ['get', 'put', 'tryGet'] as const;
/** One of the three callbacks. */
export type Kind = (typeof KINDS)[number];

/** A call of a callback. */
export interface Request {
  readonly key: Uint8Array;
  /** To be stored. */
  readonly value?: Uint8Array;
  /** Milliseconds to wait for a value that is not there yet. */
  readonly patience: number;
  /** One int32, 0 until the answer was posted. The thread of the callback sleeps on it. */
  readonly answered: SharedArrayBuffer;
}

/** What became of a request: a value, nothing to tell, or an error by its `PJRT_Error_Code` and in words. */
export interface Answer {
  readonly value?: Uint8Array;
  readonly error?: { readonly code: number; readonly message: string };
}

/** The `workerData` of the thread with the connection. */
export interface StoreData {
  /** Address of a Valkey or Redis. */
  readonly place: string;
  /** Stands before each key. */
  readonly prefix: string;
  readonly ports: readonly MessagePort[];
}

/** The `workerData` of a callback's thread. */
export interface CallbackData {
  readonly kind: Kind;
  /** To the thread with the connection. */
  readonly port: MessagePort;
  /** Where koffi is imported from. */
  readonly koffi: string;
}
