/**
 * The routing of DeepSeek-V3 (2024, arXiv 2412.19437): sigmoid scores, a bias that only affects the selection, and groups of experts, the
 * best of which are selected first. Nemotron-H, Kimi-Linear and Ling use it.
 */
import { z } from 'zod';
import type { Routing } from '../../nn/index.js';
import { expectConfig, headCount } from './family.js';

/** The keys of a config that describe this routing. */
export const groupedRoutingKeys = {
  routed_scaling_factor: z.number().positive().default(1),
  norm_topk_prob: z.boolean().default(true),
  n_group: headCount.default(1),
  topk_group: headCount.default(1),
};

type Keys = z.output<z.ZodObject<typeof groupedRoutingKeys>>;

/**
 * The routing of a token to `perToken` of `count` experts (`key` is the key of their number). Throws `ConfigError` for groups that do not
 * divide the experts.
 */
export function groupedRouting(
  { n_group: groups, topk_group: chosen, norm_topk_prob: normalized, routed_scaling_factor: factor }: Keys,
  [key, count]: readonly [key: string, count: number],
  perToken: number,
): Routing {
  const each = count / groups;
  expectConfig(
    Number.isInteger(each) && (groups === 1 || each >= 2),
    `${key} (${count}) must be a multiple of n_group (${groups}), with at least 2 in each group`,
  );
  expectConfig(
    chosen <= groups && perToken <= chosen * each,
    `topk_group (${chosen}) must be at most n_group (${groups}), and hold num_experts_per_tok (${perToken}) experts`,
  );
  return {
    scores: 'sigmoid',
    normalized,
    factor,
    choiceBias: 'gate.e_score_correction_bias',
    groups: { count: groups, chosen },
  };
}
