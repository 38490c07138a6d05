#!/usr/bin/env bash
# Installs what the tests (or the benchmarks) need beyond Go. As root on Debian it uses
# apt; else it says what is missing and how to get it, and fails only if the tests cannot
# run at all without it: a single test that misses its program says so and is skipped.
#
#   contrib/needs.sh test|bench
set -euo pipefail

# program:package
test_needs=(
	fusermount3:fuse3 git:git sqlite3:sqlite3 rsync:rsync tar:tar python3:python3 gcc:gcc
	xfs_io:xfsprogs mkfs.ext4:e2fsprogs setfattr:attr setfacl:acl losetup:mount findmnt:util-linux
	pgrep:procps
)
bench_needs=(fio:fio gocryptfs:gocryptfs)

case ${1-} in
test) needs=("${test_needs[@]}") ;;
bench) needs=("${test_needs[@]}" "${bench_needs[@]}") ;;
*)
	echo "usage: $0 test|bench" >&2
	exit 2
	;;
esac

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

missing() {
	local n
	for n in "${needs[@]}"; do
		command -v "${n%%:*}" >/dev/null || echo "${n#*:}"
	done
	# The race detector compiles a little C.
	[ -e /usr/include/stdlib.h ] || echo libc6-dev
}

mapfile -t packages < <(missing | sort -u)
[ ${#packages[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "Installing ${packages[*]}"
	export DEBIAN_FRONTEND=noninteractive
	apt-get install -y -q --no-install-recommends "${packages[@]}" >/dev/null 2>&1 ||
		{ apt-get update -q && apt-get install -y -q --no-install-recommends "${packages[@]}"; } >/dev/null ||
		echo "apt-get could not install them; the tests that need them are skipped" >&2
	mapfile -t packages < <(missing | sort -u)
	[ ${#packages[@]} -gt 0 ] || exit 0
fi

echo "Missing: ${packages[*]}" >&2
echo "Debian and Ubuntu: apt install ${packages[*]}" >&2
for p in "${packages[@]}"; do
	case $p in
	fuse3 | gcc | libc6-dev)
		echo "Nothing can be tested without $p." >&2
		exit 1
		;;
	esac
done
