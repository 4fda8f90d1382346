/** Extracts the image of a conversation, a part of the first user message. */
import { imageSize } from '../../signals/index.js';
import type { ServedModelInfo } from '../engine/protocol.js';
import { ApiError } from './api-error.js';
import type { ChatRequest } from './schemas.js';

/** An image of more pixels is refused: 25 megapixels take some 500 MB while they are decoded. */
const MOST_PIXELS = 25e6;

/**
 * The bytes of the image's file, for a model that reads images. Throws `ApiError` for an image that the model does not read, for more than one
 * image or one in a later message, for an address that is not a `data:` URL, for data that are not PNG or JPEG or have more than 25
 * megapixels, and for a missing image.
 */
export function shownImage(
  { messages, state, save_state: saves }: ChatRequest,
  { id, images }: ServedModelInfo,
): Uint8Array | undefined {
  const shown = messages.flatMap((message, at) =>
    message.role === 'user' ? (message.images ?? []).map((each) => ({ ...each, at })) : [],
  );
  const [first, second] = shown;
  const refused = (code: string, message: string, of = first): ApiError =>
    new ApiError(400, code, message, {
      param: of ? (of.param ?? `messages.${of.at}.content.${of.part}`) : 'messages',
    });
  if (!first) {
    if (!images) return undefined;
    throw refused(
      'image_required',
      `${id} reads an image before it writes: send one as a part {"type": "image_url"} of the first user message`,
    );
  }
  if (!images)
    throw refused('images_not_supported', `it has an image, and ${id} reads text alone: leave it out`);
  if (second) throw refused('invalid_value', `there is more than one image, and ${id} reads one`, second);
  if (first.at !== messages.findIndex(({ role }) => role === 'user'))
    throw refused(
      'invalid_value',
      `${id} reads its image before all text: send it in the first user message`,
    );
  if (state !== undefined || saves)
    throw refused('invalid_value', 'saved states are of texts: leave out the state, or the image');
  return bytesOf(first.address, refused);
}

function bytesOf(address: string, refused: (code: string, message: string) => ApiError): Uint8Array {
  const [, kind] = /^([a-z][a-z+.-]*):/i.exec(address) ?? [];
  if (kind?.toLowerCase() !== 'data') {
    throw refused(
      'image_not_fetched',
      'this server fetches no images from elsewhere: send the image itself, as a URL that begins with data:image/png;base64,',
    );
  }
  const [, data] = /^data:[^,]*;base64,([\w+/=\s-]*)$/i.exec(address) ?? [];
  const bytes = data === undefined ? undefined : Buffer.from(data, 'base64');
  if (!bytes || bytes.length === 0)
    throw refused('invalid_value', 'the image is no data: URL in base64: expected data:image/png;base64,...');
  try {
    imageSize(bytes, 'the image', MOST_PIXELS);
  } catch (error) {
    throw refused('invalid_prompt', (error as Error).message);
  }
  return new Uint8Array(bytes);
}
