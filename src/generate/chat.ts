/**
 * A conversation with a model, in the form that its chat template gives it.
 *
 * Each turn writes the whole conversation as text and as tokens, and the state always is that of exactly these tokens:
 * what a fresh session would have that reads them all. But only those are read that the state has not read yet. As a
 * rule the conversation so far is their beginning. It is not when the template writes an earlier answer otherwise than
 * the model did (without its thoughts, say), or when the tokens of an answer, put together, split differently. For that
 * a copy of the state is kept from where the answer began, before whatever the template puts in front of answers, since
 * that may go too: at most the last answer is read again.
 */
import { DataError } from '../errors.js';
import { type ChatMessage, type ChatRenderOptions, ChatTemplate, endOfTurnIds } from '../text/index.js';
import type { LanguageModel } from './language-model.js';
import type { GeneratedPiece, GenerateOptions, Session, StopReason } from './session.js';

/** What the template gets in every turn, and where an answer ends. */
export interface ChatOptions extends Omit<ChatRenderOptions, 'addGenerationPrompt'> {
  /** The first message, which tells the model how to answer. */
  system?: string;
  /** Tokens that end an answer, besides those that end a text for the model and for its tokenizer. */
  stopTokens?: readonly number[];
}

/** What an answer took. */
export interface ChatTurn {
  /** The answer. */
  readonly text: string;
  /** Tokens of the prompt that the state had read before. */
  readonly reusedTokens: number;
  /** Tokens of the prompt that were read for this turn. */
  readonly readTokens: number;
  readonly writtenTokens: number;
  /** 'interrupt' when the caller took no more of it. */
  readonly stoppedBy: StopReason | 'interrupt';
}

export class ChatSession {
  readonly #context: Omit<ChatRenderOptions, 'addGenerationPrompt'>;
  readonly #stopTokens: readonly number[];
  readonly #beginning: readonly ChatMessage[];
  #messages: readonly ChatMessage[];
  /** The state at the end of the conversation. */
  #state: Session;
  /** Its copy from where the last answer began. */
  #mark: Session | undefined;
  #turn: ChatTurn | undefined;
  #busy = false;

  constructor(
    private readonly model: LanguageModel,
    readonly template: ChatTemplate,
    { system, stopTokens = [], ...context }: ChatOptions = {},
  ) {
    this.#context = context;
    this.#stopTokens = stopTokens;
    this.#beginning = system === undefined ? [] : [{ role: 'system', content: system }];
    this.#messages = this.#beginning;
    this.#state = model.session();
  }

  /**
   * A conversation by the template and the end-of-turn tokens in the model's folder; undefined when it has no template.
   * Throws `TokenizerError`, with the file's path, for a file that is damaged.
   */
  static async open(
    model: LanguageModel,
    folder: string,
    options: ChatOptions = {},
  ): Promise<ChatSession | undefined> {
    const template = await ChatTemplate.load(folder);
    if (!template) return undefined;
    const ends = await endOfTurnIds(folder, model.tokenizer);
    return new ChatSession(model, template, {
      ...options,
      stopTokens: [...ends, ...(options.stopTokens ?? [])],
    });
  }

  /** The conversation so far. */
  get messages(): readonly ChatMessage[] {
    return this.#messages;
  }

  /** What the last answer took; undefined before there was one. */
  get turn(): ChatTurn | undefined {
    return this.#turn;
  }

  /** All tokens of the conversation that the state has read or written. */
  get tokens(): readonly number[] {
    return this.#state.tokens;
  }

  /** Bytes of the state at the end of the conversation; the copy that is kept takes no more than that. */
  get bytes(): number {
    return this.#state.bytes;
  }

  /**
   * Says something to the model and gives its answer as it is written; `turn` then tells what it took. Who stops
   * listening interrupts it: what was written until then remains as the answer. When it fails, the conversation is as
   * if nothing had been said. Throws `TokenizerError` when the template is broken or refuses the conversation,
   * `ConfigError` for an option outside its range, `DataError` while the last answer is being written.
   */
  async *say(text: string, options: GenerateOptions = {}): AsyncGenerator<GeneratedPiece, void> {
    if (this.#busy) throw new DataError('the last answer is being written: wait until it is done');
    this.#busy = true;
    try {
      const messages = [...this.#messages, { role: 'user', content: text }];
      const reusedTokens = await this.#read(messages);
      const readTokens = this.tokens.length - reusedTokens;
      const stopTokens = [...this.#stopTokens, ...(options.stopTokens ?? [])];
      const pieces = this.#state.generate({ ...options, stopTokens });
      let answer = '';
      let writtenTokens = 0;
      let stoppedBy: ChatTurn['stoppedBy'] | 'failure' = 'interrupt';
      try {
        let next = await pieces.next();
        for (; !next.done; next = await pieces.next()) {
          answer += next.value.text;
          if (next.value.id !== undefined) writtenTokens++;
          yield next.value;
        }
        stoppedBy = next.value;
      } catch (error) {
        stoppedBy = 'failure';
        throw error;
      } finally {
        // The caller may have left at the yield; then the state still reads what it was given last.
        await pieces.return('length');
        if (stoppedBy !== 'failure') {
          this.#messages = [...messages, { role: 'assistant', content: answer }];
          this.#turn = { text: answer, reusedTokens, readTokens, writtenTokens, stoppedBy };
        }
      }
    } finally {
      this.#busy = false;
    }
  }

  /** Begins anew, with the system message if there is one. Throws `DataError` while an answer is being written. */
  reset(): void {
    if (this.#busy) throw new DataError('the last answer is being written: wait until it is done');
    this.#messages = this.#beginning;
    this.#turn = undefined;
  }

  /** Frees the states. The template, which others may use, is left to whoever has it. */
  dispose(): void {
    this.#state.dispose();
    this.#mark?.dispose();
  }

  /** Brings the state to the end of a prompt; returns how many of its tokens it had read before. */
  async #read(messages: readonly ChatMessage[]): Promise<number> {
    const render = async (addGenerationPrompt: boolean): Promise<number[]> =>
      this.model.tokenizer.encode(
        await this.template.render(messages, { ...this.#context, addGenerationPrompt }),
      );
    const ids = await render(true);
    const beforeAnswer = sharedLength(ids, await render(false));
    this.#takeUp(ids);
    const reused = this.tokens.length;
    if (beforeAnswer > reused) await this.#state.read(ids.slice(reused, beforeAnswer));
    if (beforeAnswer > 0 && this.tokens.length === beforeAnswer) {
      const mark = await this.#state.copy();
      this.#mark?.dispose();
      this.#mark = mark;
    }
    if (this.tokens.length < ids.length) await this.#state.read(ids.slice(this.tokens.length));
    return reused;
  }

  /** Makes the state one whose tokens begin these, and the longest of those that are held. */
  #takeUp(ids: readonly number[]): void {
    const begins = ({ tokens }: Session): boolean => sharedLength(tokens, ids) === tokens.length;
    if (begins(this.#state)) return;
    this.#state.dispose();
    if (this.#mark && begins(this.#mark)) {
      this.#state = this.#mark;
    } else {
      this.#mark?.dispose();
      this.#state = this.model.session();
    }
    this.#mark = undefined;
  }
}

/** How many entries two lists have in common before they differ. */
function sharedLength(a: readonly number[], b: readonly number[]): number {
  const end = Math.min(a.length, b.length);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}
