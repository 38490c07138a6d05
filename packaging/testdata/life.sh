#!/bin/bash
# The life of a package in a clean system: installed, used, upgraded while it is in use,
# removed, purged, installed again. Runs in that system, with the packages in /packages.
set -euxo pipefail
exec 2>&1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
set +x
die() {
	echo "life.sh: $*"
	exit 1
}
ended() { # the daemon's last words go to its log
	while grep -qs ^ipfscloud /proc/[0-9]*/cmdline; do sleep 0.1; done
}
set -x

# Installed.
dpkg -i /packages/old/ipfscloud_*.deb
[ -z "$(dpkg --verify ipfscloud)" ] || die "what is installed is not what was packed"
version=$(ipfscloud version | cut -d' ' -f2)
[[ $(dpkg-query -W -f '${Version}' ipfscloud) == "${version/-/\~}-1" ]] || die "the package has another version than the program"
[ "$(readlink -f /sbin/mount.ipfscloud)" = /usr/bin/ipfscloud ] || die "mount(8) does not find its helper"
[ -e /usr/share/doc/ipfscloud/old ]
grep -q older /etc/ipfscloud/config.toml

# The drive of the machine, as the operator's guide has it, and what a user has.
install -m 600 /dev/stdin /etc/ipfscloud/pass <<<"correct horse battery staple"
env -u HOME ipfscloud init --passfile /etc/ipfscloud/pass --phrase-out /root/phrase
mkdir -p /mnt/cloud /home/ada/.local/state/ipfscloud/keystore /home/ada/.config/ipfscloud
echo precious >/home/ada/.local/state/ipfscloud/keystore/identity
echo 'durability = "local"' >/home/ada/.config/ipfscloud/config.toml
mkdir -p /var/cache/ipfscloud /var/lib/ipfscloud-one
echo precious | tee /var/cache/ipfscloud/block /var/lib/ipfscloud-one/state
echo 'ipfscloud /mnt/cloud ipfscloud noauto,nofail,_netdev,allow_other,passfile=/etc/ipfscloud/pass 0 0' >>/etc/fstab
echo 'durability = "ipfs"' >>/etc/ipfscloud/config.toml
env -i mount /mnt/cloud
[ "$(findmnt -n -o SOURCE,FSTYPE /mnt/cloud)" = "ipfscloud fuse.ipfscloud" ]
env -u HOME ipfscloud status --json | grep -q '"durability":"ipfs"' || die "/etc/ipfscloud/config.toml is not read"
echo "kept" >/mnt/cloud/file

# Upgraded while the drive is mounted: it goes on, and a changed configuration stays.
dpkg --force-confold -i /packages/new/ipfscloud_*.deb
! dpkg --verify ipfscloud | grep -v config.toml || die "what is installed is not what was packed"
[ "$(dpkg-query -W -f '${Version}' ipfscloud)" = "${version/-/\~}-2" ]
[ ! -e /usr/share/doc/ipfscloud/old ] || die "a file of the old version is left"
grep -q older /etc/ipfscloud/config.toml
! grep -q older /etc/ipfscloud/config.toml.dpkg-dist || die "the new configuration is not beside it"
echo "and more" >>/mnt/cloud/file
env -u HOME ipfscloud umount --flush /mnt/cloud
env -i mount /mnt/cloud
[ "$(cat /mnt/cloud/file)" = $'kept\nand more' ]
env -u HOME ipfscloud umount --flush /mnt/cloud
ended

manifest() {
	find /home /root /var/lib/ipfscloud* /var/cache/ipfscloud /etc/ipfscloud/pass /mnt -printf '%p %m %U %s %T@\n' | sort
	find /home /var/lib/ipfscloud* /var/cache/ipfscloud -type f -print0 | sort -z | xargs -0 sha256sum
}
manifest >/before

# Removed: the program is gone, configuration and data stay.
dpkg -r ipfscloud
! command -v ipfscloud || die "the program is left"
[ -z "$(find /usr /lib /sbin -name '*ipfscloud*')" ] || die "files are left"
[ -e /etc/ipfscloud/config.toml ] || die "the configuration went with a mere remove"
manifest | diff /before -

# Purged: its configuration is gone too. What people made stays, and that is said.
mkdir -p /etc/systemd/system/multi-user.target.wants
ln -s /usr/lib/systemd/system/ipfscloud.service /etc/systemd/system/multi-user.target.wants/
dpkg -P ipfscloud | tee /said
[ ! -e /etc/ipfscloud/config.toml ] || die "the configuration is left"
[ ! -L /etc/systemd/system/multi-user.target.wants/ipfscloud.service ] || die "an enabled unit is left that is none"
manifest | diff /before -
grep -q "/var/lib/ipfscloud stays" /said
! dpkg -s ipfscloud || die "dpkg still knows it"

# Installed again: the drive is there.
dpkg -i /packages/new/ipfscloud_*.deb
env -i mount /mnt/cloud
[ "$(cat /mnt/cloud/file)" = $'kept\nand more' ]
umount /mnt/cloud
ended

# An Egress node, with the programs of its own package.
dpkg -i /packages/egress/ipfscloud-egress_*.deb
export IPFSCLOUD_HOME=/var/lib/ipfscloud-egress
timeout 180 ipfscloud egress up --peers 1
ipfscloud egress status
ipfscloud egress down
echo "life.sh: all of it"
