package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal with a program on it.
type terminal struct {
	t   *testing.T
	f   *os.File
	buf string
}

// expect reads until the pattern appears and returns its groups and what came before.
func (x *terminal) expect(pattern string) (groups []string, before string) {
	x.t.Helper()
	re := regexp.MustCompile(pattern)
	if err := x.f.SetReadDeadline(time.Now().Add(longest)); err != nil {
		x.t.Fatal(err)
	}
	for {
		if m := re.FindStringSubmatchIndex(x.buf); m != nil {
			for i := 0; i < len(m); i += 2 {
				groups = append(groups, x.buf[m[i]:m[i+1]])
			}
			before = x.buf[:m[0]]
			x.buf = x.buf[m[1]:]
			return groups, before
		}
		b := make([]byte, 4096)
		n, err := x.f.Read(b)
		x.buf += string(b[:n])
		if err != nil {
			x.t.Fatalf("waiting for %q: %v; the terminal shows %q", pattern, err, x.buf)
		}
	}
}

func (x *terminal) enter(text string) {
	x.t.Helper()
	if _, err := x.f.WriteString(text + "\n"); err != nil {
		x.t.Fatal(err)
	}
}

func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { master.Close() })
	return master, slave
}

// A newcomer types `ipfscloud up`, writes, presses Ctrl-C; and comes back the next day.
func TestUpOnATerminal(t *testing.T) {
	t.Parallel()
	d := newHome(t)
	for _, first := range []bool{true, false} {
		master, slave := openTerminal(t)
		x := &terminal{t: t, f: master}
		ctx, cancel := context.WithTimeout(context.Background(), 2*longest)
		defer cancel()
		cmd := d.command(ctx, "up", d.mnt)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		slave.Close()
		if first {
			x.newIdentity()
		} else {
			x.expect(`Passphrase: `)
			x.enter("a good passphrase")
		}
		x.expect(`Your drive is at [^\r\n]*`)
		if first {
			if err := os.WriteFile(d.on("hello"), []byte("hello"), 0o600); err != nil {
				t.Fatal(err)
			}
			x.expect(`waiting: [1-9]`)
			if s := d.status(); s.PhrasePending {
				t.Error("the phrase was confirmed, and status says it was not")
			}
		} else if b, err := os.ReadFile(d.on("hello")); err != nil || string(b) != "hello" {
			t.Errorf("%q, %v", b, err)
		}
		x.enter("\x03")
		if err := cmd.Wait(); err != nil {
			t.Fatalf("up ended with %v: %s", err, x.buf)
		}
		if b, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(b), d.mnt) {
			t.Fatal("the drive is still mounted", err)
		}
		if _, err := os.Stat(d.on("hello")); !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// newIdentity answers what a first run asks.
func (x *terminal) newIdentity() {
	x.t.Helper()
	x.expect(`New passphrase: `)
	x.enter("a good passphrase")
	x.expect(`Once more: `)
	x.enter("a good passphrase")
	_, shown := x.expect(`Press Enter`)
	words := map[int]string{}
	for _, m := range regexp.MustCompile(`(\d+)\. (\w+)`).FindAllStringSubmatch(shown, -1) {
		n, _ := strconv.Atoi(m[1])
		words[n] = m[2]
	}
	if len(words) != 24 {
		x.t.Fatalf("%d words are shown: %q", len(words), shown)
	}
	x.enter("")
	for range 2 {
		m, _ := x.expect(`Word (\d+): `)
		n, _ := strconv.Atoi(m[1])
		x.enter(words[n])
	}
	x.expect(`Your identity is did:webvh:Qm\w+:k51\w+\.ipns\.dweb\.link`)
}
