/** Adapts a served model to the archive's interface. */
import { type AnswerRequest, ARCHIVE_OWNER, type ArchiveModel } from '../../archive/index.js';
import { AnswerReader, type ChatMessage } from '../../text/index.js';
import type { Caller } from '../engine/calls.js';
import type { EngineCalls, ServedModelInfo } from '../engine/protocol.js';

/** A served model that answers an archive's questions. */
export class ServedArchiveModel implements ArchiveModel {
  constructor(
    private readonly engine: Caller<EngineCalls>,
    private readonly info: ServedModelInfo,
  ) {}

  get name(): string {
    return this.info.id;
  }

  get key(): string {
    return this.info.archiveKey;
  }

  get instructs(): boolean {
    return this.info.chat;
  }

  get context(): number {
    return this.info.context;
  }

  get positions(): number | undefined {
    return this.info.positions;
  }

  async count(prompts: readonly (string | readonly ChatMessage[])[]): Promise<readonly number[]> {
    return this.engine.call('count', {
      model: this.info.id,
      prompts: prompts.map((prompt) =>
        typeof prompt === 'string' ? { kind: 'text', text: prompt } : { kind: 'messages', messages: prompt },
      ),
    });
  }

  async embed(text: string): Promise<Float32Array> {
    const { vectors } = await this.engine.call('embed', {
      model: this.info.id,
      inputs: [{ kind: 'text', text }],
    });
    return vectors[0]!;
  }

  async *answer({ messages, state, maxTokens, signal }: AnswerRequest): AsyncGenerator<string, void> {
    const events = this.engine.stream(
      'generate',
      {
        model: this.info.id,
        owner: ARCHIVE_OWNER,
        prompt: { kind: 'messages', messages },
        ...(state !== undefined && { state, archived: true }),
        n: 1,
        maxTokens,
        temperature: 0,
        seed: 0,
        stop: [],
      },
      signal,
    );
    let reader: AnswerReader | undefined;
    for await (const event of events) {
      if (event.kind === 'start') {
        reader = new AnswerReader({ form: this.info.form, thinking: event.thinking });
      }
      if (event.kind !== 'piece' && event.kind !== 'end') continue;
      for (const part of event.kind === 'piece' ? reader!.push(event.text) : reader!.end()) {
        if (part.kind === 'content') yield part.text;
      }
    }
  }
}
