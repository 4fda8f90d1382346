/** A served model: reads prompts with its prefix cache, in the order of its prefill queue. */
import { join } from 'node:path';
import { modelKey } from '../../archive/index.js';
import {
  ConversationFormat,
  type LanguageModel,
  LineFormat,
  type LoadOptions,
  loadModel,
  logprobsOf,
  type PromptResult,
  readPrompt,
  SAMPLING_DEFAULTS,
  type SamplingOptions,
  type Session,
  type Snapshot,
} from '../../generate/index.js';
import {
  contextLength,
  expectNoSource,
  type SourceConfig,
  servedContext,
  sourceConfigOf,
} from '../../models/index.js';
import { fittedImageApart } from '../../signals/index.js';
import { ChatTemplate, endOfTurnIds, readGenerationConfig } from '../../text/index.js';
import { countCharacters } from './held-tokens.js';
import { chosenLogprob, describer } from './logprobs.js';
import { PrefillQueue } from './prefill-queue.js';
import { type PreparedPrompt, Prompts } from './prompts.js';
import type { EchoedToken, ServedModelInfo } from './protocol.js';
import { SharedPrefixes } from './shared-prefixes.js';
import { StateCache } from './state-cache.js';

/** A session that has read a prompt, and the costs of reading it. */
export interface ReadPrompt extends PromptResult {
  readonly session: Session;
}

/** How a model is loaded and served. */
export interface ServedModelOptions {
  readonly id: string;
  readonly load: LoadOptions;
  /** The limit of the prefix cache in memory, in bytes. */
  readonly cacheBytes: number;
  /** The folder of the prefix cache on disk, if there is one. */
  readonly cacheFolder: string | undefined;
  /** The context length in tokens; by default what suits the model. */
  readonly context: number | undefined;
}

/** Tokens per call if the logits of all of them are needed, [tokens, vocabulary]. */
const ECHO_CHUNK = 32;

/** A loaded model with everything that its requests share: the prefix cache, the tokenization of prompts, and the prefill queue. */
export class ServedModel {
  private readonly prefill: PrefillQueue;
  private readonly prefixes = new SharedPrefixes();
  private constructor(
    readonly info: ServedModelInfo,
    readonly language: LanguageModel,
    readonly prompts: Prompts,
    /** Tokens that end an answer. */
    readonly ends: readonly number[],
    /** The sampling defaults of the checkpoint's generation_config.json, otherwise our own. */
    readonly sampling: SamplingOptions,
    readonly states: StateCache,
  ) {
    this.prefill = new PrefillQueue(language.chunk);
  }

  /** Loads the model in a folder. Throws as `loadModel` does. */
  static async open(folder: string, options: ServedModelOptions): Promise<ServedModel> {
    const { id, load, cacheBytes, cacheFolder } = options;
    const language = await loadModel(folder, load);
    try {
      if (language.model.source?.modality.kind !== 'images') expectNoSource(language.model, 'a server');
    } catch (error) {
      await language.dispose();
      throw error;
    }
    const template = await ChatTemplate.load(folder, {}, language.adapter);
    const { model, tokenizer } = language;
    const sampling = { ...SAMPLING_DEFAULTS, ...(await readGenerationConfig(folder)) };
    const format = template
      ? await ConversationFormat.learn(template, tokenizer)
      : new LineFormat(tokenizer, id, model.source !== undefined);
    const info: ServedModelInfo = {
      id,
      created: Math.floor(Date.now() / 1000),
      fingerprint: `fp_${language.fingerprint.hash.slice(0, 12)}`,
      archiveKey: modelKey(language),
      pattern: model.pattern,
      parameters: language.parameters,
      hiddenSize: model.hiddenSize,
      vocabulary: model.vocabSize,
      context: options.context ?? servedContext(model),
      positions: contextLength(model),
      chat: template !== undefined,
      images: model.source !== undefined,
      tools: format.form.calls !== undefined,
      form: format.form,
    };
    const keptIn = cacheFolder === undefined ? undefined : join(cacheFolder, id);
    const states = new StateCache(language, cacheBytes, keptIn);
    const ends = await endOfTurnIds(folder, tokenizer);
    const prompts = new Prompts(language, id, info.context, format, template);
    return new ServedModel(info, language, prompts, ends, sampling, states);
  }

  /**
   * Reads a prompt into a new session, from its longest known prefix: `beginning`, or one in the cache. Throws the signal's reason soon after
   * an abort.
   */
  async read(
    prompt: PreparedPrompt,
    beginning: Snapshot | undefined,
    signal: AbortSignal,
  ): Promise<ReadPrompt> {
    if (prompt.image) return this.readBehind(prompt.image, prompt.ids, signal);
    const session = this.language.session({ cache: this.states });
    try {
      const read = await readPrompt(session, prompt, this.states, {
        known: [beginning],
        stops: [this.prefixes.add(prompt.ids)],
        signal,
        turn: (tokens, work) => this.prefill.take(tokens, work, signal),
      });
      return { session, ...read };
    } catch (error) {
      session.dispose();
      throw error;
    }
  }

  /**
   * Reads a prompt after an image into a new session. Nothing is cached, since the tokens do not identify the image. The image is decoded only
   * now, so that a request in the queue takes no more memory than the image's file.
   */
  private async readBehind(
    bytes: Uint8Array,
    ids: readonly number[],
    signal: AbortSignal,
  ): Promise<ReadPrompt> {
    const shape = sourceConfigOf(this.language.model) as Extract<SourceConfig, { kind: 'images' }>;
    const image = await fittedImageApart({ bytes, name: 'the image', shape }, signal);
    const session = this.language.session();
    try {
      const { positions } = this.language.model.source!;
      await this.prefill.take(positions, () => session.readSource(image), signal);
      const rest = ids.slice(session.tokens.length);
      if (rest.length > 0) {
        const turn = <T>(tokens: number, work: () => Promise<T>) => this.prefill.take(tokens, work, signal);
        await session.read(rest, { signal, turn });
      }
      return { session, reusedTokens: 0, readTokens: ids.length, mark: undefined };
    } catch (error) {
      session.dispose();
      throw error;
    }
  }

  /**
   * Reads a prompt into a new session, with the log probabilities of its tokens after `beginning` and, for each, those of the most likely
   * tokens. The cache is not used, since it has no log probabilities.
   */
  async readEchoed(
    { ids }: PreparedPrompt,
    beginning: Snapshot | undefined,
    top: number,
    signal: AbortSignal,
  ): Promise<{ read: ReadPrompt; tokens: EchoedToken[] }> {
    const { language } = this;
    const describe = describer(language);
    const session = language.session({ cache: this.states });
    const tokens: EchoedToken[] = [];
    const text = language.tokenizer.stream();
    let offset = 0;
    const add = (id: number, logprob: EchoedToken['logprob']): void => {
      tokens.push({ token: describe(id).token, logprob, offset });
      offset += countCharacters(text.push(id));
    };
    try {
      if (beginning) session.restore(beginning);
      const first = beginning?.length ?? 0;
      const { vocabSize } = language.model;
      for (let start = first; start < ids.length; start += ECHO_CHUNK) {
        const chunk = ids.slice(start, start + ECHO_CHUNK);
        const logits = await this.prefill.take(chunk.length, () => session.readEach(chunk), signal);
        if (start === first) add(chunk[0]!, undefined);
        for (let i = 0; i < chunk.length && start + i + 1 < ids.length; i++) {
          const id = ids[start + i + 1]!;
          const after = logits.subarray(i * vocabSize, (i + 1) * vocabSize);
          add(id, chosenLogprob(id, logprobsOf(after, id, top), describe));
        }
      }
      const readTokens = ids.length - first;
      return { read: { session, reusedTokens: first, readTokens, mark: undefined }, tokens };
    } catch (error) {
      session.dispose();
      throw error;
    }
  }

  /** The embedding of tokens, computed through the prefill queue. Throws the signal's reason soon after an abort. */
  async embed(ids: readonly number[], signal: AbortSignal): Promise<Float32Array> {
    const text = (await this.language.embedder()).begin();
    try {
      for (let start = 0; start < ids.length; start += this.language.chunk) {
        const chunk = ids.slice(start, start + this.language.chunk);
        await this.prefill.take(chunk.length, () => text.read(chunk), signal);
      }
      return text.vector();
    } finally {
      text.dispose();
    }
  }

  async close(): Promise<void> {
    await this.states.close();
    await this.language.dispose();
  }
}
