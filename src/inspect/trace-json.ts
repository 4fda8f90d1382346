/** Traces as JSON and back. */
import type { EncodedValues, Trace, TraceJson, TraceOf, Values } from './trace.js';

/** The trace with its tensors in base64, for `JSON.stringify`. */
export function encodeTrace(trace: Trace): TraceJson {
  return withTensors(trace, encodeValues);
}

/** What `encodeTrace` made, in memory again. */
export function decodeTrace(json: TraceJson): Trace {
  return withTensors(json, decodeValues);
}

function encodeValues({ dims, data }: Values): EncodedValues {
  const bytes = Buffer.alloc(4 * data.length);
  for (const [i, value] of data.entries()) bytes.writeFloatLE(value, 4 * i);
  return { dims, data: bytes.toString('base64') };
}

function decodeValues({ dims, data }: EncodedValues): Values {
  const bytes = Buffer.from(data, 'base64');
  return { dims, data: Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i)) };
}

/** A copy in which `change` made every tensor: whatever has dims and data. */
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
