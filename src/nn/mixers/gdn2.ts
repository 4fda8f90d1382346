/**
 * GDN-2, the gated delta net with an erase and a write of their own (NVIDIA, 2026, arXiv 2605.22791), as in fla's layers/gdn2.py: KDA
 * in whose delta rule a number for each key channel says what is taken out, and one for each value channel what is written,
 *
 *     q, k, v = silu(conv1d(x Wq, x Wk, x Wv))     q, k of length 1 per head, q / sqrt(keyHeadDim)
 *     b = sigmoid(x Wb), w = sigmoid(x Ww)         g = -exp(A_log) softplus(f(x) + dt_bias)
 *     S_t = D_t - k_t (D_t^T (b_t * k_t))^T + k_t (w_t * v_t)^T, D_t = diag(exp(g_t)) S_(t-1)
 *     o_t = S_t^T q_t                              o_proj(norm(o) * sigmoid(z(x)))
 *
 * With b and w one number it is KDA. Its safe gate, and b in (0, 2), are as there.
 *
 * State for one sequence: `recurrent` [numHeads, keyHeadDim, valueHeadDim] and `conv` [convKernel - 1, channels], as of KDA.
 */
import { multiply, sigmoid } from '../../graph/index.js';
import type { Mixer } from '../mixer.js';
import { channelDeltaNet, type KimiDeltaConfig, projected } from './kda.js';

/** Sizes of GDN-2, which are those of KDA. */
export type GatedDeltaNet2Config = KimiDeltaConfig;

/** Throws `ConfigError` for a lower bound that is not below 0. */
export function gatedDeltaNet2(config: GatedDeltaNet2Config): Mixer {
  const keys = config.numHeads * config.keyHeadDim;
  const values = config.numHeads * config.valueHeadDim;
  return channelDeltaNet(config, (parameters, x, { key, value }) => {
    const erase = sigmoid(projected(parameters, 'b', x, keys, {}));
    const write = sigmoid(projected(parameters, 'w', x, values, {}));
    const share = config.negativeEigenvalues ? multiply(erase, 2) : erase;
    return {
      key,
      value: multiply(value, write),
      erase: { find: multiply(key, share), remove: key },
    };
  });
}
