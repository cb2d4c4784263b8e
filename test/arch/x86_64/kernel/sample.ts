/** Bytes that look a little like code, for the decompressors: text, calls and jumps, and a run. The same every time. */
export function sampleBytes(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  let seed = 12345;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % below;
  };
  const words = ['kernel ', 'vivarium ', 'page ', 'interrupt '];
  let at = 0;
  while (at + 16 < size) {
    switch (random(4)) {
      case 0:
        bytes[at] = random(2) === 0 ? 0xe8 : 0xe9;
        view.setInt32(at + 1, random(4) * 0x100 - 0x200 - at, true);
        at += 5;
        break;
      case 1:
        at += random(16); // zeros
        break;
      case 2:
        // Opcodes inside operands: the branch filter's hard case.
        bytes.set([0xe8, 0xe8, 0xff, random(2) * 255, 0xe9, 0, 0xff], at);
        at += 7;
        break;
      default:
        at += Buffer.from(bytes.buffer).write(words[random(words.length)] as string, at, 'ascii');
    }
  }
  return bytes;
}
