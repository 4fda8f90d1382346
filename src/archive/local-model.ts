/** A model that is loaded in this process, as what answers questions to an archive. */
import { ChatSession, type LanguageModel } from '../generate/index.js';
import { modelFolder } from '../models/index.js';
import { ChatTemplate } from '../text/index.js';
import { ARCHIVE_OWNER, type Archive } from './archive.js';
import type { AnswerRequest, ArchiveModel } from './model.js';
import { modelKey } from './model-reading.js';

/** Tokens that a model without a limit of its own is given at once. */
const USUAL_CONTEXT = 8192;

export class LocalModel implements ArchiveModel {
  private constructor(
    readonly name: string,
    private readonly folder: string,
    private readonly archive: Archive,
    readonly model: LanguageModel,
    readonly instructs: boolean,
  ) {}

  static async of(name: string, archive: Archive, model: LanguageModel): Promise<LocalModel> {
    const folder = modelFolder(name);
    return new LocalModel(name, folder, archive, model, (await ChatTemplate.load(folder)) !== undefined);
  }

  get key(): string {
    return modelKey(this.model);
  }

  get context(): number {
    const { json } = this.model.model;
    const limit = (json as { max_position_embeddings?: unknown }).max_position_embeddings;
    return typeof limit === 'number' ? Math.min(limit, 32_768) : USUAL_CONTEXT;
  }

  tokens(text: string): number {
    return this.model.tokenizer.encode(text).length;
  }

  embed(text: string): Promise<Float32Array> {
    return this.model.embed(text);
  }

  async *answer({ messages, state, maxTokens, signal }: AnswerRequest): AsyncGenerator<string, void> {
    const after =
      state === undefined
        ? undefined
        : (await this.archive.library.load(ARCHIVE_OWNER, state, this.model)).snapshot;
    const chat = await ChatSession.open(this.model, this.folder, after ? { after } : {});
    try {
      const text = messages.map(({ content }) => String(content)).join('\n\n');
      for await (const piece of chat!.say(text, { maxTokens, temperature: 0, ...(signal && { signal }) })) {
        for (const part of piece.parts) if (part.kind === 'content') yield part.text;
      }
    } finally {
      chat!.dispose();
      after?.dispose();
    }
  }
}
