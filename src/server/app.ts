/** All routes of the server. */
import { Hono } from 'hono';
import type { ServedModelInfo } from './engine/protocol.js';
import {
  type App,
  admitted,
  authenticated,
  bodyLimited,
  type Deps,
  modelNamed,
  observed,
  type Variables,
} from './http/context.js';
import { addEmbeddingsRoute } from './http/embeddings.js';
import { addGenerationRoutes } from './http/generation-routes.js';
import { healthOf } from './http/health.js';
import { openApiDocument } from './http/openapi.js';
import { addResponsesRoutes } from './http/responses/routes.js';
import type { ModelCard } from './http/schemas.js';
import { addStateRoutes } from './http/state-routes.js';
import { addStudioApi, addStudioPages } from './studio-routes.js';

export function createApp(deps: Deps, version: string): App {
  const app: App = new Hono<{ Variables: Variables }>();
  observed(app, deps);
  app.get('/healthz', async (context) => {
    const status = await healthOf(deps);
    return context.json({ status }, status === 'ok' ? 200 : 503);
  });
  const document = openApiDocument(version);
  app.get('/openapi.json', (context) => context.json(document));
  app.use('/metrics', authenticated(deps));
  app.get('/metrics', async (context) => {
    const { registry } = deps.metrics;
    return context.text(await registry.metrics(), 200, { 'content-type': registry.contentType });
  });
  for (const path of ['/v1/*', '/studio/api/*']) {
    app.use(path, authenticated(deps), admitted(deps), bodyLimited(deps));
  }
  app.get('/v1/models', (context) =>
    context.json({ object: 'list', data: [...deps.models.values()].map(modelCard) }),
  );
  app.get('/v1/models/:model', (context) =>
    context.json(modelCard(modelNamed(deps, context.req.param('model')))),
  );
  addGenerationRoutes(app, deps);
  addResponsesRoutes(app, deps);
  addEmbeddingsRoute(app, deps);
  addStateRoutes(app, deps);
  addStudioApi(app, deps);
  addStudioPages(app);
  return app;
}

function modelCard({ id, created, fingerprint: _, ...heddle }: ServedModelInfo): ModelCard {
  return { id, object: 'model', created, owned_by: 'heddle', heddle };
}
