/** `/v1/archive`: a library of documents, what it has, and questions to it. */
import {
  type Archive,
  type AskEvent,
  addDocument,
  ask,
  type DocumentEntry,
  removeDocuments,
  search,
  UnreadableError,
} from '../../archive/index.js';
import { ApiError, invalidValue } from './api-error.js';
import { AskRequest } from './archive-schemas.js';
import { bodyOf } from './body.js';
import { type App, bodyLimited, type Deps, modelNamed, type RequestContext, signalOf } from './context.js';
import { PageDrawing } from './page-drawing.js';
import { ServedArchiveModel } from './served-archive-model.js';
import { streamed } from './sse.js';

const MANY = 200;
/** Bytes of a document that is uploaded; larger ones are added in a terminal. */
const UPLOAD_BYTES = 1e9;

/** SHA-256 of a document, as the archive writes it. */
const WHOLE_ID = /^[0-9a-f]{64}$/;

/** Whether a request brings a document, which may be larger than others. */
export function takesDocuments({ method, path }: { method: string; path: string }): boolean {
  return method === 'POST' && path === '/v1/archive/documents';
}

/** Without an archive these are answered with 404, and with how one is served. */
export function addArchiveRoutes(app: App, deps: Deps): void {
  const drawing = new PageDrawing();

  app.get('/v1/archive', async (context) => {
    const archive = archiveOf(deps);
    return context.json({ object: 'archive', language: archive.about.language, ...(await archive.totals()) });
  });

  app.get('/v1/archive/documents', async (context) => {
    const archive = archiveOf(deps);
    const limit = whole(context, 'limit', MANY, 1, 1000);
    const data = await archive.documents({
      limit: limit + 1,
      skip: whole(context, 'skip', 0, 0, 2 ** 31 - 1),
    });
    return context.json({ object: 'list', data: data.slice(0, limit), has_more: data.length > limit });
  });

  app.post('/v1/archive/documents', bodyLimited(UPLOAD_BYTES), async (context) => {
    const archive = archiveOf(deps);
    const type = context.req.header('content-type') ?? '';
    // A page from elsewhere can send forms and plain text without asking first.
    if (!/^application\/octet-stream\s*(;|$)/i.test(type)) {
      throw new ApiError(
        415,
        'unsupported_media_type',
        "send the file's bytes, with content-type: application/octet-stream",
      );
    }
    const name = context.req.query('name')?.trim() ?? '';
    if (name === '') {
      throw invalidValue('name', "'name' is the name of the file, such as contract.pdf");
    }
    const size = Number(context.req.header('content-length') ?? 0);
    const { document, isNew } = await addDocument(archive, name, bytesOf(context), size).catch(
      (error: Error) => {
        if (!(error instanceof UnreadableError)) throw error;
        throw new ApiError(415, 'unsupported_document', `${name} cannot be read: ${error.message}`, {
          param: 'name',
        });
      },
    );
    return context.json(document, isNew ? 201 : 200);
  });

  app.get('/v1/archive/problems', async (context) => {
    return context.json({ object: 'list', data: await archiveOf(deps).problems() });
  });

  app.get('/v1/archive/documents/:id', async (context) => context.json(await documentOf(context, deps)));

  app.delete('/v1/archive/documents/:id', async (context) => {
    const id = context.req.param('id') ?? '';
    const archive = archiveOf(deps);
    const document = WHOLE_ID.test(id) ? await archive.document(id) : undefined;
    // Part of a name may mean another document tomorrow.
    if (document?.content !== id) {
      throw invalidValue(
        'id',
        "documents are deleted by their whole id, the 64 digits that GET /v1/archive/documents lists as 'content'",
      );
    }
    const [files] = await removeDocuments(archive, [document]);
    return context.json({ id: document.content, object: 'archive.document', deleted: true, files });
  });

  app.get('/v1/archive/documents/:id/pages/:page', async (context) => {
    const { content } = await documentOf(context, deps);
    const page = pageOf(context);
    const [found] = await archiveOf(deps).pages(content, page, page);
    if (!found)
      throw new ApiError(404, 'page_not_found', `page ${page} is not read, or not there`, { param: 'page' });
    return context.json(found);
  });

  app.get('/v1/archive/documents/:id/pages/:page/image', async (context) => {
    const document = await documentOf(context, deps);
    const scale = Number(context.req.query('scale') ?? 1.5);
    if (!(scale >= 0.1 && scale <= 5)) {
      throw invalidValue('scale', "'scale' is the number of pixels a point, from 0.1 to 5");
    }
    const png = await drawing.draw(archiveOf(deps), document, pageOf(context), scale);
    return context.body(png as Uint8Array<ArrayBuffer>, 200, {
      'content-type': 'image/png',
      'cache-control': 'private, max-age=3600',
    });
  });

  app.get('/v1/archive/search', async (context) => {
    const archive = archiveOf(deps);
    const words = context.req.query('q')?.trim() ?? '';
    if (words === '') {
      throw invalidValue('q', "'q' has the words to look for, such as q=notice+period");
    }
    const documents = await Promise.all(
      (context.req.queries('in') ?? []).map((name) => archive.document(name)),
    );
    const result = await search(archive, words, {
      limit: whole(context, 'limit', 10, 1, 100),
      documents: documents.length > 0 ? documents.map(({ content }) => content) : undefined,
    });
    return context.json({ object: 'list', data: result.hits, missing: result.missing });
  });

  app.post('/v1/archive/ask', async (context) => {
    const archive = archiveOf(deps);
    const {
      question,
      model,
      documents,
      from,
      passages,
      max_tokens: maxTokens,
    } = await bodyOf(context, AskRequest);
    const info = modelNamed(deps, model ?? undefined);
    const named = documents ? await Promise.all(documents.map((name) => archive.document(name))) : undefined;
    const signal = signalOf(context, deps);
    const events = ask(archive, new ServedArchiveModel(deps.engine, info), {
      text: question,
      ...(named && { documents: named }),
      ...(from && { from }),
      ...(passages && { passages }),
      ...(maxTokens && { maxTokens }),
      signal,
    });
    return streamed(context, events, signal, ASK_EVENTS);
  });
}

const ASK_EVENTS = {
  event: (value: AskEvent) => `data: ${JSON.stringify(value)}\n\n`,
  failure: ({ body }: ApiError) => `data: ${JSON.stringify({ kind: 'error', ...body })}\n\n`,
  end: 'data: [DONE]\n\n',
};

function archiveOf({ archive }: Deps): Archive {
  if (archive) return archive;
  throw new ApiError(404, 'no_archive', 'no archive is served here: start the server with --archive');
}

/** A request's body as it comes; none is an empty one. */
async function* bytesOf({ req }: RequestContext): AsyncGenerator<Uint8Array> {
  if (req.raw.body) yield* req.raw.body as unknown as AsyncIterable<Uint8Array>;
}

function documentOf(context: RequestContext, deps: Deps): Promise<DocumentEntry> {
  return archiveOf(deps).document(context.req.param('id') ?? '');
}

function pageOf(context: RequestContext): number {
  const page = Number(context.req.param('page'));
  if (Number.isInteger(page) && page >= 1 && page < 2 ** 31) return page;
  throw invalidValue('page', 'pages are counted from 1');
}

function whole(context: RequestContext, name: string, usual: number, least: number, most: number): number {
  const given = context.req.query(name);
  const value = given === undefined ? usual : Number(given);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw invalidValue(name, `'${name}' is a whole number from ${least} to ${most}`);
}
