package cli

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/cluster-labs/ipfscloud/daemon"
)

// An ordinary user mounts through fusermount3, with a process that nobody may trace. The
// test has a mount namespace of its own, in which /dev/fuse is for everyone, as
// distributions have it.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "unshare", "setpriv", "mknod", "fusermount3")
	d := newHome(t)
	const asRoot = `umount -c -l -a -t fuse.ipfscloud || true # drives of other tests: this namespace would keep them mounted
mknod fuse c 10 229; chmod 666 fuse; mount --bind fuse /dev/fuse
touch ipfscloud; mount --bind "$1" ipfscloud; chown -R 65534:65534 . 2>/dev/null || true
exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -euc "$2"`
	const asUser = `test "$(id -u)" = 65534
./ipfscloud init --passfile pass --phrase-out phrase
./ipfscloud login --passfile pass
./ipfscloud mount -d mnt
pid=$(./ipfscloud status --json | grep -o '"pid":[0-9]*' | cut -d: -f2)
for p in environ mem; do test "$(stat -c %u /proc/$pid/$p)" = 0; done # not dumpable
echo text > mnt/file; ln mnt/file mnt/name; chmod 640 mnt/file; test "$(cat mnt/name)" = text
test "$(stat -c '%u %a %h' mnt/name)" = '65534 640 2'
grep -q ' fuse.ipfscloud rw,nosuid,nodev' /proc/self/mounts
exec 5< mnt/file; ! ./ipfscloud umount mnt 2> problem; grep -q 'in use\|busy' problem; exec 5<&-
./ipfscloud umount --flush mnt
./ipfscloud mount -d mnt; test "$(cat mnt/file)" = text
! fusermount3 -u nowhere 2>/dev/null; fusermount3 -u mnt
while ! ./ipfscloud mount -d mnt 2> problem; do grep -q 'another daemon' problem; done
./ipfscloud umount mnt
./ipfscloud logout
for s in run/*; do test "$(stat -c %a "$s")" = 600 || { ls -l run; exit 1; }; done; test "$(stat -c %a run)" = 700`
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "-m", "sh", "-euc", asRoot, "sh", self, asUser)
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), mainEnv+"=1", daemon.HomeEnv+"="+d.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s%s", err, out, d.log())
	}
}
