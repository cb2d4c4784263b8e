/** DNS messages, as far as a forwarder must understand them (RFC 1035, 4.1). Both sides are hostile. */
import type { IpAddress } from '../address.ts';
import { readU16, readU32, writeU16 } from '../ip/packet.ts';

export const HEADER_SIZE = 12;
const RESPONSE = 0x8000;
const OPCODE_AND_Z = 0x7840;
const RECURSION_DESIRED = 0x0100;
const RECURSION_AVAILABLE = 0x0080;
const TYPE_A = 1;
const TYPE_AAAA = 28;
const CLASS_IN = 1;
/** Octets of a name (RFC 1035, 2.3.4). */
const MAX_NAME = 255;

export const SERVFAIL = 2;
export const REFUSED = 5;

/** What somebody asks. */
export interface Question {
  readonly id: number;
  /** Lower case, without the final dot; a dot inside a label is written `\.`. */
  readonly name: string;
  readonly type: number;
  /** Offset after the question. */
  readonly end: number;
}

/** A query with one question, of the standard kind; undefined: it is something else. */
export function readQuery(message: Uint8Array): Question | undefined {
  if (message.length < HEADER_SIZE) return undefined;
  if ((readU16(message, 2) & (RESPONSE | OPCODE_AND_Z)) !== 0) return undefined;
  return readQuestion(message);
}

function readQuestion(message: Uint8Array): Question | undefined {
  if (readU16(message, 4) !== 1) return undefined;
  const labels: string[] = [];
  let at = HEADER_SIZE;
  for (;;) {
    const length = message[at];
    if (length === undefined || at - HEADER_SIZE + length > MAX_NAME) return undefined;
    at++;
    if (length === 0) break;
    // There is nothing before it that could be pointed to.
    if (length > 63 || at + length > message.length) return undefined;
    labels.push(labelText(message.subarray(at, at + length)));
    at += length;
  }
  if (at + 4 > message.length) return undefined;
  return { id: readU16(message, 0), name: labels.join('.'), type: readU16(message, at), end: at + 4 };
}

function labelText(label: Uint8Array): string {
  const text = Buffer.from(label.buffer, label.byteOffset, label.length).toString('latin1').toLowerCase();
  // Master file form (RFC 1035, 5.1), so that no label passes for several, or for a line of a log.
  return text.replace(/[^!-~]|[.\\]/g, (character) =>
    /[!-~]/.test(character) ? `\\${character}` : `\\${String(character.charCodeAt(0)).padStart(3, '0')}`,
  );
}

/** Is `response` an answer to `query`, which was sent with the number `id`? Names may differ in case. */
export function isAnswer(response: Uint8Array, query: Question, id: number): boolean {
  if (response.length < HEADER_SIZE || (readU16(response, 2) & RESPONSE) === 0 || readU16(response, 0) !== id)
    return false;
  const question = readQuestion(response);
  return question !== undefined && question.name === query.name && question.type === query.type;
}

/** An address record. */
export interface AddressRecord {
  readonly address: IpAddress;
  /** Seconds. */
  readonly ttl: number;
}

/** All addresses in a response's answers, whatever name they belong to; undefined: it is malformed. `question`: its own. */
export function readAddresses(response: Uint8Array, question: Question): AddressRecord[] | undefined {
  const records: AddressRecord[] = [];
  let at = question.end;
  for (let left = readU16(response, 6); left > 0; left--) {
    at = skipName(response, at);
    if (at + 10 > response.length) return undefined;
    const type = readU16(response, at);
    const recordClass = readU16(response, at + 2);
    const ttl = readU32(response, at + 4);
    const length = readU16(response, at + 8);
    at += 10;
    if (at + length > response.length) return undefined;
    const size = type === TYPE_A ? 4 : type === TYPE_AAAA ? 16 : 0;
    if (recordClass === CLASS_IN && size !== 0) {
      if (length !== size) return undefined;
      records.push({ address: response.slice(at, at + length), ttl });
    }
    at += length;
  }
  return records;
}

/** Offset after a name, which a pointer may end; beyond the message's end if it is malformed. */
function skipName(message: Uint8Array, start: number): number {
  let at = start;
  for (;;) {
    const length = message[at];
    if (length === undefined || (length > 63 && length < 0xc0)) return message.length + 1;
    if (length >= 0xc0) return at + 2;
    at += 1 + length;
    if (length === 0) return at;
  }
}

/** A response without answers. `code`: SERVFAIL, REFUSED. */
export function failure(query: Uint8Array, question: Question, code: number): Uint8Array {
  const response = query.slice(0, question.end);
  writeU16(response, 2, RESPONSE | (readU16(query, 2) & RECURSION_DESIRED) | RECURSION_AVAILABLE | code);
  response.fill(0, 6, HEADER_SIZE);
  return response;
}
