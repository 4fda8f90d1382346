/**
 * The engine holds the models and answers the server's calls (protocol.ts). It runs in a thread of its own (worker.ts), since models
 * compute on the thread that calls them.
 */
import { quoted } from '../../command-line.js';
import { ConfigError } from '../../errors.js';
import { type LoadOptions, merged, type Session } from '../../generate/index.js';
import { StateLibrary } from '../../generate/states/library.js';
import { openStore } from '../../generate/states/open-store.js';
import { WarmStates } from '../../generate/states/warm.js';
import { encodeTrace } from '../../inspect/index.js';
import type { NamedModel } from '../../models/index.js';
import { UnknownModelError } from '../errors.js';
import { answerGrammar } from './answer-grammar.js';
import { answerLength, steeringOf, writeAnswer } from './answer-writing.js';
import type { Handlers } from './calls.js';
import type { Beginning, PreparedPrompt } from './prompts.js';
import type {
  CountRequest,
  EmbedRequest,
  EmbedResult,
  EngineCalls,
  EngineFigures,
  GenerateEvent,
  GenerateRequest,
  GenerateResult,
  SaveRequest,
  TraceCall,
} from './protocol.js';
import { type ReadPrompt, ServedModel } from './served-model.js';
import { Slots } from './slots.js';

/** The models that are served, and what they may take of the machine together. */
export interface EngineOptions {
  readonly models: readonly NamedModel[];
  readonly load: LoadOptions;
  /** Where states are saved: a folder, or the URL of a store. */
  readonly states: string;
  /** Where an archive's states are saved, if one is served. */
  readonly archiveStates?: string;
  /** Bytes of the prefix cache of each model. */
  readonly cacheBytes: number;
  readonly cacheFolder?: string;
  /** The limit of a prompt and its answer together, in tokens; by default what suits each model. */
  readonly context?: number;
  /** How many answers are generated at once, and how many requests may wait. */
  readonly answers: number;
  readonly waiting: number;
}

/** The models that are served, their saved states, and the queue of requests. */
export class Engine implements Handlers<EngineCalls> {
  private sequences = 0;

  private constructor(
    private readonly served: ReadonlyMap<string, ServedModel>,
    private readonly library: StateLibrary,
    /** The saved states of an archive's documents. */
    private readonly archived: WarmStates | undefined,
    private readonly slots: Slots,
  ) {}

  /** Loads the models. Throws as `loadModel` does, and `ConfigError` for two of one name. */
  static async open({
    models,
    load,
    states,
    archiveStates,
    cacheBytes,
    cacheFolder,
    context,
    answers,
    waiting,
  }: EngineOptions): Promise<Engine> {
    const served = new Map<string, ServedModel>();
    for (const { name: id, folder } of models) {
      if (served.has(id)) {
        throw new ConfigError(
          `two models are named ${id}: requests could not tell them apart. Name one as in ${quoted(`other=${folder}`)}`,
        );
      }
      served.set(id, await ServedModel.open(folder, { id, load, cacheBytes, cacheFolder, context }));
    }
    const archived =
      archiveStates === undefined ? undefined : new WarmStates(new StateLibrary(openStore(archiveStates)));
    return new Engine(served, new StateLibrary(openStore(states)), archived, new Slots(answers, waiting));
  }

  async models(): Promise<EngineCalls['models']['result']> {
    return [...this.served.values()].map(({ info }) => info);
  }

  async figures(): Promise<EngineFigures> {
    const caches = [...this.served.values()].map(({ states }) => states);
    return {
      sequences: this.sequences,
      running: this.slots.inUse,
      waiting: this.slots.waiting,
      cacheBytes: caches.reduce((sum, { bytes }) => sum + bytes, 0),
      cacheStates: caches.reduce((sum, { size }) => sum + size, 0),
    };
  }

  async save(request: SaveRequest, signal: AbortSignal): Promise<EngineCalls['save']['result']> {
    const served = this.named(request.model);
    const beginning = await this.beginning(request, served);
    try {
      const prompt = await served.prompts.prepare(request.prompt, beginning, { answers: false, signal });
      return await this.saveRead(request, served, prompt, beginning, signal);
    } finally {
      beginning?.snapshot.dispose();
    }
  }

  private async saveRead(
    { model, owner, name, state }: SaveRequest,
    served: ServedModel,
    prompt: PreparedPrompt,
    beginning: Beginning | undefined,
    signal: AbortSignal,
  ): Promise<EngineCalls['save']['result']> {
    const release = await this.slots.take(1, signal);
    this.sequences++;
    served.states.begin();
    try {
      const { session } = await served.read(prompt, beginning?.snapshot, signal);
      try {
        const { base, messages } = prompt;
        return await this.library.save(owner, await session.snapshot(), {
          model,
          name,
          parent: state ?? null,
          base,
          messages: [...messages],
        });
      } finally {
        session.dispose();
      }
    } finally {
      served.states.end();
      this.sequences--;
      release();
    }
  }

  async count({ model, prompts }: CountRequest, signal: AbortSignal): Promise<number[]> {
    const served = this.named(model);
    const counts: number[] = [];
    for (const prompt of prompts) {
      signal.throwIfAborted();
      counts.push(await served.prompts.count(prompt, signal));
    }
    return counts;
  }

  async embed({ model, inputs }: EmbedRequest, signal: AbortSignal): Promise<EmbedResult> {
    const served = this.named(model);
    const prompts: PreparedPrompt[] = [];
    for (const input of inputs) {
      signal.throwIfAborted();
      prompts.push(await served.prompts.prepare(input, undefined, { answers: false }));
    }
    const release = await this.slots.take(1, signal);
    served.states.begin();
    try {
      const vectors: Float32Array[] = [];
      for (const { ids } of prompts) vectors.push(await served.embed(ids, signal));
      return { vectors, tokens: prompts.reduce((total, { ids }) => total + ids.length, 0) };
    } finally {
      served.states.end();
      release();
    }
  }

  async trace({ model, prompt, options }: TraceCall, signal: AbortSignal): Promise<string> {
    const served = this.named(model);
    const { ids } = await served.prompts.prepare(prompt, undefined, { answers: false });
    const release = await this.slots.take(1, signal);
    try {
      return JSON.stringify(encodeTrace(await served.language.trace(ids, options)));
    } finally {
      release();
    }
  }

  async *generate(
    request: GenerateRequest,
    signal: AbortSignal,
  ): AsyncGenerator<GenerateEvent, GenerateResult> {
    const served = this.named(request.model);
    const beginning = await this.beginning(request, served);
    const { prompt, maxTokens, steering, place } = await this.prepared(
      request,
      served,
      beginning,
      signal,
    ).catch((error: unknown) => {
      beginning?.snapshot.dispose();
      throw error;
    });
    const sessions: Session[] = [];
    let read: ReadPrompt | undefined;
    let begun = false;
    try {
      yield { kind: 'prepared' };
      await place;
      begun = true;
      this.sequences += request.n;
      served.states.begin();
      yield { kind: 'admitted' };
      const echoed = request.echo && request.logprobs !== undefined;
      const reading = echoed
        ? await served.readEchoed(prompt, beginning?.snapshot, request.logprobs!, signal)
        : { read: await served.read(prompt, beginning?.snapshot, signal) };
      read = reading.read;
      const tokens = 'tokens' in reading ? reading.tokens : undefined;
      const { session, reusedTokens, readTokens } = read;
      sessions.push(session);
      while (sessions.length < request.n) sessions.push(await session.fork());
      const { thinking } = prompt;
      yield {
        kind: 'start',
        promptTokens: prompt.ids.length,
        reusedTokens,
        readTokens,
        ...(thinking && { thinking }),
      };
      if (request.echo) {
        const text = served.prompts.textOf(request.prompt);
        for (const choice of sessions.keys()) yield { kind: 'echo', choice, text, ...(tokens && { tokens }) };
      }
      const settings = { ...request, maxTokens, thinking };
      const answers = sessions.map((each, choice) =>
        writeAnswer(served, each, choice, settings, steering[choice]!),
      );
      let text = '';
      for await (const event of merged(answers, signal)) {
        if (event.kind === 'piece') text += event.text;
        yield event;
      }
      const stateBytes = sessions.reduce((sum, { bytes }) => sum + bytes, 0);
      if (!request.save) return { stateBytes };
      const state = await this.keep(request, served, prompt, read, text, signal);
      return { stateBytes, state };
    } finally {
      for (const each of sessions) each.dispose();
      read?.mark?.dispose();
      beginning?.snapshot.dispose();
      if (begun) {
        served.states.end();
        this.sequences -= request.n;
      }
      void place.then(
        (release) => release(),
        () => {},
      );
    }
  }

  async close(): Promise<null> {
    await this.archived?.close();
    for (const served of this.served.values()) await served.close();
    await this.library.close();
    return null;
  }

  private named(id: string): ServedModel {
    const served = this.served.get(id);
    if (served) return served;
    throw new UnknownModelError(
      `the model '${id}' is not served here: there are ${[...this.served.keys()].join(', ')}`,
    );
  }

  /** Checks everything that a request can be refused for before anything is read, and takes its place in the queue. */
  private async prepared(
    request: GenerateRequest,
    served: ServedModel,
    beginning: Beginning | undefined,
    signal: AbortSignal,
  ) {
    // A document's saved state is in memory anyway, so its tokens do not count towards the context limit.
    const uncounted = request.archived && beginning ? beginning.snapshot.length : 0;
    const prompt = await served.prompts.prepare(request.prompt, beginning, {
      answers: true,
      signal,
      uncounted,
    });
    const maxTokens = answerLength(request.maxTokens, prompt.ids.length - uncounted, served.info.context);
    // An invalid format is refused before anything is read.
    const grammar = answerGrammar(request, served.info.form, prompt);
    const steering = Array.from({ length: request.n }, () => steeringOf(served, grammar));
    const place = this.slots.take(request.n, signal);
    return { prompt, maxTokens, steering, place };
  }

  /** The saved state that a request continues from, if it names one. */
  private async beginning(
    { owner, state, archived = false }: Pick<GenerateRequest, 'owner' | 'state' | 'archived'>,
    { language }: ServedModel,
  ): Promise<Beginning | undefined> {
    if (state === undefined) return undefined;
    return (archived ? this.archived! : this.library).load(owner, state, language);
  }

  /** Saves the state after an answer, with the tokens that a later request with this conversation will have. */
  private async keep(
    { owner, model, save, state, calls }: GenerateRequest,
    served: ServedModel,
    prompt: PreparedPrompt,
    { session, mark }: ReadPrompt,
    answer: string,
    signal: AbortSignal,
  ): Promise<EngineCalls['save']['result']> {
    const { ids, base, messages } = await served.prompts.answered(prompt, answer, calls);
    const about = { model, name: save!.name, parent: state ?? null, base, messages: [...messages] };
    const here = await session.snapshot();
    try {
      if (here.begins(ids)) return await this.library.save(owner, here, about);
    } finally {
      here.dispose();
    }
    // The answer is tokenized differently as part of the conversation, so it is read again from the end of the prompt.
    const again = await served.read({ ids, boundary: ids.length, base, messages }, mark, signal);
    try {
      return await this.library.save(owner, await again.session.snapshot(), about);
    } finally {
      again.session.dispose();
      again.mark?.dispose();
    }
  }
}
