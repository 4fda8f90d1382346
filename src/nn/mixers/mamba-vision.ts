/**
 * The mixer of MambaVision (Hatamizadeh & Kautz, 2024, arXiv 2407.08083; NVlabs/MambaVision, models/mamba_vision.py), for the places
 * of an image in any order, which see each other on both sides:
 *
 *     x, z = in_proj(u)      x = silu(conv_x(x))      z = silu(conv_z(z))      out_proj([ssm(x), z])
 *
 * with x and z of half the hidden size, convolutions around each token, and Mamba's selective state space on x alone. What the state
 * space cannot see since it goes one way, z keeps. There is no gate.
 *
 * It is not causal and has no state. The published models have it in windows of 14 and 7 places, and attention in the last half of the
 * blocks of a stage.
 */
import { ConfigError } from '../../errors.js';
import { addDims, concat, type Dim, pad, silu, slice, split, type Tensor } from '../../graph/index.js';
import { linear } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { normal, type Parameters } from '../parameters.js';
import { selectiveStateSpace } from './mamba1.js';
import { convolve } from './short-convolution.js';

/** Sizes of the mixer of MambaVision. */
export interface MambaVisionConfig {
  /** Even: a half goes through the state space. */
  hiddenSize: number;
  /** 8 in the published models. */
  stateSize: number;
  /** Tokens that a convolution covers, the present one in the middle; odd, 3 in the published models. */
  convKernel: number;
  outputDeviation: number;
}

/** Throws `ConfigError` for an odd hidden size or an even kernel. */
export function mambaVision(config: MambaVisionConfig): Mixer {
  const { hiddenSize, stateSize, convKernel } = config;
  if (hiddenSize % 2 !== 0)
    throw new ConfigError(`the hidden size ${hiddenSize} is odd: halves of it mix apart`);
  if (convKernel % 2 !== 1)
    throw new ConfigError(`the kernel ${convKernel} is even: it has to reach as far ahead as back`);
  const half = hiddenSize / 2;
  const space = { innerSize: half, stateSize, timeStepRank: Math.ceil(hiddenSize / 16) };
  const around = (parameters: Parameters, name: string, x: Tensor): Tensor =>
    silu(parameters.within(name, (p) => convolveAround(p, x, convKernel)));
  return {
    state: [],
    forward(parameters, u, { observe }) {
      const projected = parameters.within('in_proj', (p) => linear(p, u, hiddenSize));
      const [xRaw, zRaw] = split(projected, -1, [half, half]) as [Tensor, Tensor];
      const x = around(parameters, 'conv1d_x', xRaw);
      const z = around(parameters, 'conv1d_z', zRaw);
      const { output: y } = selectiveStateSpace(parameters, x, space, { observe });
      const output = parameters.within('out_proj', (p) =>
        linear(p, concat([y, z], -1), hiddenSize, { initialize: normal(config.outputDeviation) }),
      );
      return { output, state: {} };
    },
  };
}

/** The convolution of x [batch, sequence, channels] around each token: that which ends half a kernel later. */
function convolveAround(parameters: Parameters, x: Tensor, convKernel: number): Tensor {
  const ahead = (convKernel - 1) / 2;
  const sequence = x.shape[1] as Dim;
  const { output } = convolve(parameters, pad(x, 1, 0, ahead), { convKernel, convBias: false });
  return slice(output, 1, ahead, addDims(sequence, ahead));
}
