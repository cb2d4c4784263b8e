/** What is in the default guest's root disk: the packages, and what is changed after their installation. */

/** Beside those that each Debian has. */
export const SYSTEM_PACKAGES: readonly string[] = [
  'systemd-sysv',
  'systemd-resolved',
  'udev',
  'dbus',
  'ca-certificates',
  'gcc',
  'libc6-dev',
  'make',
  'iproute2',
  'iputils-ping',
  'kmod',
  'procps',
  'less',
  'nano',
];

/** A shell script, whose $1 is the system's folder. */
export const CUSTOMIZATION = `\
set -e
cd "$1"
echo vivarium >etc/hostname
printf '127.0.0.1 localhost vivarium\\n::1 localhost\\n' >etc/hosts
# The kernel's modules come from the initial RAM disk, and each boot makes its own number of the machine.
mkdir -p usr/lib/modules
: >etc/machine-id
chroot . passwd --quiet --delete root
mkdir -p etc/systemd/system/serial-getty@ttyS0.service.d
cat >etc/systemd/system/serial-getty@ttyS0.service.d/login.conf <<'END'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --keep-baud 115200 %I $TERM
END
cat >etc/systemd/network/80-dhcp.network <<'END'
[Match]
Type=ether
[Network]
DHCP=yes
[DHCPv4]
ClientIdentifier=mac
END
ln -sf /run/systemd/resolve/stub-resolv.conf etc/resolv.conf
enable() {
  mkdir -p "etc/systemd/system/$2.wants"
  ln -sf "/lib/systemd/system/$1" "etc/systemd/system/$2.wants/$1"
}
enable systemd-networkd.service multi-user.target
enable systemd-resolved.service multi-user.target
# What a guest of a minute has no use for.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \\
  getty@tty1.service proc-sys-fs-binfmt_misc.automount systemd-networkd-wait-online.service fstrim.timer; do
  ln -sf /dev/null "etc/systemd/system/$unit"
done
# What keeps services from starting while packages are installed: mmdebstrap takes it away after its hooks, which is too late here.
rm -f usr/sbin/policy-rc.d
if [ -e sbin/start-stop-daemon.REAL ]; then mv sbin/start-stop-daemon.REAL sbin/start-stop-daemon; fi
rm -rf var/cache/apt/archives/*.deb var/cache/apt/*.bin var/lib/apt/lists/*_* var/log/*.log var/log/apt/*
`;
