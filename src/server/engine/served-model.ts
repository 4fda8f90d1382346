/** One of the models that a server has: how what is said to it becomes tokens, and reading them from what was read before. */
import { join } from 'node:path';
import { DataError, TokenizerError } from '../../errors.js';
import { TokenTree } from '../../generate/grammar/index.js';
import {
  type LanguageModel,
  type LoadOptions,
  loadModel,
  logprobsOf,
  PREFILL_CHUNK,
  SAMPLING_DEFAULTS,
  type SamplingOptions,
  type Session,
  type Snapshot,
  sharedLength,
} from '../../generate/index.js';
import {
  answerMessage,
  type ChatMessage,
  ChatTemplate,
  callableTool,
  endOfTurnIds,
  generationPromptOf,
  guardControlTokens,
  historyMessages,
  learnAnswerForm,
  marksIn,
  NO_FORM,
  openThought,
  type Reading,
  readGenerationConfig,
  type ThoughtForm,
  Vocabulary,
} from '../../text/index.js';
import { ContextError } from '../errors.js';
import type { StateRecord } from '../states/record.js';
import { chosenLogprob, describer } from './logprobs.js';
import { PrefillQueue } from './prefill-queue.js';
import type { EchoedToken, Prompt, ServedModelInfo } from './protocol.js';
import { SharedPrefixes } from './shared-prefixes.js';
import { StateCache } from './state-cache.js';
import { countCharacters } from './told-tokens.js';

/** Where a prompt begins, if not at nothing. */
export interface Beginning {
  readonly record: StateRecord;
  readonly snapshot: Snapshot;
}

/** A prompt as it is read. */
export interface PreparedPrompt {
  readonly ids: readonly number[];
  /** Where a chat's answer begins, before whatever the template puts in front of answers: the state there is worth keeping. */
  readonly boundary: number;
  /** What a state after it has to know: tokens before the first message, and the messages. */
  readonly base: number;
  readonly messages: readonly ChatMessage[];
  /** What the template puts in front of an answer; absent where there is none. */
  readonly generationPrompt?: string;
  /** The thought that it opens. */
  readonly thinking?: ThoughtForm;
  /** Tools that were told of. */
  readonly tools?: readonly unknown[];
}

export interface ReadPrompt {
  readonly session: Session;
  readonly reusedTokens: number;
  readonly readTokens: number;
  /** The state at the prompt's boundary, where this reading passed it. */
  readonly mark: Snapshot | undefined;
}

export interface ServedModelOptions {
  readonly id: string;
  readonly load: LoadOptions;
  /** Memory for states of what was read before, in bytes. */
  readonly cacheBytes: number;
  /** Where they are kept on the disk, if they are. */
  readonly cacheFolder: string | undefined;
  /** Tokens that a prompt and its answer may have together; absent for what suits the model. */
  readonly context: number | undefined;
}

/** States are kept whenever so many tokens of a prompt were read. */
const SNAPSHOT_EVERY = 2 * PREFILL_CHUNK;

/** Tokens of which all logits are held at once. */
const ECHO_CHUNK = 32;

/** At which a text ends that goes on from what is said, as in `heddle chat`. */
export const END_OF_PARAGRAPH = '\n\n';

type MessagesPrompt = Extract<Prompt, { kind: 'messages' }>;

export class ServedModel {
  private readonly prefill = new PrefillQueue(PREFILL_CHUNK);
  private readonly prefixes = new SharedPrefixes();
  private treeMade: TokenTree | undefined;
  private constructor(
    readonly info: ServedModelInfo,
    readonly language: LanguageModel,
    readonly template: ChatTemplate | undefined,
    /** Tokens at which an answer ends. */
    readonly ends: readonly number[],
    /** How the checkpoint says to sample, else as everywhere. */
    readonly sampling: SamplingOptions,
    readonly states: StateCache,
  ) {}

  /** Loads the model in a folder. Throws as `loadModel` does. */
  static async open(folder: string, options: ServedModelOptions): Promise<ServedModel> {
    const { id, load, cacheBytes, cacheFolder } = options;
    const language = await loadModel(folder, load);
    const template = await ChatTemplate.load(folder);
    const { model, tokenizer } = language;
    const sampling = { ...SAMPLING_DEFAULTS, ...(await readGenerationConfig(folder)) };
    const form =
      template && (await learnAnswerForm(template, (name) => tokenizer.tokenToId(name) !== undefined));
    const info: ServedModelInfo = {
      id,
      created: Math.floor(Date.now() / 1000),
      fingerprint: `fp_${language.fingerprint.hash.slice(0, 12)}`,
      pattern: model.pattern,
      parameters: language.parameters,
      vocabulary: model.vocabSize,
      context: options.context ?? contextOf(model),
      chat: template !== undefined,
      tools: form?.calls !== undefined,
      form: form ?? NO_FORM,
    };
    const keptIn = cacheFolder === undefined ? undefined : join(cacheFolder, id);
    const states = new StateCache(language, cacheBytes, keptIn);
    const ends = await endOfTurnIds(folder, tokenizer);
    return new ServedModel(info, language, template, ends, sampling, states);
  }

  /** The bytes of each token. Throws `TokenizerError` for a tokenizer that does not tell. */
  get vocabulary(): Vocabulary {
    const { tokenizer } = this.language;
    return tokenizer.vocabularyIfTold ?? Vocabulary.of(tokenizer);
  }

  /** The tokens that texts consist of. Throws as `vocabulary` does. */
  get tokenTree(): TokenTree {
    const marks = marksIn(this.info.form).map((mark) => this.language.tokenizer.tokenToId(mark));
    this.treeMade ??= new TokenTree(this.vocabulary, new Set(marks.filter((id) => id !== undefined)));
    return this.treeMade;
  }

  /**
   * The tokens of a prompt, behind a beginning. Throws `DataError` or `TokenizerError` for what the template does not take, or
   * where there is none; `ContextError` for more than the context holds.
   */
  async prepare(
    prompt: Prompt,
    beginning: Beginning | undefined,
    { answers, signal }: { answers: boolean; signal?: AbortSignal },
  ): Promise<PreparedPrompt> {
    const prepared = await this.prepareAny(prompt, beginning, answers, signal);
    const { context } = this.info;
    if (prepared.ids.length > context) {
      throw new ContextError(
        `the prompt has ${prepared.ids.length} tokens, and the context of ${this.info.id} holds ${context}: shorten it`,
      );
    }
    if (prepared.ids.length === 0) throw new DataError('the prompt has no tokens: give some text to read');
    this.language.check(prepared.ids);
    return prepared;
  }

  private async prepareAny(
    prompt: Prompt,
    beginning: Beginning | undefined,
    answers: boolean,
    signal: AbortSignal | undefined,
  ): Promise<PreparedPrompt> {
    if (prompt.kind !== 'messages') {
      const encode = async (text: string): Promise<number[]> => {
        const ids = await this.encoded([text], signal);
        return beginning ? ids : this.language.tokenizer.fromStart(ids);
      };
      const more = prompt.kind === 'text' ? await encode(prompt.text) : prompt.ids;
      const ids = [...(beginning?.snapshot.tokens ?? []), ...more];
      return { ids, boundary: ids.length, base: ids.length, messages: [] };
    }
    const base = beginning?.record.base ?? 0;
    const before = beginning?.snapshot.tokens.slice(0, base) ?? [];
    const messages = [...(beginning?.record.messages ?? []), ...prompt.messages];
    if (answers) return this.rendered(before, messages, prompt, answers, signal);
    try {
      return await this.rendered(before, messages, prompt, answers, signal);
    } catch (error) {
      if (!(error instanceof TokenizerError)) throw error;
      return this.instructed(before, messages, prompt, error, signal);
    }
  }

  /**
   * What conversations that begin with these messages have in common, where the template refuses the messages alone: many want a
   * user's among them. Throws `refusal` where they are refused with one, too.
   */
  private async instructed(
    before: readonly number[],
    messages: readonly ChatMessage[],
    prompt: MessagesPrompt,
    refusal: TokenizerError,
    signal: AbortSignal | undefined,
  ): Promise<PreparedPrompt> {
    const asked = (content: string): Promise<PreparedPrompt> =>
      this.rendered(before, [...messages, { role: 'user', content }], prompt, false, signal);
    const [one, other] = await Promise.all(['one', '2'].map(asked)).catch(() => {
      throw refusal;
    });
    const shared = sharedLength(one!.ids, other!.ids);
    if (shared <= before.length) throw refusal;
    return { ids: one!.ids.slice(0, shared), boundary: shared, base: before.length, messages };
  }

  /** The tokens of pieces of text. Throws `ContextError` where they are more than the context holds for certain. */
  private async encoded(pieces: readonly string[], signal: AbortSignal | undefined): Promise<number[]> {
    const { tokenizer } = this.language;
    const { id, context } = this.info;
    const least = pieces.reduce((sum, piece) => sum + tokenizer.leastTokens(piece), 0);
    if (least > context) {
      throw new ContextError(
        `the prompt has at least ${least} tokens, and the context of ${id} holds ${context}: shorten it`,
      );
    }
    const ids: number[][] = [];
    for (const piece of pieces) ids.push(await tokenizer.encodeApart(piece, signal));
    return ids.length === 1 ? ids[0]! : ids.flat();
  }

  /** A prompt and its answer, as a later turn will read them. */
  async answered(prompt: PreparedPrompt, answer: string): Promise<PreparedPrompt> {
    const { ids, base, messages } = prompt;
    if (messages.length === 0) {
      const all = [...ids, ...this.language.tokenizer.encode(answer)];
      return { ids: all, boundary: all.length, base: all.length, messages };
    }
    return this.rendered(
      ids.slice(0, base),
      [...messages, answerMessage(answer, this.reading(prompt))],
      {},
      false,
    );
  }

  /** How an answer to a prompt is to be read. */
  private reading({ thinking, tools }: PreparedPrompt): Reading {
    const callable = tools?.flatMap((tool) => callableTool(tool) ?? []);
    return { form: this.info.form, thinking, ...(callable && { tools: callable }) };
  }

  private async rendered(
    before: readonly number[],
    messages: readonly ChatMessage[],
    { tools, exactTools = tools, variables }: Pick<MessagesPrompt, 'tools' | 'exactTools' | 'variables'>,
    answers: boolean,
    signal?: AbortSignal,
  ): Promise<PreparedPrompt> {
    const base = before.length;
    if (!this.template) {
      const ids = [...before, ...(await this.continued(messages, base > 0, signal))];
      return { ids, boundary: ids.length, base, messages };
    }
    const history = historyMessages(messages, this.info.form);
    const guarded = guardControlTokens(this.language.tokenizer, { messages: history, tools: exactTools });
    const written = (addGenerationPrompt: boolean): Promise<string> =>
      this.template!.render(guarded.messages, {
        addGenerationPrompt,
        ...(guarded.tools && { tools: guarded.tools }),
        ...(variables && { variables }),
      });
    const encoded = async (text: string): Promise<number[]> => [
      ...before,
      ...(await this.encoded(guarded.piecesOf(text), signal)),
    ];
    const text = await written(false);
    const said = await encoded(text);
    if (!answers) return { ids: said, boundary: said.length, base, messages };
    const prompt = await written(true);
    const ids = await encoded(prompt);
    const generationPrompt = generationPromptOf(text, prompt);
    const thinking = openThought(generationPrompt, this.info.form);
    return {
      ids,
      boundary: sharedLength(said, ids),
      base,
      messages,
      generationPrompt,
      ...(thinking && { thinking }),
      ...(tools && { tools }),
    };
  }

  /** What a prompt says, as far as it is no conversation. */
  textOf(prompt: Prompt): string {
    if (prompt.kind === 'text') return prompt.text;
    return prompt.kind === 'tokens' ? this.language.tokenizer.decode(prompt.ids) : '';
  }

  /** What a model without a template goes on from: each line as it is, as in `heddle chat`. */
  private async continued(
    messages: readonly ChatMessage[],
    after: boolean,
    signal: AbortSignal | undefined,
  ): Promise<number[]> {
    const ids: number[][] = [];
    for (const [i, { role, content }] of messages.entries()) {
      if (role !== 'user' && role !== 'assistant') {
        throw new DataError(
          `${this.info.id} has no chat template, so it knows no messages of the role ${role}: it goes on from what is said; write that as the first user message`,
        );
      }
      const isFirst = i === 0 && !after;
      const text = `${role === 'user' && !isFirst ? '\n' : ''}${String(content)}`;
      const own = await this.encoded([text], signal);
      ids.push(isFirst ? this.language.tokenizer.fromStart(own) : own);
    }
    return ids.flat();
  }

  /**
   * A session that has read a prompt: it takes up the longest beginning that is known, of `beginning`, or any that was read
   * before. Throws the signal's reason soon after it is aborted.
   */
  async read(
    { ids, boundary }: PreparedPrompt,
    beginning: Snapshot | undefined,
    signal: AbortSignal,
  ): Promise<ReadPrompt> {
    const cached = await this.states.find(ids);
    const own = beginning?.begins(ids) ? beginning : undefined;
    const known = [cached, own].reduce((a, b) => ((b?.length ?? 0) > (a?.length ?? 0) ? b : a));
    const shared = Math.min(this.prefixes.add(ids), ids.length);
    const stops = [boundary, shared, ids.length];
    const session = this.language.session();
    let mark: Snapshot | undefined;
    const passed = (snapshot: Snapshot): void => {
      if (snapshot.length !== boundary) return;
      mark?.dispose();
      mark = snapshot.copy();
    };
    try {
      if (known) {
        session.restore(known);
        passed(known);
      }
      cached?.dispose();
      let readTokens = 0;
      const read = async (): Promise<void> => {
        const at = session.tokens.length;
        // Whoever read the same meanwhile has left its state.
        const left = at < shared ? await this.states.held(ids.slice(0, shared)) : undefined;
        if (left && left.length > at) {
          session.restore(left);
          passed(left);
          left.dispose();
          return;
        }
        left?.dispose();
        // At the same places whatever was known, as far as may be.
        const next = (Math.floor(at / PREFILL_CHUNK) + 1) * PREFILL_CHUNK;
        const end = Math.min(next, ...stops.filter((stop) => stop > at));
        await session.read(ids.slice(at, end));
        readTokens += end - at;
        if (end % SNAPSHOT_EVERY !== 0 && !stops.includes(end)) return;
        const snapshot = await session.snapshot();
        passed(snapshot);
        await this.states.keep(snapshot);
      };
      while (session.tokens.length < ids.length) {
        const slice = Math.min(PREFILL_CHUNK, ids.length - session.tokens.length);
        await this.prefill.take(slice, read, signal);
      }
      return { session, reusedTokens: ids.length - readTokens, readTokens, mark };
    } catch (error) {
      session.dispose();
      mark?.dispose();
      throw error;
    }
  }

  /**
   * A session that has read a prompt, and the log probabilities of its tokens that come after `beginning`, each with so many of the
   * likeliest. Nothing that was read before is of use.
   */
  async readEchoed(
    { ids }: PreparedPrompt,
    beginning: Snapshot | undefined,
    top: number,
    signal: AbortSignal,
  ): Promise<{ read: ReadPrompt; tokens: EchoedToken[] }> {
    const { language } = this;
    const describe = describer(language);
    const session = language.session();
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

  /** Tokens as a vector, in turns with whoever else reads. Throws the signal's reason soon after it is aborted. */
  async embed(ids: readonly number[], signal: AbortSignal): Promise<Float32Array> {
    const text = (await this.language.embedder()).begin();
    try {
      for (let start = 0; start < ids.length; start += PREFILL_CHUNK) {
        const chunk = ids.slice(start, start + PREFILL_CHUNK);
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

/** As long as the model was made for; where nothing in it grows with the text, or its config does not say, as below. */
function contextOf({ state, maxPositionEmbeddings }: LanguageModel['model']): number {
  const grows = state.some((spec) => spec.grows !== undefined);
  return grows ? (maxPositionEmbeddings ?? 32_768) : 131_072;
}
