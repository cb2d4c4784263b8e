/** Where a client came to a file: names lead from here up to the root again, and no further, without a look at the disk. */
import type { Node } from '../../fs/node.ts';
import type { FileServer } from '../../fs/server.ts';

export class Place {
  readonly node: Node;
  /** Undefined for the root. */
  parent: Place | undefined;
  name: Uint8Array;
  users = 1;

  constructor(node: Node, parent: Place | undefined, name: Uint8Array) {
    this.node = node;
    this.parent = parent;
    this.name = name;
  }
}

/** The places that fids are at, and those on the way to them. */
export class Places {
  readonly #server: FileServer;
  readonly #places = new Set<Place>();

  constructor(server: FileServer) {
    this.#server = server;
  }

  root(): Place {
    return this.#add(new Place(this.#server.retain(this.#server.root), undefined, new Uint8Array(0)));
  }

  /** A place below another. The reference to the node goes to the place. */
  below(parent: Place, name: Uint8Array, node: Node): Place {
    return this.#add(new Place(node, this.retain(parent), Uint8Array.from(name)));
  }

  retain(place: Place): Place {
    place.users++;
    return place;
  }

  release(place: Place): void {
    for (let at: Place | undefined = place; at !== undefined && --at.users === 0; at = at.parent) {
      this.#places.delete(at);
      this.#server.release(at.node);
    }
  }

  /** A name was moved: whoever came by it has another place now. */
  renamed(from: Node, name: Uint8Array, to: Place, newName: Uint8Array): void {
    for (const place of this.#places) {
      const { parent } = place;
      if (parent?.node !== from || !equal(place.name, name) || isAbove(place, to)) continue;
      place.parent = this.retain(to);
      place.name = Uint8Array.from(newName);
      this.release(parent);
    }
  }

  #add(place: Place): Place {
    this.#places.add(place);
    return place;
  }
}

/** The host may have moved directories so that a client's places, with old names, would go round in a circle. */
function isAbove(place: Place, other: Place): boolean {
  for (let at: Place | undefined = other; at !== undefined; at = at.parent) if (at === place) return true;
  return false;
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
