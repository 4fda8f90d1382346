// Serves models under /ai of an Express app: node serve-in-express.mjs [model] [port]
import { getRequestListener } from '@hono/node-server';
import express from 'express';
import { createApp } from 'heddle/server';

const [model = 'sotu-hybrid', port = '3000'] = process.argv.slice(2);
const app = express();
app.use('/ai', getRequestListener(createApp(model)));
const server = app.listen(Number(port), () => {
  console.log(`http://localhost:${server.address().port}/ai/v1`);
});
