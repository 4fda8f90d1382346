/** A model that is loaded in this process, as what answers questions to an archive. */
import { ChatSession, type LanguageModel, WarmStates } from '../generate/index.js';
import { contextLength, modelFolder } from '../models/index.js';
import { type ChatMessage, ChatTemplate, endOfTurnIds } from '../text/index.js';
import { ARCHIVE_OWNER, type Archive } from './archive.js';
import type { AnswerRequest, ArchiveModel } from './model.js';
import { modelKey } from './model-reading.js';

/** Tokens that a model without a limit of its own is given at once, and any other at most: more takes long to read. */
const USUAL_CONTEXT = 8192;
const LARGEST_CONTEXT = 32_768;

/** A model in this process, as the archive uses one. */
export class LocalModel implements ArchiveModel {
  private readonly states: WarmStates;

  private constructor(
    readonly name: string,
    { library }: Pick<Archive, 'library'>,
    readonly model: LanguageModel,
    private readonly template: ChatTemplate | undefined,
    private readonly stopTokens: readonly number[],
  ) {
    this.states = new WarmStates(library);
  }

  static async of(
    name: string,
    archive: Pick<Archive, 'library'>,
    model: LanguageModel,
  ): Promise<LocalModel> {
    const folder = modelFolder(name);
    const template = await ChatTemplate.load(folder, {}, model.adapter);
    const stopTokens = template ? await endOfTurnIds(folder, model.tokenizer) : [];
    return new LocalModel(name, archive, model, template, stopTokens);
  }

  get instructs(): boolean {
    return this.template !== undefined;
  }

  get key(): string {
    return modelKey(this.model);
  }

  get context(): number {
    return Math.min(this.model.model.maxPositionEmbeddings ?? USUAL_CONTEXT, LARGEST_CONTEXT);
  }

  get positions(): number | undefined {
    return contextLength(this.model.model);
  }

  async count(prompts: readonly (string | readonly ChatMessage[])[]): Promise<number[]> {
    const texts = await Promise.all(
      prompts.map((prompt) =>
        typeof prompt === 'string' ? prompt : this.template!.render(prompt, { addGenerationPrompt: true }),
      ),
    );
    return texts.map((text) => this.model.tokenizer.encode(text).length);
  }

  embed(text: string): Promise<Float32Array> {
    return this.model.embed(text);
  }

  /** Frees the states that were asked last, which are kept in memory. */
  forget(): Promise<void> {
    return this.states.clear();
  }

  async *answer({ messages, state, maxTokens, signal }: AnswerRequest): AsyncGenerator<string, void> {
    const after =
      state === undefined ? undefined : (await this.states.load(ARCHIVE_OWNER, state, this.model)).snapshot;
    const { stopTokens } = this;
    const chat = new ChatSession(this.model, this.template, {
      once: true,
      stopTokens,
      ...(after && { after }),
    });
    try {
      const text = messages.map(({ content }) => String(content)).join('\n\n');
      for await (const piece of chat.say(text, { maxTokens, temperature: 0, ...(signal && { signal }) })) {
        for (const part of piece.parts) if (part.kind === 'content') yield part.text;
      }
    } finally {
      chat.dispose();
      after?.dispose();
    }
  }
}
