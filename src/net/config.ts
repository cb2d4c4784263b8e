/** What a user network is made from. All of it can be written as JSON: the network may run in a process of its own. */

export interface PublishedPort {
  readonly protocol: 'tcp' | 'udp';
  /** Address of the host, as text. */
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly guestPort: number;
}

export interface UserNetworkConfig {
  /** Hardware address of the guest's device: six bytes. */
  readonly mac: readonly number[];
  /** Largest IP packet, bytes. */
  readonly mtu: number;
  /** Rules as the user wrote them, each checked. */
  readonly allow: readonly string[];
  readonly deny: readonly string[];
  /** Addresses of the host's resolvers. */
  readonly nameServers: readonly string[];
  /** Addresses of the host's interfaces. */
  readonly hostAddresses: readonly string[];
  readonly published: readonly PublishedPort[];
}

/** What it needs open. */
export interface UserNetworkDescriptors {
  /** Where connections are logged. */
  readonly log: number | undefined;
  /** A listening or bound socket for each published port. */
  readonly published: readonly number[];
}
