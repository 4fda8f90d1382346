// Serves models under /api/ai of a Next app: this is app/api/ai/[...path]/route.js.
// In next.config.js: export default { serverExternalPackages: ['heddle'] };
import { createApp } from 'heddle/server';

// Next loads a changed module again; the models stay loaded.
globalThis.heddle ??= createApp(process.env.MODEL ?? 'sotu-hybrid', { basePath: '/api/ai' });
const answer = (request) => globalThis.heddle(request);

export { answer as DELETE, answer as GET, answer as PATCH, answer as POST };
