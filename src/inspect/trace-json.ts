/** Serializes traces to JSON and back. */
import type { EncodedValues, Trace, TraceJson, TraceOf, Values } from './trace.js';

/** The trace with its tensors in base64, for `JSON.stringify`. */
export function encodeTrace(trace: Trace): TraceJson {
  return withTensors(trace, encodeValues);
}

/** The inverse of `encodeTrace`. */
export function decodeTrace(json: TraceJson): Trace {
  return withTensors(json, decodeValues);
}

/** The most characters of one call, since arguments are on the stack. */
const CHUNK = 2 ** 13;

/** Arrays are little-endian on every machine that this runs on, and so is the format. */
function encodeValues({ dims, data }: Values): EncodedValues {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let characters = '';
  for (let at = 0; at < bytes.length; at += CHUNK) {
    characters += String.fromCharCode(...bytes.subarray(at, at + CHUNK));
  }
  return { dims, data: btoa(characters) };
}

function decodeValues({ dims, data }: EncodedValues): Values {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  return { dims, data: new Float32Array(bytes.buffer) };
}

/** A copy with `change` applied to every tensor (objects with dims and data). */
function withTensors<A extends { dims: readonly number[] }, B>(
  trace: TraceOf<A>,
  change: (tensor: A) => B,
): TraceOf<B> {
  const copy = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(copy);
    if (typeof value !== 'object' || value === null) return value;
    if ('dims' in value && 'data' in value) return change(value as unknown as A);
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, copy(item)]));
  };
  return copy(trace) as TraceOf<B>;
}
