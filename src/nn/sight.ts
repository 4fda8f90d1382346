/**
 * What a mixer shows of how it mixes, to those who look inside (inspect/): the tensors that it has anyway. A mixer that is
 * given `observe` calls it once for each thing below that it does; without it nothing of this is computed.
 */
import type { ChannelSystemInputs, Heads, RecurrenceInputs, ScanInputs, Tensor } from '../graph/index.js';

/** Is shown what a mixer does inside, while its graph is built. */
export type Observe = (sight: Sight) => void;

/** What a mixer does inside, by the kind of its operator. */
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
  /** Of attention with a fixed memory: the last `window` tokens, and the `selected` others of the highest scores. */
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
  /** [batch, sequence, heads]: what a token is multiplied with to be its value; 1 by default. */
  readonly factor?: Tensor;
  /** Steps of the operands that are one token, of which the last reads; 1 by default. */
  readonly stepsPerToken?: number;
  /** Values are those of the token before, and its own are read beside the state, times `own` [batch, sequence, heads]. */
  readonly delayed?: { readonly own: Tensor };
}

/** A selective scan, in which every channel is a head. */
export interface ScanSight {
  readonly kind: 'scan';
  readonly operands: ScanInputs;
  /** [batch, sequence, width]: what a token is multiplied with to be its value. */
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

/** One linear system for all channels, of whose outputs each is a head. */
export interface StateSystemSight {
  readonly kind: 'state system';
  /** What enters the state: [batch, sequence, size]. */
  readonly input: Tensor;
  /** [size, size] */
  readonly transition: Tensor;
  /** [channels, size] */
  readonly readout: Tensor;
}
