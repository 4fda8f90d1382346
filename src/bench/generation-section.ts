/** Prefill and decode of the presets, with random weights. */
import type { Device } from '../engine/index.js';
import { LanguageModel } from '../generate/index.js';
import { DESIGNS, type Design, hybridModel, parametersOf, preset } from '../models/index.js';
import { stateBytes } from '../nn/index.js';
import { Tokenizer, tokenizerFiles, trainBpe } from '../text/index.js';
import { initialWeights } from '../train/index.js';
import { decodeCost, prefillRate } from './cost.js';
import type { Plan } from './plan.js';
import { countWork, decodeFlops, prefillFlops } from './work.js';

/** The speed of prefill or decode at one length. */
export interface GenerationRate {
  design: Design;
  parameters: number;
  /** Tokens of the prefill, or tokens before the decoded ones. */
  tokens: number;
  tokensPerSecond: number;
  /** Floating-point operations per second. */
  flops: number;
  /** Bytes of one sequence's state after `tokens` tokens. */
  stateBytes: number;
}

/** The rates of all designs and lengths. */
export interface GenerationResult {
  prefill: GenerationRate[];
  decode: GenerationRate[];
}

/** Measures at the given lengths; an empty list skips a part. */
export async function measureGeneration(
  device: Device,
  { size, vocabSize, prefill, contexts }: Plan['generation'],
): Promise<GenerationResult> {
  const result: GenerationResult = { prefill: [], decode: [] };
  for (const design of DESIGNS) {
    const model = hybridModel(preset(design, size, vocabSize));
    const work = countWork(model);
    const weights = initialWeights(parametersOf(model), 1);
    const language = await LanguageModel.compile(model, weights, bytesTokenizer(), device);
    const rate = (tokens: number, tokensPerSecond: number, flops: number): GenerationRate => ({
      design,
      parameters: work.total,
      tokens,
      tokensPerSecond,
      flops,
      stateBytes: stateBytes(model.state, tokens),
    });
    for (const tokens of prefill) {
      const speed = await prefillRate(language, tokens);
      result.prefill.push(rate(tokens, speed, prefillFlops(work, speed)));
    }
    for (const context of contexts) {
      const { tokensPerSecond: speed } = await decodeCost(language, context);
      result.decode.push(rate(context, speed, decodeFlops(work, speed)));
    }
    await language.dispose();
  }
  return result;
}

/** A tokenizer of bytes, since a model needs one even if only ids are read. */
export function bytesTokenizer(): Tokenizer {
  return new Tokenizer(tokenizerFiles(trainBpe(['heddle'], { vocabSize: 257 })));
}
