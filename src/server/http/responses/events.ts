/** Converts the chunks of a chat completion to the events of a response: items are opened, filled and closed one after the other. */
import type { ApiError } from '../api-error.js';
import type { ChatChunk } from '../schemas.js';
import type { EventForm } from '../sse.js';
import type { OutputItem, OutputText } from './items.js';
import type { ModelResponse, ResponseEvent } from './schemas.js';

type Message = Extract<OutputItem, { type: 'message' }>;
type Call = Extract<OutputItem, { type: 'function_call' }>;
type Reasoning = Extract<OutputItem, { type: 'reasoning' }>;

const PREFIXES = { message: 'msg', function_call: 'fc', reasoning: 'rs' } as const;

/** The id of an item: its kind, the id of its response, and its index. */
const ITEM_ID = /^(?:msg|fc|rs)_([0-9a-f]{24})[0-9a-f]{4}$/;

/** The id of an item's response; undefined if the id is not an item's. */
export function responseOfItem(id: string): string | undefined {
  const hex = ITEM_ID.exec(id)?.[1];
  return hex === undefined ? undefined : `resp_${hex}`;
}

/** The id of item number `index` of a response, which contains the response's id. */
export function itemId(response: string, kind: keyof typeof PREFIXES, index: number): string {
  return `${PREFIXES[kind]}_${response.slice('resp_'.length)}${index.toString(16).padStart(4, '0')}`;
}

/** Builds one response. `response` is its initial state, and is complete at the end of `events`. */
export class ResponseWriter {
  private sequence = 0;
  private item: OutputItem | undefined;
  /** The index of the present call. */
  private call = -1;
  private waiting: ResponseEvent[] = [];

  constructor(
    readonly response: ModelResponse,
    private readonly options: {
      /** Whether thoughts are also returned as a summary. */
      readonly summary: boolean;
      /** Returns the usage. */
      readonly usage: () => Pick<ModelResponse, 'usage' | 'heddle'>;
      /** Called at the end of the response. */
      readonly ended?: () => void;
    },
  ) {}

  async *events(chunks: AsyncGenerator<ChatChunk>): AsyncGenerator<ResponseEvent> {
    const { response } = this;
    this.emit('response.created', { response: { ...response } });
    this.emit('response.in_progress', { response: { ...response } });
    yield* this.take();
    let finish: string | null = null;
    for await (const { choices } of chunks) {
      for (const { delta, logprobs, finish_reason: reason } of choices) {
        if (delta.reasoning_content) this.think(delta.reasoning_content);
        // A chunk without text may have log probabilities.
        if (delta.content || (delta.content === '' && logprobs && this.item?.type === 'message')) {
          this.say(delta.content, logprobs?.content ?? []);
        }
        for (const { index, id = '', function: called } of delta.tool_calls ?? []) {
          if (index !== this.call) this.beginCall(index, id, called.name ?? '');
          this.argue(called.arguments);
        }
        finish = reason ?? finish;
      }
      yield* this.take();
    }
    // An empty answer is still one message.
    if (response.output.length === 0) this.say('', []);
    const cut = finish === 'length';
    this.end(cut ? 'incomplete' : 'completed');
    response.status = cut ? 'incomplete' : 'completed';
    response.incomplete_details = cut ? { reason: 'max_output_tokens' } : null;
    response.completed_at = Math.floor(Date.now() / 1000);
    Object.assign(response, this.options.usage());
    this.options.ended?.();
    this.emit(`response.${response.status}`, { response });
    yield* this.take();
  }

  /** The format of its events, including the one for an error. */
  get form(): EventForm<ResponseEvent> {
    const event = (value: ResponseEvent): string =>
      `event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`;
    return {
      event,
      failure: ({ code, message }: ApiError) => {
        const response = { ...this.response, status: 'failed', error: { code, message } };
        return event({ type: 'response.failed', sequence_number: this.sequence++, response });
      },
      end: '',
    };
  }

  private emit(type: string, fields: object): void {
    this.waiting.push({ type, sequence_number: this.sequence++, ...fields });
  }

  private take(): ResponseEvent[] {
    return this.waiting.splice(0);
  }

  /** The position of the present item. */
  private get place() {
    return { item_id: this.item!.id, output_index: this.response.output.length - 1 };
  }

  private begin<Item extends OutputItem>(item: Omit<Item, 'id' | 'status'>): Item {
    this.end('completed');
    const { response } = this;
    const type = item.type as keyof typeof PREFIXES;
    const begun = {
      id: itemId(response.id, type, response.output.length),
      status: 'in_progress',
      ...item,
    } as unknown as Item;
    this.item = begun;
    response.output.push(begun);
    const { output_index } = this.place;
    this.emit('response.output_item.added', { output_index, item: structuredClone(begun) });
    return begun;
  }

  private end(status: 'completed' | 'incomplete'): void {
    const { item } = this;
    if (!item) return;
    const { place } = this;
    if (item.type === 'message') {
      const [part] = item.content as [OutputText];
      const { text, logprobs } = part;
      this.emit('response.output_text.done', { ...place, content_index: 0, text, logprobs });
      this.emit('response.content_part.done', { ...place, content_index: 0, part });
    } else if (item.type === 'function_call') {
      const { name, arguments: args } = item;
      this.emit('response.function_call_arguments.done', { ...place, name, arguments: args });
    } else {
      const [part] = item.content as [Reasoning['content'][0]];
      this.emit('response.reasoning_text.done', { ...place, content_index: 0, text: part.text });
      this.emit('response.content_part.done', { ...place, content_index: 0, part });
      for (const [index, summary] of item.summary.entries()) {
        this.emit('response.reasoning_summary_text.done', {
          ...place,
          summary_index: index,
          text: summary.text,
        });
        this.emit('response.reasoning_summary_part.done', { ...place, summary_index: index, part: summary });
      }
    }
    item.status = status;
    this.emit('response.output_item.done', { output_index: place.output_index, item: structuredClone(item) });
    this.item = undefined;
    this.call = -1;
  }

  private say(delta: string, logprobs: OutputText['logprobs']): void {
    if (this.item?.type !== 'message') {
      const message = this.begin<Message>({ type: 'message', role: 'assistant', content: [] });
      const part: OutputText = { type: 'output_text', text: '', annotations: [], logprobs: [] };
      message.content.push(part);
      this.emit('response.content_part.added', { ...this.place, content_index: 0, part: { ...part } });
    }
    const [part] = (this.item as Message).content as [OutputText];
    part.text += delta;
    part.logprobs.push(...logprobs);
    if (delta === '' && logprobs.length === 0) return;
    this.emit('response.output_text.delta', { ...this.place, content_index: 0, delta, logprobs });
  }

  private think(delta: string): void {
    const { summary } = this.options;
    if (this.item?.type !== 'reasoning') {
      const item = this.begin<Reasoning>({ type: 'reasoning', summary: [], content: [] });
      item.content.push({ type: 'reasoning_text', text: '' });
      this.emit('response.content_part.added', {
        ...this.place,
        content_index: 0,
        part: { ...item.content[0] },
      });
      if (summary) {
        item.summary.push({ type: 'summary_text', text: '' });
        const part = { ...item.summary[0] };
        this.emit('response.reasoning_summary_part.added', { ...this.place, summary_index: 0, part });
      }
    }
    const item = this.item as Reasoning;
    item.content[0]!.text += delta;
    this.emit('response.reasoning_text.delta', { ...this.place, content_index: 0, delta });
    if (!summary) return;
    item.summary[0]!.text += delta;
    this.emit('response.reasoning_summary_text.delta', { ...this.place, summary_index: 0, delta });
  }

  private beginCall(index: number, callId: string, name: string): void {
    this.begin<Call>({ type: 'function_call', call_id: callId, name, arguments: '' });
    this.call = index;
  }

  private argue(delta: string): void {
    (this.item as Call).arguments += delta;
    if (delta !== '') this.emit('response.function_call_arguments.delta', { ...this.place, delta });
  }
}
