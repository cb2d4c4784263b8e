/** The default guest's user space: busybox as pid 1 and as everything else, in an initramfs. */
import type { CpioEntry } from './cpio.ts';
import { missingParents, writeCpio } from './cpio.ts';
import type { KernelModule } from './modules.ts';
import { moduleEntries } from './modules.ts';

/**
 * Pid 1 is busybox's init, which reaps orphans and serves poweroff, reboot and halt. The dash makes the console's
 * script a session of its own with the terminal as its controlling one; `respawn`, because a script that was killed
 * would leave a machine nobody can reach.
 */
const INITTAB = `\
::sysinit:/etc/init.d/rcS
ttyS0::respawn:-/etc/init.d/console
::ctrlaltdel:/sbin/reboot
::restart:/init
`;

/**
 * The first process. It becomes busybox's init, or the init of the disk that the kernel's `root=` names: a disk that cannot be
 * had leaves the shell of the initramfs.
 */
const INIT = `\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc 2>/dev/null
read -r parameters </proc/cmdline
case " $parameters" in
  *" root="*) . /etc/init.d/root ;;
esac
exec /bin/busybox init
`;

/** What both ways need, for `.`: drivers, and directories of the host. No program is started for a machine without devices: start-up time counts. */
const DEVICES = `\
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t sysfs sys /sys
/bin/busybox --install -s
read -r parameters </proc/cmdline

# Drivers of the buses first: the devices on them show up when these are loaded.
load() {
  for file; do
    read -r alias 2>/dev/null <"$file" || continue
    case $alias in
      pci:v00001AF4* | acpi:LNRO0005:* | virtio:*) modprobe -q "$alias" ;;
    esac
  done
}
load /sys/bus/pci/devices/*/modalias /sys/bus/acpi/devices/*/modalias
# Devices that only the command line tells of.
case $parameters in *virtio_mmio.device=*) modprobe -q virtio_mmio ;; esac
load /sys/bus/virtio/devices/*/modalias

# Directories of the host, below $1: vivarium.mount=TAG:PATH, perhaps with :ro.
mount_shared() {
  set -f
  for item in $parameters; do
    case $item in
      vivarium.mount=*)
        item=\${item#*=}
        options=rw
        case $item in *:ro) item=\${item%:ro} options=ro ;; esac
        mkdir -p "$1\${item#*:}"
        mount -t virtiofs -o $options "\${item%%:*}" "$1\${item#*:}" || echo "\${item#*:} is not mounted" >/dev/console
        # A file is read ahead in requests of so many KiB: with the kernel's 128, reading takes half as long again.
        while read -r _ _ device _ path _; do
          if [ "$path" = "$1\${item#*:}" ]; then echo 1024 >"/sys/class/bdi/$device/read_ahead_kb"; fi
        done </proc/self/mountinfo
        ;;
    esac
  done
  set +f
}
`;

const RCS = `\
#!/bin/busybox sh
. /etc/init.d/devices
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
read -r name </etc/hostname
echo "$name" >/proc/sys/kernel/hostname
ifconfig lo up
# An address for each network interface; whoever waits for one sees to that himself.
for path in /sys/class/net/*/device; do
  [ -e "$path" ] || continue
  interface=\${path%/device}
  udhcpc -b -S -i "\${interface##*/}" -s /etc/udhcpc.script >/dev/null 2>&1 &
done
mount_shared ''
`;

/** A disk as the root. One whose kernel was another gets this kernel's modules lent. */
const ROOT = `\
. /etc/init.d/devices
root= type=ext4 mode=ro init=/sbin/init
for item in $parameters; do
  case $item in
    root=*) root=\${item#*=} ;;
    rootfstype=*) type=\${item#*=} ;;
    init=*) init=\${item#*=} ;;
    ro | rw) mode=$item ;;
  esac
done
case $root in LABEL=* | UUID=*) root=$(findfs "$root") ;; esac
modprobe -q "$type"
if mount -t "$type" -o $mode "$root" /mnt; then
  read -r release </proc/sys/kernel/osrelease
  if [ -d /mnt/lib/modules ] && [ ! -e "/mnt/lib/modules/$release" ]; then
    mount -t tmpfs -o mode=755 modules /mnt/lib/modules && cp -a "/lib/modules/$release" /mnt/lib/modules
  fi
  mount_shared /mnt
  for folder in dev proc sys; do mount -o move /$folder /mnt/$folder; done
  exec switch_root /mnt "$init"
fi
echo "The root disk $root cannot be mounted: this is the initial RAM disk" >/dev/console
umount /dev /sys
`;

/** What udhcpc calls when it has got an address, or lost it. */
const UDHCPC = `\
#!/bin/sh
case $1 in
  deconfig)
    ifconfig "$interface" 0.0.0.0 up
    ;;
  bound | renew)
    ifconfig "$interface" "$ip" netmask "$subnet" mtu "\${mtu:-1500}"
    for address in $router; do route add default gw "$address" dev "$interface" 2>/dev/null; done
    for address in $dns; do echo "nameserver $address"; done >/etc/resolv.conf
    ;;
esac
`;

/** The end of the login shell is the end of the machine. The sleep keeps init from starting another meanwhile. */
const CONSOLE = `\
#!/bin/sh
read -r release </proc/sys/kernel/osrelease
echo "Vivarium guest: Debian kernel $release"
cd /root
shell="sh -l"
read -r line </proc/cmdline
case $line in *console=hvc0*)
  until [ -c /dev/hvc0 ]; do sleep 0.1; done
  exec </dev/hvc0 >/dev/hvc0 2>&1
  shell="setsid -c sh -l"
esac
$shell
poweroff
sleep 60
`;

const PROFILE = `\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root
export PS1='\\u@\\h:\\w\\$ '
`;

/** Directories that are mounted over, or that busybox installs its applets to. */
const DIRECTORIES: readonly string[] = [
  'bin',
  'dev',
  'etc',
  'etc/init.d',
  'lib',
  'mnt',
  'proc',
  'run',
  'sbin',
  'sys',
  'usr',
  'usr/bin',
  'usr/sbin',
  'var',
  'var/log',
];

/** All but busybox and the kernel's modules. */
function fixedEntries(): CpioEntry[] {
  const file = (name: string, mode: number, text: string): CpioEntry => ({
    type: 'file',
    name,
    mode,
    data: Buffer.from(text),
  });
  return [
    ...DIRECTORIES.map((name): CpioEntry => ({ type: 'directory', name, mode: 0o755 })),
    { type: 'directory', name: 'root', mode: 0o700 },
    { type: 'directory', name: 'tmp', mode: 0o1777 },
    { type: 'symlink', name: 'var/run', target: '../run' },
    { type: 'symlink', name: 'bin/sh', target: 'busybox' },
    // The kernel opens it for pid 1, before anything is mounted.
    { type: 'character', name: 'dev/console', mode: 0o600, major: 5, minor: 1 },
    { type: 'character', name: 'dev/null', mode: 0o666, major: 1, minor: 3 },
    file('init', 0o755, INIT),
    file('etc/inittab', 0o644, INITTAB),
    file('etc/init.d/devices', 0o644, DEVICES),
    file('etc/init.d/root', 0o644, ROOT),
    file('etc/init.d/rcS', 0o755, RCS),
    file('etc/init.d/console', 0o755, CONSOLE),
    file('etc/profile', 0o644, PROFILE),
    file('etc/udhcpc.script', 0o755, UDHCPC),
    file('etc/hostname', 0o644, 'vivarium\n'),
    file('etc/hosts', 0o644, '127.0.0.1 localhost vivarium\n::1 localhost\n'),
    file('etc/passwd', 0o644, 'root:x:0:0:root:/root:/bin/sh\n'),
    file('etc/group', 0o644, 'root:x:0:\ntty:x:5:\n'),
  ];
}

/**
 * The archive, not compressed. Without modules and busybox it tells whether one made earlier is still what this version
 * would make.
 * @param kernelVersion what `uname -r` says in the guest
 * @param busybox a static busybox for x86-64
 */
export function writeInitramfs(kernelVersion: string, busybox: Uint8Array, modules: readonly KernelModule[]): Buffer {
  const entries: CpioEntry[] = [...fixedEntries(), { type: 'file', name: 'bin/busybox', mode: 0o755, data: busybox }];
  const have = new Set(entries.map((entry) => entry.name));
  for (const entry of moduleEntries(`lib/modules/${kernelVersion}`, modules)) {
    entries.push(...missingParents(entry.name, have), entry);
  }
  return writeCpio(entries);
}
