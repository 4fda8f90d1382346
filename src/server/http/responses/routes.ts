/** `/v1/responses`: OpenAI's newer API, in which an answer is a list of items. */
import { randomBytes } from 'node:crypto';
import { headingOf, Tally } from '../answers.js';
import { ApiError, invalidValue } from '../api-error.js';
import { bodyOf } from '../body.js';
import { type App, type Deps, modelNamed, type RequestContext } from '../context.js';
import { exactBodyOf } from '../exact-body.js';
import { beginChat } from '../generation-routes.js';
import type { Choice } from '../messages.js';
import { chatRequest } from '../requests.js';
import type { ChatRequest } from '../schemas.js';
import { streamed } from '../sse.js';
import { itemId, ResponseWriter, responseOfItem } from './events.js';
import { InputItem, type Item, messagesOf } from './items.js';
import { type KeptResponse, KeptResponses } from './kept.js';
import { type ModelResponse, ResponsesRequest } from './schemas.js';

const LOGPROBS = 'message.output_text.logprobs';

/** Adds the routes below `/v1/responses`. */
export function addResponsesRoutes(app: App, deps: Deps): void {
  const kept = new KeptResponses();
  const find = (context: RequestContext, id: string, param: string): KeptResponse => {
    const found = kept.get(context.get('owner'), id);
    if (found) return found;
    throw new ApiError(
      param === 'id' ? 404 : 400,
      param === 'id' ? 'response_not_found' : 'previous_response_not_found',
      `there is no response ${id} any more: they are kept in memory until others take their room; send what was said as 'input'`,
      { param },
    );
  };

  app.post('/v1/responses', async (context) => {
    const body = await bodyOf(context, ResponsesRequest);
    const info = modelNamed(deps, body.model);
    const owner = context.get('owner');
    const { previous_response_id: previous } = body;
    const before = previous === undefined ? [] : find(context, previous, 'previous_response_id').items;
    const input = whole(body.input, (id, at) => {
      const response = responseOfItem(id);
      const item = response && kept.get(owner, response)?.items.find((one) => one.id === id);
      if (item) return item;
      throw new ApiError(
        400,
        'item_not_found',
        `there is no item ${id} any more: items are kept in memory until others take their room, and not with 'store': false; send it as it was`,
        { param: `input.${at}` },
      );
    });
    const items = [...before, ...input];
    const asked = [
      ...before.map((item) => placed(item, () => 'previous_response_id')),
      ...input.map((item, at) => placed(item, (part) => placeOf(body.input, at, part))),
    ];
    if (items.length === 0) {
      throw invalidValue('input', "there is nothing to answer: give some 'input'");
    }
    const request = chatRequest(chatOf(body, asked), info, owner, await exactBodyOf(context, body));
    const tally = new Tally();
    const heading = headingOf(info, 'chatcmpl');
    const { chunks, signal } = await beginChat(context, deps, { info, request, heading, tally, ...body });
    const writer = new ResponseWriter(begun(body, info.id), {
      summary: Boolean(body.reasoning?.summary),
      usage: () => ({ usage: usageOf(tally), heddle: tally.heddle }),
      ended: () => {
        if (body.store === false) return;
        const { response } = writer;
        const output = response.output.map((item) => InputItem.parse(item) as Item);
        kept.put(owner, { response, input, items: [...items, ...output] });
      },
    });
    const all = writer.events(chunks);
    if (body.stream) return streamed(context, all, signal, writer.form);
    for await (const _ of all);
    return context.json(writer.response);
  });

  app.get('/v1/responses/:id', (context) =>
    context.json(find(context, context.req.param('id'), 'id').response),
  );

  app.get('/v1/responses/:id/input_items', (context) => {
    const { response, input } = find(context, context.req.param('id'), 'id');
    const data = input.map((item, i) => listed(item, response.id, i));
    if (context.req.query('order') !== 'asc') data.reverse();
    const [first, last] = [data[0]?.id ?? null, data.at(-1)?.id ?? null];
    return context.json({ object: 'list', data, first_id: first, last_id: last, has_more: false });
  });

  app.delete('/v1/responses/:id', (context) => {
    const id = context.req.param('id');
    find(context, id, 'id');
    kept.delete(context.get('owner'), id);
    return context.json({ id, object: 'response', deleted: true });
  });
}

/** The items of an input, with references replaced by the items themselves. */
function whole(input: ResponsesRequest['input'], named: (id: string, at: number) => Item): Item[] {
  if (typeof input === 'string') {
    return [{ type: 'message', role: 'user', content: input, id: undefined }];
  }
  return (input ?? []).map((item, at) => (item.type === 'item_reference' ? named(item.id, at) : item));
}

/** The path of a part of input item `at`, for errors; a reference has no parts. */
function placeOf(input: ResponsesRequest['input'], at: number, part: number): string {
  const isReference = Array.isArray(input) && input[at]!.type === 'item_reference';
  return isReference ? `input.${at}` : `input.${at}.content.${part}`;
}

/** An item whose images have their paths in this request: a stored item may have had another position in an earlier one. */
function placed(item: Item, paramOf: (part: number) => string): Item {
  if (item.type !== 'message' || !item.images) return item;
  return { ...item, images: item.images.map((image) => ({ ...image, param: paramOf(image.part) })) };
}

/** Converts the request to one for chat completions. */
function chatOf(body: ResponsesRequest, items: readonly Item[]): ChatRequest {
  const { input: _, text, include, top_logprobs: top, max_output_tokens, ...same } = body;
  const logprobs = include?.includes(LOGPROBS) || Boolean(top);
  return {
    ...same,
    messages: messagesOf(items, body.instructions),
    response_format: text?.format,
    format: undefined,
    max_tokens: undefined,
    max_completion_tokens: max_output_tokens,
    logprobs,
    top_logprobs: logprobs ? top : undefined,
    n: undefined,
    state: undefined,
    save_state: undefined,
    state_name: undefined,
    stream_options: undefined,
  };
}

/** A response without output. */
function begun(body: ResponsesRequest, model: string): ModelResponse {
  const { text, reasoning, tools = [], tool_choice: choice } = body;
  const format = text?.format;
  return {
    id: `resp_${randomBytes(12).toString('hex')}`,
    object: 'response',
    created_at: Math.floor(Date.now() / 1000),
    completed_at: null,
    status: 'in_progress',
    error: null,
    incomplete_details: null,
    model,
    output: [],
    usage: null,
    instructions: body.instructions ?? null,
    previous_response_id: body.previous_response_id ?? null,
    store: body.store !== false,
    background: false,
    max_output_tokens: body.max_output_tokens ?? null,
    temperature: body.temperature ?? null,
    top_p: body.top_p ?? null,
    top_logprobs: body.top_logprobs ?? 0,
    parallel_tool_calls: body.parallel_tool_calls !== false,
    tools: tools.map(({ function: { name, description = null, parameters = null } }) => ({
      type: 'function',
      name,
      description,
      parameters,
      strict: null,
    })),
    tool_choice: choice ? toldChoice(choice) : 'auto',
    text: {
      format: format?.schema
        ? { type: 'json_schema', name: 'answer', schema: format.schema }
        : { type: format?.type ?? 'text' },
    },
    reasoning: {
      effort: body.reasoning_effort ?? reasoning?.effort ?? null,
      summary: reasoning?.summary ?? null,
    },
    truncation: 'disabled',
    service_tier: 'default',
    metadata: body.metadata ?? {},
  };
}

function toldChoice({ mode, names }: Choice): ModelResponse['tool_choice'] {
  if (!names) return mode;
  const tools = names.map((name) => ({ type: 'function', name }));
  return mode === 'required' && tools.length === 1 ? tools[0]! : { type: 'allowed_tools', mode, tools };
}

function usageOf({ usage }: Tally): ModelResponse['usage'] {
  return {
    input_tokens: usage.prompt_tokens,
    input_tokens_details: usage.prompt_tokens_details,
    output_tokens: usage.completion_tokens,
    output_tokens_details: usage.completion_tokens_details,
    total_tokens: usage.total_tokens,
  };
}

/** An input item in the format of the list. */
function listed(item: Item, response: string, i: number): { type: string; id: string } {
  if (item.type !== 'message') {
    const kind = item.type === 'reasoning' ? 'reasoning' : 'function_call';
    return { ...item, id: item.id ?? itemId(response, kind, 0x8000 + i) };
  }
  const { role, content, id = itemId(response, 'message', 0x8000 + i) } = item;
  const type = role === 'assistant' ? 'output_text' : 'input_text';
  const images = (item.images ?? []).map(({ address }) => ({ type: 'input_image', image_url: address }));
  const parts = [...images, { type, text: content }];
  return { type: 'message', id, status: 'completed', role, content: parts } as { type: string; id: string };
}
