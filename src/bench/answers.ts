/** Generates answers of several kinds, and measures the gaps between their tokens. */
import { Constraint, schemaNode, TokenTree } from '../generate/grammar/index.js';
import type { GenerateOptions, LanguageModel, Snapshot } from '../generate/index.js';
import { Vocabulary } from '../text/index.js';
import type { AnswerKind } from './runtime-tasks.js';

/** The `maxTokens` of an answer, of which the first tokens are timed; a value that is usual for clients. */
const MOST_TOKENS = 512;

const SCHEMA = {
  type: 'object',
  properties: { title: { type: 'string' }, text: { type: 'string' } },
  required: ['title', 'text'],
  additionalProperties: false,
};

/** Generates answers of each kind after one prompt. */
export class Answers {
  private tree: TokenTree | undefined;
  private readonly grammar = schemaNode(SCHEMA);

  private constructor(
    private readonly language: LanguageModel,
    private readonly prompt: Snapshot,
  ) {}

  /** Lets the model read a prompt of `tokens` tokens. */
  static async after(language: LanguageModel, tokens: number): Promise<Answers> {
    const session = language.session();
    await session.read(Array.from({ length: tokens }, (_, i) => (i * 7 + 1) % language.model.vocabSize));
    const prompt = await session.snapshot();
    session.dispose();
    return new Answers(language, prompt);
  }

  /** The gaps between `tokens` tokens in milliseconds; a new answer is started if one ends earlier. */
  async gaps(kind: AnswerKind, tokens: number): Promise<number[]> {
    const gaps: number[] = [];
    for (let seed = 1; gaps.length < tokens; seed++) {
      const session = this.language.session();
      session.restore(this.prompt);
      const pieces = session.generate({ ...this.optionsOf(kind), seed, maxTokens: MOST_TOKENS });
      // The first token needs no run: its logits are the prompt's.
      await pieces.next();
      for (let before = performance.now(); gaps.length < tokens; ) {
        const { done, value } = await pieces.next();
        const now = performance.now();
        if (done) break;
        if (value.id === undefined) continue;
        gaps.push(now - before);
        before = now;
      }
      await pieces.return('length');
      session.dispose();
    }
    return gaps;
  }

  dispose(): void {
    this.prompt.dispose();
  }

  private optionsOf(kind: AnswerKind): GenerateOptions {
    if (kind === 'temperature 0') return { temperature: 0 };
    if (kind === '5 log probabilities') return { logprobs: 5 };
    if (kind === 'penalties') return { repetitionPenalty: 1.1, presencePenalty: 0.5, frequencyPenalty: 0.5 };
    if (kind === 'plain') return {};
    const { tokenizer, model } = this.language;
    this.tree ??= new TokenTree(tokenizer.byteVocabulary ?? Vocabulary.of(tokenizer));
    return { steering: [new Constraint(this.grammar, this.tree, [...model.eosTokenIds])] };
  }
}
