/**
 * One TCP connection of the guest, whose other end is here (RFC 9293). What the guest says goes into a stream of the host, and
 * the other way round. The way to the guest loses nothing as a rule, so there is no congestion control; what gets lost
 * nevertheless (a guest short of memory) is sent again, from the ring that keeps it until it is acknowledged.
 */
import { rangeOf } from '../../disk/iovec.ts';
import { EAGAIN, ECONNREFUSED, ECONNRESET } from '../../host/errno.ts';
import { randomU32 } from '../../host/random.ts';
import type { FlowEnds } from '../flow-table.ts';
import { IPV4_SIZE, IPV6_SIZE, PROTOCOL_TCP } from '../ip/packet.ts';
import type { Envelope, FrameWriter } from '../ip/writer.ts';
import type { GuestFrame } from '../link.ts';
import { RING_SIZE, type Ring, type RingPool } from '../ring.ts';
import { RetransmissionTimer } from './rto.ts';
import {
  ACK,
  FIN,
  PSH,
  RST,
  type Segment,
  SYN,
  type SynOptions,
  seqDiff,
  synHeader,
  TCP_CHECKSUM,
  TCP_SIZE,
  writeSegment,
} from './segment.ts';
import type { Stream, StreamOwner } from './stream.ts';

/** Shift count of the windows that are offered here: RING_SIZE fits. */
const SCALE = 7;
/** Largest IP packet of a TSO frame. */
const MAX_PACKET = 65535;
/** Times that the same is sent in vain before the connection breaks. */
const MAX_TRIES = 12;
const MAX_SYN_TRIES = 6;
/** A guest without room answers when it is asked, ms. */
const MAX_SILENCE = 5 * 60_000;
/** After both ends are closed a connection is remembered for so long, ms, to answer the guest's repeated FIN. */
const TIME_WAIT = 2000;
/** A connection without a word for so long is asked whether it is still there, ms (RFC 9293, 3.8.4). */
const KEEPALIVE = 2 * 3600_000;
const KEEPALIVE_INTERVAL = 75_000;

/** Where a connection lives. */
export interface FlowHost {
  readonly writer: FrameWriter;
  readonly pool: RingPool;
  /** ms, of any monotonic clock. */
  readonly now: number;
  /** output() is to be called when what is under way now is done: at the next flush(). */
  later(flow: TcpFlow): void;
  flush(): void;
  /** The guest had no room: output() is to be called when it has. */
  blocked(flow: TcpFlow): void;
  /** timer() is to be called when flow.deadline is over; Infinity: never. */
  schedule(flow: TcpFlow): void;
  /** The guest is to be told that the far end cannot be reached; `seq`: of its SYN. */
  unreachable(flow: TcpFlow, errno: number, seq: number): void;
  /** The far end could not be reached, or refused. */
  failed(flow: TcpFlow, errno: number): void;
  /** Both sides have ended the connection. */
  done(flow: TcpFlow): void;
  /** The connection is forgotten. */
  gone(flow: TcpFlow): void;
}

type Phase =
  /** The guest's SYN is here; the stream is not connected yet. */
  | 'connecting'
  /** SYN and ACK went to the guest. */
  | 'syn-received'
  /** A SYN went to the guest. */
  | 'syn-sent'
  | 'established'
  | 'time-wait'
  | 'closed';

export class TcpFlow implements StreamOwner {
  readonly ends: FlowEnds;
  /** Bytes of data that the guest sent, and that it acknowledged. */
  sent = 0;
  received = 0;
  /** When timer() is to be called, in the host's ms. */
  deadline = Number.POSITIVE_INFINITY;
  readonly #host: FlowHost;
  readonly #envelope: Envelope;
  readonly #header = new Uint8Array(TCP_SIZE);
  readonly #upper = { protocol: PROTOCOL_TCP, bytes: this.#header, checksumOffset: TCP_CHECKSUM };
  readonly #wake = (): void => {
    this.#pull();
    this.#host.later(this);
  };
  #phase: Phase;
  #stream: Stream | undefined;

  // What goes to the guest. Sequence numbers are modulo 2^32.
  readonly #firstSeq = randomU32();
  /** First byte that is not acknowledged; the ring starts there. */
  #unacked: number;
  #next: number;
  /** After the last that was ever sent. */
  #sentTo: number;
  #ring: Ring | undefined;
  /** What the guest has room for, bytes from #unacked on. */
  #window = 0;
  /** Sequence and acknowledgement numbers of the segment that told the window. */
  #windowSeq = 0;
  #windowAck = 0;
  #guestScale = 0;
  #mss = 536;
  #duplicateAcks = 0;
  /** Until this is acknowledged, a loss is being mended. */
  #recoverTo: number | undefined;
  readonly #rto = new RetransmissionTimer();
  #tries = 0;
  #readable = false;
  /** The stream tells of its end. */
  #streamEnds = false;
  /** The end of the stream was read, or its failure. */
  #streamEnded = false;
  #streamBroke = false;
  #finSent = false;
  #finAcked = false;

  // What comes from the guest.
  #expected: number;
  /** After the last byte that the guest was told it may send. */
  #offeredTo: number;
  #scale = 0;
  /** Bytes that the stream did not take yet. */
  #pending: Ring | undefined;
  #guestFin = false;
  #writeEnded = false;
  /** The stream takes nothing any more: what the guest says goes nowhere. */
  #deaf = false;
  #ackDue = false;
  #lastHeard: number;

  private constructor(host: FlowHost, ends: FlowEnds, phase: Phase, mtu: number) {
    this.#host = host;
    this.ends = ends;
    this.#envelope = { mac: ends.mac, source: ends.remote, destination: ends.guest };
    this.#phase = phase;
    this.#unacked = this.#next = this.#sentTo = this.#firstSeq;
    this.#expected = this.#offeredTo = 0;
    this.#lastHeard = host.now;
    this.#mss = mtu - this.#ipSize - TCP_SIZE;
  }

  /** A connection that the guest opens. attach() is to be called with its stream. */
  static fromGuest(host: FlowHost, ends: FlowEnds, syn: Segment, options: SynOptions): TcpFlow {
    const flow = new TcpFlow(host, ends, 'connecting', host.writer.mtu);
    flow.#takeSyn(syn, options);
    return flow;
  }

  /** A connection to the guest. attach() is to be called with its stream, which is open. */
  static toGuest(host: FlowHost, ends: FlowEnds): TcpFlow {
    const flow = new TcpFlow(host, ends, 'syn-sent', host.writer.mtu);
    flow.#scale = SCALE;
    flow.#host.later(flow);
    return flow;
  }

  attach(stream: Stream): void {
    this.#stream = stream;
  }

  get #ipSize(): number {
    return this.ends.guest.length === 16 ? IPV6_SIZE : IPV4_SIZE;
  }

  get inTimeWait(): boolean {
    return this.#phase === 'time-wait';
  }

  #takeSyn(syn: Segment, options: SynOptions): void {
    this.#expected = this.#offeredTo = (syn.seq + 1) >>> 0;
    this.#mss = Math.min(this.#mss, options.mss);
    this.#scale = options.scale === undefined ? 0 : SCALE;
    this.#guestScale = options.scale ?? 0;
    this.#window = syn.window;
    this.#windowSeq = syn.seq;
    this.#windowAck = syn.ack;
  }

  // The stream's side.

  opened(): void {
    if (this.#phase !== 'connecting') return;
    this.#phase = 'syn-received';
    this.#host.later(this);
    this.#host.flush();
  }

  failed(errno: number): void {
    if (this.#phase === 'closed') return;
    if (errno === ECONNREFUSED || errno === ECONNRESET) this.#sendReset(this.#firstSeq);
    else this.#host.unreachable(this, errno, (this.#expected - 1) >>> 0);
    this.#host.failed(this, errno);
    this.#end();
  }

  ready(readable: boolean, writable: boolean, ended: boolean): void {
    if (this.#phase === 'closed') return;
    if (readable) this.#readable = true;
    if (ended) this.#streamEnds = true;
    this.#pull();
    if (writable) this.#drain();
    this.#host.later(this);
    this.#host.flush();
  }

  /** Takes from the stream what there is room for. */
  #pull(): void {
    const stream = this.#stream;
    while (this.#readable && !this.#streamEnded && stream !== undefined) {
      this.#ring ??= this.#host.pool.take(this.#wake);
      const space = this.#ring?.space();
      if (space === undefined || space.length === 0) return;
      const count = stream.read(space);
      if (count > 0) {
        this.#ring?.produced(count);
        // Less than there was room for: no more is there, and more will be told; an end was told already.
        if (count < space.length && !this.#streamEnds) this.#readable = false;
      } else if (count === -EAGAIN) {
        this.#readable = false;
      } else {
        this.#streamEnded = true;
        this.#streamBroke = count < 0;
      }
    }
    this.#giveIfEmpty();
  }

  #giveIfEmpty(): void {
    if (this.#ring?.length !== 0) return;
    this.#host.pool.give(this.#ring);
    this.#ring = undefined;
  }

  /** Gives the stream what it had no room for. */
  #drain(): void {
    const ring = this.#pending;
    if (ring !== undefined) {
      while (ring.length > 0 && !this.#deaf) {
        const written = this.#stream?.write(ring.pieces(0, ring.length).map(rangeOf)) ?? 0;
        if (written === -EAGAIN) return;
        if (written < 0) this.#deaf = true;
        else ring.consume(written);
      }
      this.#pending = undefined;
      this.#host.pool.give(ring);
      this.#ackDue = true;
    }
    if (this.#guestFin && !this.#writeEnded) {
      this.#writeEnded = true;
      this.#stream?.endWrite();
    }
  }

  // The guest's side.

  /** A segment of the guest. `frame`: where its data is. */
  input(segment: Segment, options: SynOptions | undefined, frame: GuestFrame): void {
    this.#lastHeard = this.#host.now;
    if (this.#phase === 'connecting') {
      // A SYN again; nothing else can be right now.
      if ((segment.flags & RST) !== 0 && segment.seq === this.#expected) this.#break();
      return;
    }
    if (this.#phase === 'syn-sent') {
      this.#inputSynSent(segment, options);
      return;
    }
    if (!this.#isAcceptable(segment)) return;
    if ((segment.flags & ACK) === 0) return;
    if (!this.#inputAck(segment)) return;
    if (segment.length > 0 || (segment.flags & FIN) !== 0) this.#inputData(segment, frame);
    this.#settle();
    this.#host.later(this);
  }

  #inputSynSent(segment: Segment, options: SynOptions | undefined): void {
    const acked = (segment.flags & ACK) !== 0;
    if (acked && segment.ack !== this.#sentTo) {
      if ((segment.flags & RST) === 0) this.#sendReset(segment.ack);
      return;
    }
    if ((segment.flags & RST) !== 0) {
      if (acked) this.#break();
      return;
    }
    if (!acked || options === undefined) return;
    this.#takeSyn(segment, options);
    this.#unacked = segment.ack;
    this.#phase = 'established';
    this.#tries = 0;
    this.deadline = Number.POSITIVE_INFINITY;
    this.#ackDue = true;
    this.#host.later(this);
  }

  /** Sequence number, RST and SYN of a segment (RFC 9293, 3.10.7.4, the first and fourth steps; RFC 5961). */
  #isAcceptable({ seq, length, flags }: Segment): boolean {
    const from = seqDiff(seq, this.#expected);
    const room = Math.max(seqDiff(this.#offeredTo, this.#expected), 0);
    const total = length + ((flags & FIN) !== 0 ? 1 : 0);
    const inside = from + total >= 0 && from <= room && (total === 0 ? from >= 0 : from + total > 0);
    if ((flags & RST) !== 0) {
      if (from === 0) this.#break();
      else if (inside) this.#answer();
      return false;
    }
    // Also the answer to a probe, and to a SYN that is repeated or forged.
    if (!inside || (flags & SYN) !== 0) this.#answer();
    return inside && (flags & SYN) === 0;
  }

  #answer(): void {
    this.#ackDue = true;
    if (this.#phase === 'syn-received') this.#next = this.#firstSeq;
    this.#host.later(this);
  }

  /** The acknowledgement and the window of a segment. False: nothing else of it counts. */
  #inputAck(segment: Segment): boolean {
    const { ack, seq } = segment;
    if (seqDiff(ack, this.#sentTo) > 0 || seqDiff(ack, this.#unacked) < -RING_SIZE) {
      if (this.#phase === 'syn-received') this.#sendReset(ack);
      else this.#answer();
      return false;
    }
    const count = seqDiff(ack, this.#unacked);
    if (count > 0) this.#acknowledged(ack, count);
    if (this.#phase === 'syn-received') {
      if (count <= 0) return false;
      this.#phase = 'established';
    }
    const window = segment.window << this.#guestScale;
    if (count === 0) this.#countDuplicate(segment, window);
    const newer = seqDiff(seq, this.#windowSeq);
    if (newer > 0 || (newer === 0 && seqDiff(ack, this.#windowAck) >= 0)) {
      this.#window = window;
      this.#windowSeq = seq;
      this.#windowAck = ack;
    }
    return true;
  }

  #acknowledged(ack: number, count: number): void {
    let data = count;
    if (this.#unacked === this.#firstSeq) data--;
    if (this.#finSent && ack === this.#sentTo) {
      this.#finAcked = true;
      data--;
    }
    this.#unacked = ack;
    if (seqDiff(this.#next, ack) < 0) this.#next = ack;
    if (data > 0) {
      this.#ring?.consume(data);
      this.received += data;
      this.#pull();
      this.#giveIfEmpty();
    }
    this.#tries = 0;
    this.#duplicateAcks = 0;
    this.#rto.acknowledged(ack, this.#host.now);
    this.deadline = Number.POSITIVE_INFINITY;
    if (this.#recoverTo === undefined) return;
    if (seqDiff(ack, this.#recoverTo) >= 0) this.#recoverTo = undefined;
    // There is another hole (RFC 6582): what is at its start is lost, too.
    else this.#resendFirst();
  }

  #countDuplicate(segment: Segment, window: number): void {
    const pure = segment.length === 0 && (segment.flags & FIN) === 0 && window === this.#window;
    if (!pure || this.#unacked === this.#sentTo) return;
    this.#duplicateAcks++;
    if (this.#duplicateAcks !== 3 || this.#recoverTo !== undefined) return;
    this.#recoverTo = this.#sentTo;
    this.#resendFirst();
  }

  #resendFirst(): void {
    this.#rto.discard();
    const data = Math.min(this.#ring?.length ?? 0, seqDiff(this.#sentTo, this.#unacked), this.#largest);
    if (data > 0) this.#transmit(this.#unacked, data, ACK);
  }

  /** Data and FIN, what is new of them. What comes before its turn is dropped: the guest sends it again. */
  #inputData(segment: Segment, frame: GuestFrame): void {
    this.#ackDue = true;
    const old = -seqDiff(segment.seq, this.#expected);
    if (old < 0) return;
    const room = seqDiff(this.#offeredTo, this.#expected);
    const fresh = segment.length - old;
    const length = Math.min(fresh, room);
    if (length > 0) {
      if (this.#guestFin) return;
      const taken = this.#take(frame, segment.start + old, length);
      this.#expected = (this.#expected + taken) >>> 0;
      this.sent += taken;
      if (taken < fresh) return;
    } else if (fresh > 0) {
      return;
    }
    if ((segment.flags & FIN) === 0 || this.#guestFin || old > segment.length) return;
    this.#guestFin = true;
    this.#expected = (this.#expected + 1) >>> 0;
    if (this.#pending === undefined) this.#drain();
  }

  /** Gives the stream bytes of a frame, or keeps them for it. How many of them. */
  #take(frame: GuestFrame, start: number, length: number): number {
    if (this.#deaf) return length;
    let taken = 0;
    if (this.#pending === undefined) {
      const written = this.#stream?.write(frame.ranges(start, length)) ?? 0;
      if (written < 0 && written !== -EAGAIN) {
        this.#deaf = true;
        return length;
      }
      taken = Math.max(written, 0);
      if (taken === length) return taken;
      this.#pending = this.#host.pool.take();
    }
    const ring = this.#pending;
    if (ring === undefined) return taken;
    const bytes = frame.bytes().subarray(start, start + length);
    while (taken < length) {
      const space = ring.space();
      if (space.length === 0) break;
      const piece = bytes.subarray(taken, taken + space.length);
      space.set(piece);
      ring.produced(piece.length);
      taken += piece.length;
    }
    return taken;
  }

  /** Ends the connection where both sides are done. */
  #settle(): void {
    if (this.#phase !== 'established') return;
    if (this.#streamBroke && this.#ring === undefined) {
      this.abort();
      return;
    }
    if (!this.#finAcked || !this.#guestFin || this.#pending !== undefined) return;
    this.#stream?.close();
    this.#stream = undefined;
    this.#host.done(this);
    this.#phase = 'time-wait';
    this.deadline = this.#host.now + TIME_WAIT;
    this.#host.schedule(this);
  }

  // Sending.

  get #largest(): number {
    const { offloads } = this.#host.writer.link;
    const cut = this.ends.guest.length === 16 ? offloads.tso6 : offloads.tso4;
    if (!cut || !offloads.checksum) return this.#mss;
    // IPv6's length does not count its header, and then frames would be larger than the device has room for.
    return Math.floor((MAX_PACKET - IPV6_SIZE - TCP_SIZE) / this.#mss) * this.#mss;
  }

  /** Sends what can be sent now. */
  output(): void {
    switch (this.#phase) {
      case 'closed':
      case 'connecting':
        return;
      case 'syn-sent':
      case 'syn-received':
        this.#outputSyn();
        break;
      default:
        this.#outputData();
    }
    this.#setTimer();
  }

  #outputSyn(): void {
    if (this.#next !== this.#firstSeq) return;
    const flags = this.#phase === 'syn-sent' ? SYN : SYN | ACK;
    const mtu = this.#host.writer.mtu;
    const header = synHeader(mtu - this.#ipSize - TCP_SIZE, this.#scale === 0 ? undefined : SCALE);
    this.#fill(header, this.#firstSeq, flags, 0);
    const upper = { protocol: PROTOCOL_TCP, bytes: header, checksumOffset: TCP_CHECKSUM };
    if (!this.#host.writer.send(this.#envelope, upper, [])) {
      this.#host.blocked(this);
      return;
    }
    this.#next = this.#sentTo = (this.#firstSeq + 1) >>> 0;
    this.#ackDue = false;
  }

  #outputData(): void {
    const largest = this.#largest;
    for (;;) {
      const underWay = seqDiff(this.#next, this.#unacked);
      const unsent = (this.#ring?.length ?? 0) - underWay;
      if (unsent <= 0) break;
      const room = Math.max(this.#window - underWay, 0);
      const count = Math.min(unsent, room, largest);
      // Nothing, or too little to be worth it while an acknowledgement is still to come (RFC 9293, 3.8.6.2.1).
      if (count === 0 || (count < unsent && count < this.#mss && underWay > 0)) break;
      const last = count === unsent;
      const fin = last && this.#streamEnded && !this.#streamBroke;
      if (!this.#transmit(this.#next, count, ACK | (last ? PSH : 0) | (fin ? FIN : 0))) return;
      this.#advance(count + (fin ? 1 : 0));
      if (fin) this.#finSent = true;
    }
    const allSent = seqDiff(this.#next, this.#unacked) === (this.#ring?.length ?? 0);
    if (allSent && this.#streamEnded && !this.#streamBroke && !this.#finAcked) {
      if (!this.#transmit(this.#next, 0, ACK | FIN)) return;
      this.#advance(1);
      this.#finSent = true;
    }
    if (this.#ackDue || this.#windowGrew) this.#transmit(this.#next, 0, ACK);
    this.#settle();
  }

  /** Has the guest much less room than it could have? */
  get #windowGrew(): boolean {
    const offered = seqDiff(this.#offeredTo, this.#expected);
    const limit = this.#scale === 0 ? 65535 : RING_SIZE;
    return !this.#guestFin && this.#freeWindow - offered >= limit / 2;
  }

  #advance(count: number): void {
    this.#rto.sent(this.#next, this.#host.now);
    this.#next = (this.#next + count) >>> 0;
    if (seqDiff(this.#next, this.#sentTo) > 0) this.#sentTo = this.#next;
  }

  /** Sends `count` bytes from sequence number `seq` on. False: the guest has no room. */
  #transmit(seq: number, count: number, flags: number): boolean {
    this.#fill(this.#header, seq, flags, this.#scale);
    const pieces = count === 0 ? [] : (this.#ring as Ring).pieces(seqDiff(seq, this.#unacked), count);
    if (!this.#host.writer.send(this.#envelope, this.#upper, pieces, count > this.#mss ? this.#mss : 0)) {
      this.#host.blocked(this);
      return false;
    }
    this.#ackDue = false;
    return true;
  }

  get #freeWindow(): number {
    const limit = this.#scale === 0 ? 65535 : RING_SIZE;
    return Math.max(limit - (this.#pending?.length ?? 0), 0);
  }

  #fill(header: Uint8Array, seq: number, flags: number, scale: number): void {
    const window = Math.min(this.#freeWindow >> scale, 0xffff);
    const acks = (flags & ACK) !== 0;
    if (acks) {
      const edge = (this.#expected + (window << scale)) >>> 0;
      if (seqDiff(edge, this.#offeredTo) > 0) this.#offeredTo = edge;
    }
    writeSegment(header, {
      sourcePort: this.ends.remotePort,
      destinationPort: this.ends.guestPort,
      seq,
      ack: acks ? this.#expected : 0,
      flags,
      window,
    });
  }

  // Time.

  #setTimer(): void {
    if (this.#phase === 'time-wait' || this.#phase === 'closed') return;
    const waiting = this.#next !== this.#unacked || (this.#ring?.length ?? 0) > 0;
    if (waiting) {
      if (this.deadline !== Number.POSITIVE_INFINITY) return;
      this.deadline = this.#host.now + this.#rto.timeout(this.#tries);
    } else {
      this.deadline = Number.POSITIVE_INFINITY;
    }
    this.#host.schedule(this);
  }

  /** The deadline is over. */
  timer(): void {
    this.deadline = Number.POSITIVE_INFINITY;
    if (this.#phase === 'closed') return;
    if (this.#phase === 'time-wait') {
      this.#end();
      return;
    }
    this.#tries++;
    const opening = this.#phase === 'syn-sent' || this.#phase === 'syn-received';
    const probing = this.#next === this.#unacked && !opening;
    // A guest may have no room for as long as it likes, if it says so.
    const heard = probing && this.#host.now - this.#lastHeard < MAX_SILENCE;
    if (this.#tries > (opening ? MAX_SYN_TRIES : MAX_TRIES) && !heard) {
      this.abort();
      return;
    }
    this.#rto.discard();
    this.#recoverTo = undefined;
    // Nothing is under way and data waits: the guest has no room, or its word that it has some got lost.
    if (probing) this.#probe();
    else this.#next = this.#unacked;
    this.output();
  }

  /** Called now and then: asks a guest that has been silent for long whether it is still there. */
  keepAlive(): void {
    if (this.#phase !== 'established') return;
    const silent = this.#host.now - this.#lastHeard;
    if (silent > KEEPALIVE + 8 * KEEPALIVE_INTERVAL) this.abort();
    else if (silent > KEEPALIVE) this.#probe();
  }

  /** What was sent already: the guest answers with its window. */
  #probe(): void {
    this.#transmit((this.#unacked - 1) >>> 0, 0, ACK);
  }

  // Ends.

  #sendReset(seq: number): void {
    this.#fill(this.#header, seq, RST | ACK, 0);
    this.#host.writer.send(this.#envelope, this.#upper, []);
  }

  /** The guest gave the connection up. */
  #break(): void {
    this.#stream?.reset();
    this.#stream = undefined;
    this.#end();
  }

  /** Ends the connection at once, to both sides. */
  abort(): void {
    if (this.#phase === 'closed') return;
    if (this.#phase !== 'time-wait') this.#sendReset(this.#next);
    this.#break();
  }

  /** Lets the connection go without a word to the guest, which is not there any more. */
  drop(): void {
    if (this.#phase !== 'closed') this.#break();
  }

  #end(): void {
    this.#phase = 'closed';
    this.deadline = Number.POSITIVE_INFINITY;
    this.#host.schedule(this);
    this.#host.pool.forget(this.#wake);
    for (const ring of [this.#ring, this.#pending]) if (ring !== undefined) this.#host.pool.give(ring);
    this.#ring = this.#pending = undefined;
    this.#stream?.close();
    this.#stream = undefined;
    this.#host.gone(this);
  }
}
