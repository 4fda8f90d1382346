/**
 * The tensors of a mixer that inspection (inspect/) reads: attention probabilities, recurrence operands, kernels. A mixer calls `observe`
 * once for each operation below that it performs; without `observe` no extra tensors are computed.
 */
import type { ChannelSystemInputs, Heads, RecurrenceInputs, ScanInputs, Tensor } from '../graph/index.js';

/** Called with a mixer's operations while its graph is built. */
export type Observe = (sight: Sight) => void;

/** One operation of a mixer, by its kind. */
export type Sight =
  | AttentionSight
  | RecurrenceSight
  | ScanSight
  | ConvolutionSight
  | ChannelSystemSight
  | StateSystemSight;

/** Softmax attention. */
export interface AttentionSight {
  readonly kind: 'attention';
  /** [batch, heads, sequence, tokens]; without a state the tokens are those of the sequence. */
  readonly weights: Tensor;
  /** For selective attention: the last `window` tokens, and the `selected` earlier ones with the highest scores. */
  readonly memory?: {
    readonly window: number;
    readonly selected: number;
    /** [batch, tokens] */
    readonly scores: Tensor;
  };
}

/** A linear recurrence. */
export interface RecurrenceSight {
  readonly kind: 'recurrence';
  readonly operands: RecurrenceInputs;
  readonly heads: Heads;
  /** [batch, sequence, heads]: factors on the values; 1 by default. */
  readonly factor?: Tensor;
  /** Recurrence steps per token, of which only the last one is read; 1 by default. */
  readonly stepsPerToken?: number;
  /** The state is updated with the value of the previous token; a token's own value is added to the output, times `own` [batch, sequence, heads]. */
  readonly delayed?: { readonly own: Tensor };
}

/** A selective scan, in which every channel is a head. */
export interface ScanSight {
  readonly kind: 'scan';
  readonly operands: ScanInputs;
  /** [batch, sequence, width]: factors on the values. */
  readonly factor: Tensor;
}

/** after * conv(before * x), in which every channel is a head. */
export interface ConvolutionSight {
  readonly kind: 'convolution';
  /** [channels, 1, kernel] */
  readonly weight: Tensor;
  /** [batch, sequence, channels] */
  readonly before: Tensor;
  readonly after: Tensor;
}

/** A linear system for each channel, each of which is a head. */
export interface ChannelSystemSight {
  readonly kind: 'channel system';
  readonly operands: ChannelSystemInputs;
}

/** One linear system for all channels; each of its outputs counts as a head. */
export interface StateSystemSight {
  readonly kind: 'state system';
  /** What enters the state: [batch, sequence, size]. */
  readonly input: Tensor;
  /** [size, size] */
  readonly transition: Tensor;
  /** [channels, size] */
  readonly readout: Tensor;
}
