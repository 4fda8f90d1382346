/**
 * Quantized KV caches: entries in 16 or 8 bits a number instead of 32. New entries are rounded before they are first read
 * (`MixerContext.entries`), so that a token sees the same values of another one whether it was read in the same run or earlier, and the mixer law
 * holds as in 32 bits.
 *
 * In 8 bits a number is scale * code, with a scale for each entry of each head: its largest absolute value / 127. The state `name` has the codes,
 * and `name_scale` [..., past, 1] the scales.
 */
import {
  add,
  cast,
  divide,
  max as largest,
  maximum,
  negate,
  subtract,
  type Tensor,
  widenEntries,
} from '../graph/index.js';
import type { Mixer, StateSpec, StateTensors } from './mixer.js';

/** The formats of quantized caches. */
export const CACHE_FORMS = ['float16', 'int8'] as const;
/** One of `CACHE_FORMS`. */
export type CacheForm = (typeof CACHE_FORMS)[number];

/** Quantization and dequantization of entries [..., size]. */
interface Coding {
  /** The states of an original state. */
  specs(spec: StateSpec): StateSpec[];
  /** Entries, by the suffix of the state's name. */
  encode(entries: Tensor): Readonly<Record<string, Tensor>>;
  decode(kept: Readonly<Record<string, Tensor>>): Tensor;
}

const SCALE = '_scale';
const MOST = 127;

const CODINGS: Readonly<Record<CacheForm, Coding>> = {
  float16: {
    specs: (spec) => [{ ...spec, dtype: 'float16' }],
    encode: (entries) => ({ '': cast(entries, 'float16') }),
    decode: (kept) => widenEntries(kept['']!),
  },
  int8: {
    specs: (spec) => [
      { ...spec, dtype: 'int8' },
      { ...spec, name: spec.name + SCALE, shape: [...spec.shape.slice(0, -1), 1] },
    ],
    encode(entries) {
      const size = largest(maximum(entries, negate(entries)), -1, { keepDims: true });
      const scale = maximum(divide(size, MOST), 1e-30);
      // The cast truncates, so adding a half to a positive number rounds it.
      const shifted = cast(add(divide(entries, scale), MOST + 1.5), 'int32');
      return { '': cast(subtract(shifted, MOST + 1), 'int8'), [SCALE]: scale };
    },
    decode: (kept) => widenEntries(kept['']!, kept[SCALE]!),
  },
};

/** `mixer` with quantized growing states; mixers without growing states are unchanged. */
export function withCache(mixer: Mixer, form: CacheForm): Mixer {
  const { specs, encode, decode } = CODINGS[form];
  const isCoded = ({ grows, dtype }: StateSpec): boolean => grows !== undefined && dtype === 'float32';
  const coded = mixer.state.filter(isCoded);
  if (coded.length === 0) return mixer;
  const suffixes = specs(coded[0]!).map(({ name }) => name.slice(coded[0]!.name.length));
  return {
    state: mixer.state.flatMap((spec) => (isCoded(spec) ? specs(spec) : [spec])),
    forward(parameters, x, context) {
      const { state } = context;
      const before: Record<string, Tensor> | undefined = state && { ...state };
      for (const { name } of before ? coded : []) {
        before![name] = decode(
          Object.fromEntries(suffixes.map((suffix) => [suffix, state![name + suffix]!])),
        );
      }
      const entries = (kept: Tensor): Tensor => decode(encode(kept));
      const result = mixer.forward(parameters, x, { ...context, state: before, entries });
      const after: Record<string, Tensor> = { ...result.state };
      for (const { name } of state ? coded : []) {
        for (const [suffix, kept] of Object.entries(encode(after[name]!))) after[name + suffix] = kept;
      }
      return { output: result.output, state: after as StateTensors };
    },
  };
}
