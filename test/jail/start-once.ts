// Starts a jailed device, and says what came of it: run as another user, or where there are no namespaces. The argument is the device's code.
import { closeDescriptor } from '../../src/host/descriptor.ts';
import { Poller } from '../../src/host/poller.ts';
import { messageSocketPair } from '../../src/host/unix-socket.ts';
import { startDeviceProcess } from '../../src/jail/device-process.ts';

const poller = new Poller();
const [mine, its] = messageSocketPair();
try {
  const device = await startDeviceProcess(
    {
      policy: 'common_device',
      bundle: process.argv[2] as string,
      data: {},
      fds: [its],
      network: 'none',
    },
    poller,
  );
  closeDescriptor(its);
  // Its channel is closed: it ends by itself.
  closeDescriptor(mine);
  process.stdout.write(`ended: ${(await device.ended).cause}\n`);
} catch (error) {
  process.stdout.write(`${(error as Error).message}\n`);
}
