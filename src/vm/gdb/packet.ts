/** Framing of GDB's remote serial protocol (GDB manual, appendix E): `$data#checksum`, acknowledgements, and the interrupt byte. */

/** Most bytes of a packet's data, both ways; announced in qSupported. */
export const PACKET_SIZE = 0x4000;

const DOLLAR = 0x24;
const HASH = 0x23;
const STAR = 0x2a;
const ESCAPE = 0x7d;
const PLUS = 0x2b;
const MINUS = 0x2d;
const INTERRUPT = 0x03;

export type GdbInput =
  /** Data of a whole packet, escapes undone. */
  | { readonly kind: 'packet'; readonly data: Uint8Array }
  /** A packet whose checksum is wrong, or that is too long. */
  | { readonly kind: 'damaged' }
  | { readonly kind: 'ack' }
  | { readonly kind: 'nack' }
  /** Ctrl-C. */
  | { readonly kind: 'interrupt' };

/** Takes a connection's bytes apart. */
export class PacketReader {
  readonly #data: number[] = [];
  #state: 'idle' | 'data' | 'escape' | 'checksum-1' | 'checksum-2' = 'idle';
  #sum = 0;
  #expected = 0;
  #tooLong = false;

  /** What these bytes complete, in order. */
  push(bytes: Uint8Array): GdbInput[] {
    const inputs: GdbInput[] = [];
    for (const byte of bytes) {
      const input = this.#byte(byte);
      if (input !== undefined) inputs.push(input);
    }
    return inputs;
  }

  #byte(byte: number): GdbInput | undefined {
    switch (this.#state) {
      case 'idle':
        return this.#between(byte);
      case 'data':
      case 'escape':
        this.#content(byte);
        return undefined;
      case 'checksum-1':
        this.#expected = hexDigit(byte) * 16;
        this.#state = 'checksum-2';
        return undefined;
      case 'checksum-2': {
        this.#state = 'idle';
        const good = this.#expected + hexDigit(byte) === this.#sum && !this.#tooLong;
        return good ? { kind: 'packet', data: Uint8Array.from(this.#data) } : { kind: 'damaged' };
      }
    }
  }

  #between(byte: number): GdbInput | undefined {
    if (byte === DOLLAR) this.#begin();
    else if (byte === PLUS) return { kind: 'ack' };
    else if (byte === MINUS) return { kind: 'nack' };
    else if (byte === INTERRUPT) return { kind: 'interrupt' };
    return undefined;
  }

  #content(byte: number): void {
    // A packet that was cut off: this begins the next.
    if (byte === DOLLAR) return this.#begin();
    if (byte === HASH) {
      this.#state = 'checksum-1';
      return;
    }
    this.#sum = (this.#sum + byte) & 0xff;
    if (this.#state === 'data' && byte === ESCAPE) {
      this.#state = 'escape';
      return;
    }
    if (this.#data.length < PACKET_SIZE) this.#data.push(this.#state === 'escape' ? byte ^ 0x20 : byte);
    else this.#tooLong = true;
    this.#state = 'data';
  }

  #begin(): void {
    this.#data.length = 0;
    this.#sum = 0;
    this.#tooLong = false;
    this.#state = 'data';
  }
}

/** NaN where the byte is no hexadecimal digit. */
function hexDigit(byte: number): number {
  return Number.parseInt(String.fromCharCode(byte), 16);
}

/** A packet ready to be sent. Text stands for its bytes, one for each character. */
export function encodePacket(data: string | Uint8Array): Uint8Array {
  const bytes = typeof data === 'string' ? Buffer.from(data, 'latin1') : data;
  const out: number[] = [DOLLAR];
  let sum = 0;
  const put = (byte: number): void => {
    out.push(byte);
    sum += byte;
  };
  for (const byte of bytes) {
    if (byte === DOLLAR || byte === HASH || byte === ESCAPE || byte === STAR) {
      put(ESCAPE);
      put(byte ^ 0x20);
    } else {
      put(byte);
    }
  }
  const checksum = (sum & 0xff).toString(16).padStart(2, '0');
  return Uint8Array.from([...out, HASH, ...Buffer.from(checksum, 'latin1')]);
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

/** Bytes from pairs of hexadecimal digits; undefined when the text is something else. */
export function fromHex(text: string): Uint8Array | undefined {
  return text.length % 2 === 0 && /^[0-9a-f]*$/i.test(text) ? new Uint8Array(Buffer.from(text, 'hex')) : undefined;
}
