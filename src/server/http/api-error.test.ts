import { expect, test } from 'vitest';
import { refusal } from '../../archive/database/database.js';
import { ArchiveError, ArchiveUnavailableError, UnknownDocumentError } from '../../errors.js';
import { apiErrorOf } from './api-error.js';

test('what an archive refuses for now is 503; what a client has asked for in vain is 400, and a document that there is not 404', () => {
  const told = (error: unknown): unknown => {
    const { status, body } = apiErrorOf(error);
    return [status, body.error.type, body.error.code];
  };
  const unavailable = [503, 'server_error', 'archive_unavailable'];
  expect(told(new ArchiveUnavailableError('the disk is full'))).toEqual(unavailable);
  for (const code of ['ECONNREFUSED', '53100', '57P01', undefined]) {
    expect(told(refusal(code, 'the database refuses', undefined))).toEqual(unavailable);
  }
  const asked = [400, 'invalid_request_error', 'invalid_value'];
  expect(told(new ArchiveError('x may be one of 2 documents'))).toEqual(asked);
  expect(told(refusal('22021', 'invalid byte sequence', undefined))).toEqual(asked);
  const unknown = [404, 'invalid_request_error', 'document_not_found'];
  expect(told(new UnknownDocumentError('there is no document x'))).toEqual(unknown);
});
