/** The supported families of checkpoints, one file each. */
import { hybridFamily } from '../hybrid.js';
import { bailingV3 } from './bailing-v3.js';
import { bamba } from './bamba.js';
import { falconH1 } from './falcon-h1.js';
import type { Family } from './family.js';
import { granitemoehybrid } from './granite.js';
import { jamba } from './jamba.js';
import { kimiLinear } from './kimi-linear.js';
import { lfm2, lfm2Moe } from './lfm2.js';
import { llama, qwen3 } from './llama.js';
import { falconMamba, mamba } from './mamba.js';
import { mamba2 } from './mamba2.js';
import { minimax } from './minimax.js';
import { nemotronH } from './nemotron-h.js';
import { olmoHybrid } from './olmo-hybrid.js';
import { qwen3Next, qwen35, qwen35Moe, qwen35MoeMultimodal, qwen35Multimodal } from './qwen3-next.js';
import { recurrentGemma } from './recurrent-gemma.js';
import { rwkv7 } from './rwkv7.js';
import { stateSpaces } from './state-spaces.js';
import { zamba2 } from './zamba2.js';
import { zaya } from './zaya.js';

/** All families, which are identified by `model_type`. */
export const FAMILIES: readonly Family[] = [
  hybridFamily,
  mamba,
  falconMamba,
  mamba2,
  jamba,
  bamba,
  granitemoehybrid,
  nemotronH,
  falconH1,
  zamba2,
  lfm2,
  lfm2Moe,
  qwen3Next,
  qwen35,
  qwen35Multimodal,
  qwen35Moe,
  qwen35MoeMultimodal,
  olmoHybrid,
  recurrentGemma,
  minimax,
  kimiLinear,
  zaya,
  bailingV3,
  rwkv7,
  stateSpaces,
  llama,
  qwen3,
];
