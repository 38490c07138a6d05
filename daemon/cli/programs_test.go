package cli

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Go's own source tree goes in, and comes back the same: at once, after a remount, with
// cache, journal and state wiped, and on another machine that has the phrase and a copy
// of the IPFS repo.
func TestSourceTreeSurvivesEverything(t *testing.T) {
	t.Parallel()
	need(t, "cp", "find", "sha256sum")
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("no Go to take a source tree from: ", err)
	}
	src := filepath.Join(strings.TrimSpace(string(root)), "src")
	want := sums(t, src)

	d := newDrive(t)
	d.sh(`cp -a "$1" tree`, src)
	same := func(d *drive, when string) {
		t.Helper()
		if got := sums(t, d.on("tree")); got != want {
			t.Fatalf("%s: the tree differs: %s", when, firstDifference(got, want))
		}
	}
	same(d, "after the copy")
	d.umount()
	d.mount()
	same(d, "after a remount")
	d.umount()
	for _, dir := range []string{d.home.Cache, d.home.Journal, d.home.Staging, d.home.State} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	d.mount("--accept-missing-state")
	same(d, "with keystore and repo alone")
	did := d.status().DID
	d.umount()

	other := newHome(t)
	other.ok("init", "--passfile", other.path("pass"), "--phrase-in", d.path("phrase"))
	if err := os.CopyFS(other.home.IPFS, os.DirFS(d.home.IPFS)); err != nil {
		t.Fatal(err)
	}
	other.login()
	other.mount()
	same(other, "restored from the phrase and a copy of the repo")
	if got := other.status().DID; got != did {
		t.Fatalf("the phrase gives %s, not %s", got, did)
	}
	other.sh(`echo more > tree/more`)
	other.umount()
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return x[i] + " instead of " + y[i]
		}
	}
	return "one is longer"
}

func TestOrdinaryPrograms(t *testing.T) {
	t.Parallel()
	d := newDrive(t)
	for name, c := range map[string]struct {
		needs  []string
		script string
	}{
		"git": {[]string{"git"}, `git init -q origin; cd origin; for i in $(seq 300); do mkdir -p d$((i%17)); echo $i > d$((i%17))/f$i; done
git add .; git commit -qm one; for i in $(seq 50); do echo x >> d$((i%17))/f$i; done; git commit -qam two; git gc -q; git fsck --strict
cd ..; git clone -q --no-local origin clone; git -C clone fsck --strict; diff -r origin/d3 clone/d3; test -z "$(git -C clone status --porcelain)"`},
		"go build": {[]string{"go"}, `mkdir m; cd m; printf 'module example.test/m\ngo 1.21\n' > go.mod
printf 'package main\nimport "fmt"\nfunc main() { fmt.Println("built") }\n' > main.go
GOFLAGS=-mod=mod GOCACHE="$PWD/cache" go build -o prog . && test "$(./prog)" = built`},
		"sqlite": {[]string{"sqlite3"}, `for mode in wal delete truncate; do rm -f db*; sqlite3 db "pragma journal_mode=$mode; create table t(a integer primary key, b text);" >/dev/null
for i in $(seq 20); do echo "begin; insert into t(b) select hex(randomblob(100)) from generate_series(1,50); commit;"; done | sqlite3 db
echo "update t set b = 'x' where a % 3 = 0; delete from t where a % 5 = 0; vacuum;" | sqlite3 db
test "$(sqlite3 db 'pragma integrity_check')" = ok; test "$(sqlite3 db 'select count(*) from t')" = 800; done`},
		"rsync": {[]string{"rsync"}, `mkdir from; cd from; for i in $(seq 100); do echo $i > f$i; done; ln f1 hard; ln -s f2 soft; mkdir -m 1750 dir; touch -d '2001-02-03 04:05:06.789' dir/old
chown 1234:2345 f3 2>/dev/null || true; setfattr -n user.color -v blue f4 2>/dev/null || true; truncate -s 1M dir/sparse; cd ..
rsync -aHAXS from/ to/; test -z "$(rsync -aHAXSin --checksum from/ to/)"; test from/f1 -ef from/hard; test to/f1 -ef to/hard; test "$(stat -c %y to/dir/old)" = "$(stat -c %y from/dir/old)"`},
		"editor": {nil, `echo one > doc; for i in $(seq 20); do cp doc .doc.tmp; echo line $i >> .doc.tmp; sync .doc.tmp; mv .doc.tmp doc; done; test $(wc -l < doc) = 21; test ! -e .doc.tmp`},
		"tar":    {[]string{"tar"}, `mkdir -p t/a/b; seq 10000 > t/a/b/seq; ln -s nowhere t/dangling; mkfifo t/pipe; tar -cf t.tar t; mkdir x; tar -C x -xf t.tar; diff t/a/b/seq x/t/a/b/seq; test -p x/t/pipe; tar -df t.tar`},
		"find, du, df": {nil, `mkdir u; head -c 1000000 /dev/zero > u/zeros; head -c 100 /dev/zero > u/small; test "$(find u -type f | wc -l)" = 2
k=$(du -k u | cut -f1); test "$k" -ge 970 && test "$k" -le 1100; df -P . | tail -1 | awk '{ exit !($4 > 0 && $2 >= $4) }'; df -Pi . | tail -1 | awk '{ exit !($2 > 0) }'`},
	} {
		t.Run(name, func(t *testing.T) {
			need(t, c.needs...)
			dir := d.on(strings.ReplaceAll(name, " ", "-"))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if out, err := shell(dir, c.script); err != nil {
				t.Fatalf("%s %v", out, err)
			}
		})
	}
	if s := d.status(); len(s.Alerts) > 0 || s.LastError != "" {
		t.Fatalf("%+v", s)
	}
	before := sums(t, d.mnt)
	d.umount()
	d.mount()
	if after := sums(t, d.mnt); after != before {
		t.Fatalf("after a remount: %s", firstDifference(after, before))
	}
}

// Two processes map one file and see each other's writes.
func TestSharedMemoryMap(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	d := newDrive(t)
	d.sh(`truncate -s 1M m
cat > w.py <<'P'
import mmap, sys, time
f = open('m', 'r+b'); m = mmap.mmap(f.fileno(), 0); me, other = int(sys.argv[1]), 1 - int(sys.argv[1])
for i in range(1, 200):
    m[me*4096:me*4096+4] = i.to_bytes(4, 'big')
    end = time.monotonic() + 60
    while int.from_bytes(m[other*4096:other*4096+4], 'big') < i:
        if time.monotonic() > end: sys.exit('the other process is not seen')
m.flush()
P
python3 w.py 0 & first=$!; python3 w.py 1; wait $first
test "$(od -An -tx1 -j0 -N4 m | tr -d ' ')" = 000000c7; test "$(od -An -tx1 -j4096 -N4 m | tr -d ' ')" = 000000c7`)
	before := sums(t, d.mnt)
	d.umount()
	d.mount()
	if after := sums(t, d.mnt); after != before {
		t.Fatal("mapped writes did not survive a remount")
	}
}

// What system calls promise that no ordinary program above uses.
func TestSystemCalls(t *testing.T) {
	t.Parallel()
	d := newDrive(t)
	path := d.on("f")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	if err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 8192); err != nil {
		t.Fatal("punching a hole:", err)
	}
	clear(data[4096 : 4096+8192])
	if at, err := f.Seek(0, unix.SEEK_HOLE); err != nil || at != 4096 {
		t.Fatalf("the hole is at %d, %v", at, err)
	}
	if at, err := f.Seek(5000, unix.SEEK_DATA); err != nil || at != 12288 {
		t.Fatalf("the data is at %d, %v", at, err)
	}
	g, err := os.Create(d.on("g"))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for off := int64(0); off < int64(len(data)); {
		in, out := off, off
		n, err := unix.CopyFileRange(fd, &in, int(g.Fd()), &out, len(data)-int(off), 0)
		if err != nil || n == 0 {
			t.Fatalf("copy_file_range: %d, %v", n, err)
		}
		off += int64(n)
	}
	if got, err := os.ReadFile(d.on("g")); err != nil || !bytes.Equal(got, data) {
		t.Fatal("the copy differs", err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, d.on("g"), unix.RENAME_NOREPLACE); !errors.Is(err, unix.EEXIST) {
		t.Fatal("RENAME_NOREPLACE:", err)
	}
	if err := os.WriteFile(d.on("other"), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, d.on("g"), unix.AT_FDCWD, d.on("other"), unix.RENAME_EXCHANGE); err != nil {
		t.Fatal("RENAME_EXCHANGE:", err)
	}
	if b, err := os.ReadFile(d.on("g")); err != nil || string(b) != "other" {
		t.Fatalf("%q, %v", b, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	d.ok("sync")
	got := make([]byte, len(data))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
		t.Fatal("a file that was unlinked while open:", err)
	}
	name := string(bytes.Repeat([]byte{0xff, 'n', '\n'}, 85))
	if err := os.WriteFile(d.on(name), nil, 0o600); err != nil {
		t.Fatal("a name of 255 odd bytes:", err)
	}
	if err := os.WriteFile(d.on(name+"x"), nil, 0o600); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Fatal("a name of 256 bytes:", err)
	}
	for _, sync := range []int{unix.O_SYNC, unix.O_DSYNC} {
		s, err := os.OpenFile(d.on("synced"), os.O_WRONLY|os.O_CREATE|sync, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.WriteString("synced"); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	dir, err := os.Open(d.mnt)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		t.Fatal("fsync of a directory:", err)
	}
}
