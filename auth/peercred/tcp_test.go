package peercred

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// Of a connection over loopback it is known whose it is, by both ways of asking.
func TestTCP(t *testing.T) {
	if err := TCPWorks(); err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", where)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		check := func(who string, want uint32, c net.Conn) {
			t.Helper()
			at, to := netip.MustParseAddrPort(c.RemoteAddr().String()), netip.MustParseAddrPort(c.LocalAddr().String())
			for how, f := range map[string]func(at, to netip.AddrPort) (uint32, error){"asked": asked, "listed": listed} {
				if uid, err := f(at, to); err != nil || uid != want {
					t.Errorf("%s at %s, %s: %d %v", who, where, how, uid, err)
				}
			}
		}
		mine, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		check("ours", uint32(os.Geteuid()), c)
		mine.Close()
		// The kernel says root of what has no process any more.
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			_, err := TCP(c)
			at, to := netip.MustParseAddrPort(c.RemoteAddr().String()), netip.MustParseAddrPort(c.LocalAddr().String())
			_, lerr := listed(at, to)
			if errors.Is(err, ErrNoPeer) && errors.Is(lerr, ErrNoPeer) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("a closed socket: %v, %v", err, lerr)
			}
		}
		if os.Geteuid() != 0 {
			continue
		}
		said, _ := as(t, 65534, "tcp", l.Addr().String())
		if !strings.HasPrefix(said, "connected") {
			t.Fatal(said)
		}
		if c, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		check("nobody's", 65534, c)
	}
}
