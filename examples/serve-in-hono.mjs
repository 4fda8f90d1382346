// Serves models under /ai of a Hono app: node serve-in-hono.mjs [model] [port]
import { serve } from '@hono/node-server';
import { createApp } from 'heddle/server';
import { Hono } from 'hono';

const [model = 'sotu-hybrid', port = '3000'] = process.argv.slice(2);
const app = new Hono();
app.mount('/ai', createApp(model));
serve({ fetch: app.fetch, port: Number(port) }, (info) => {
  console.log(`http://localhost:${info.port}/ai/v1`);
});
