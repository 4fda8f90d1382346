/** `/v1/states`: saved states. */
import { StateId } from '../../generate/states/record.js';
import { publicState } from './answers.js';
import { ApiError } from './api-error.js';
import { bodyOf } from './body.js';
import { type App, type Deps, modelNamed, type RequestContext, signalOf } from './context.js';
import { textMessages } from './requests.js';
import { ForkRequest, NewStateRequest, RenameRequest } from './schemas.js';

/** Adds the routes below `/v1/states`. */
export function addStateRoutes(app: App, deps: Deps): void {
  const { engine, library } = deps;

  app.get('/v1/states', async (context) => {
    const states = await library.list(context.get('owner'));
    return context.json({ object: 'list', data: states.map(publicState) });
  });

  app.post('/v1/states', async (context) => {
    const { messages, prompt, from, name = null, model } = await bodyOf(context, NewStateRequest);
    const owner = context.get('owner');
    if (from !== undefined && messages === undefined && prompt === undefined) {
      return context.json(publicState(await library.fork(owner, from, name)), 201);
    }
    const parent = from === undefined ? undefined : await library.record(owner, from);
    const info = modelNamed(deps, model ?? parent?.model);
    const signal = signalOf(context, deps);
    const state = await engine.call(
      'save',
      {
        model: info.id,
        owner,
        name,
        prompt: messages ? textMessages(messages) : { kind: 'text', text: prompt! },
        ...(from !== undefined && { state: from }),
      },
      signal,
    );
    return context.json(publicState(state), 201);
  });

  app.get('/v1/states/:id', async (context) => {
    const { base: _, ...state } = await library.record(context.get('owner'), idOf(context));
    return context.json(state);
  });

  app.post('/v1/states/:id/fork', async (context) => {
    const { name = null } = await bodyOf(context, ForkRequest);
    return context.json(publicState(await library.fork(context.get('owner'), idOf(context), name)), 201);
  });

  app.patch('/v1/states/:id', async (context) => {
    const { name } = await bodyOf(context, RenameRequest);
    return context.json(publicState(await library.rename(context.get('owner'), idOf(context), name)));
  });

  app.delete('/v1/states/:id', async (context) => {
    const id = idOf(context);
    await library.delete(context.get('owner'), id);
    return context.json({ id, object: 'state', deleted: true });
  });
}

function idOf(context: RequestContext): string {
  const result = StateId.safeParse(context.req.param('id'));
  if (result.success) return result.data;
  throw new ApiError(404, 'state_not_found', 'a state has an id such as state-0123456789abcdef01234567', {
    param: 'id',
  });
}
