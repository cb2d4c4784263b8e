/** A minimal relocatable ELF file with a section of module information: null section, information, section names. */
export function elfModule(texts: readonly string[], sectionName = '.modinfo'): Buffer {
  const info = Buffer.from(texts.map((text) => `${text}\0`).join(''));
  const names = Buffer.from(`\0${sectionName}\0.shstrtab\0`);
  const header = Buffer.alloc(64);
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  header.writeUInt16LE(1, 0x10); // ET_REL
  header.writeUInt16LE(62, 0x12); // EM_X86_64
  header.writeBigUInt64LE(BigInt(64 + info.length + names.length), 0x28);
  header.writeUInt16LE(64, 0x3a);
  header.writeUInt16LE(3, 0x3c);
  header.writeUInt16LE(2, 0x3e);
  const section = (name: number, type: number, offset: number, size: number): Buffer => {
    const bytes = Buffer.alloc(64);
    bytes.writeUInt32LE(name, 0);
    bytes.writeUInt32LE(type, 4);
    bytes.writeBigUInt64LE(BigInt(offset), 0x18);
    bytes.writeBigUInt64LE(BigInt(size), 0x20);
    return bytes;
  };
  const sections = [
    section(0, 0, 0, 0),
    section(1, 1, 64, info.length),
    section(names.indexOf('.shstrtab'), 3, 64 + info.length, names.length),
  ];
  return Buffer.concat([header, info, names, ...sections]);
}
