package fuse

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Without allow_other the drive is for who mounted it; with it, modes and owners decide.
func TestAllowOther(t *testing.T) {
	needRoot(t)
	for _, x := range []struct {
		options string
		want    error
	}{{"", unix.EACCES}, {"allow_other", nil}} {
		g := drive(t, x.options)
		path := filepath.Join(g.dir, "file")
		if err := os.WriteFile(path, []byte("text"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"a", "b"} {
			g.actor(user).do(func() {
				var st unix.Stat_t
				for what, err := range map[string]error{
					"stat of the top":   unix.Stat(g.dir, &st),
					"stat of a file":    unix.Stat(path, &st),
					"access":            unix.Access(path, unix.R_OK),
					"chdir":             unix.Chdir(g.dir),
					"reading the names": readNames(g.dir),
				} {
					if !errors.Is(err, x.want) {
						t.Errorf("with %q, %s by %s: %v, want %v", x.options, what, user, err, x.want)
					}
				}
				if err := unix.Mkdir(filepath.Join(g.dir, "x"), 0o755); !errors.Is(err, unix.EACCES) {
					t.Errorf("with %q, mkdir by %s: %v", x.options, user, err)
				}
			})
		}
	}
}

func readNames(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.ReadDirent(fd, make([]byte, 4096))
	return err
}

// Two users with different rights and a group in common work on the drive with ordinary
// programs. What each of them may do, and what becomes of it, is as on the local disk.
func TestSeveralUsers(t *testing.T) {
	needRoot(t)
	for _, p := range []string{"setpriv", "bash"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip("needs ", p, ": ", err)
		}
	}
	const script = `
exec 2>&1
export LC_ALL=C
a() { setpriv --reuid 60001 --regid 60001 --groups 60100 bash -c "umask ${mask:-022}; $1"; echo "a: $1: $?"; }
b() { setpriv --reuid 60002 --regid 60002 --groups 60100 bash -c "umask ${mask:-022}; $1"; echo "b: $1: $?"; }
c() { setpriv --reuid 60003 --regid 60003 --clear-groups bash -c "umask ${mask:-022}; $1"; echo "c: $1: $?"; }
mkdir home-a home-b shared drop; chown 60001:60001 home-a; chown 60002:60002 home-b; chmod 700 home-a; chmod 755 home-b
chgrp 60100 shared; chmod 2770 shared; chmod 1777 drop
a 'echo secret > home-a/secret; ln home-a/secret home-a/again; ln -s ../home-b/open home-a/link'
b 'cat home-a/secret'; b 'ls home-a'; b 'cat < home-a/link'; b 'echo open > home-b/open'; a 'cat home-a/link'
a 'echo more >> home-a/link'; b 'chmod 666 home-b/open'; a 'echo more >> home-a/link'; c 'cat home-b/open'
a 'echo one > shared/one; mkdir shared/dir'; b 'echo two >> shared/one'; mask=002 a 'echo more > shared/more'; b 'echo two >> shared/more'
b 'rm -f shared/one; touch shared/dir/x'; c 'ls shared'; c 'cat shared/more'
a 'chown 60002 shared/more'; a 'chgrp 60002 shared/more'; a 'chmod g+s shared/more'; b 'chmod 600 shared/more'; a 'touch -d @1000 shared/more'; b 'touch -d @1000 shared/more'; b 'touch shared/more'
a 'echo x > drop/a'; b 'rm -f drop/a'; b 'mv drop/a drop/b'; b 'echo y > drop/b; mv drop/b drop/a'; a 'mv drop/a drop/c'; c 'rm -rf drop/c drop'
a 'cp /bin/true home-a/run; chmod 4755 home-a/run'; chmod 711 home-a; b 'home-a/run'; b 'cat home-a/run > /dev/null'; b 'ls home-a'
a 'mkfifo drop/fifo; mknod drop/null c 1 3'; b 'chmod 777 drop/fifo'
b 'find . -newer nothing'; c 'du -s home-a > /dev/null'
chmod 755 home-a
find . | sort | xargs ls -lnd | awk '{print $1, $2, $3, $4, $NF}'
cat shared/more home-b/open
`
	run := func(dir string) (out string) {
		work := filepath.Join(dir, "work")
		if err := os.Mkdir(work, 0o755); err != nil {
			t.Fatal(err)
		}
		within(t, 2*time.Minute, "the users' programs", func() error {
			cmd := exec.Command("bash", "-c", script)
			cmd.Dir = work
			b, err := cmd.CombinedOutput()
			out = string(b)
			return err
		})
		return out
	}
	want := run(local(t).dir)
	for _, options := range []string{"allow_other", "allow_other,acl"} {
		if got := run(drive(t, options).dir); got != want {
			t.Errorf("with %s, on the drive:\n%s\non the local disk:\n%s", options, got, want)
		}
	}
}
