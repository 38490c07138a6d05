package horizon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func listenTest(t *testing.T, where string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// The page has its port at both addresses where a browser looks, or it is not there.
func TestBothAddressesOrNone(t *testing.T) {
	s := serve(t)
	for _, host := range []string{"127.0.0.1", "::1"} {
		where := net.JoinHostPort(host, fmt.Sprint(s.Port()))
		if l, err := net.Listen("tcp", where); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("another program listens at %s: %v", where, err)
			if l != nil {
				l.Close()
			}
		}
		c, err := net.Dial("tcp", where)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /login HTTP/1.0\r\nHost: %s\r\n\r\n", s.name)
		b := make([]byte, 12)
		if _, err := c.Read(b); err != nil || string(b) != "HTTP/1.0 200" {
			t.Errorf("%s: %s %v", where, b, err)
		}
		c.Close()
	}
	for _, taken := range []string{"127.0.0.1", "::1"} {
		l := listenTest(t, net.JoinHostPort(taken, "0"))
		port := fmt.Sprint(portOf(l))
		for _, listen := range []string{"127.0.0.1:" + port, "[::1]:" + port, "127.0.0.9:" + port} {
			if s, err := New(Config{Source: &driven{}, Listen: listen}); !errors.Is(err, ErrListen) {
				t.Errorf("%s, with %s taken by another program: %v", listen, taken, err)
				if s != nil {
					s.Close()
				}
			}
		}
		// What it had taken before it failed is given back.
		for _, other := range []string{"127.0.0.1", "::1", "127.0.0.9"} {
			if other != taken {
				listenTest(t, net.JoinHostPort(other, port))
			}
		}
	}
}

// The sockets that systemd has made count; one that is missing is added.
func TestGivenListeners(t *testing.T) {
	both := func(given ...net.Listener) {
		t.Helper()
		s, err := New(Config{Source: &driven{}, Listeners: given})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var where []string
		for _, l := range s.listeners {
			where = append(where, netip.MustParseAddrPort(l.Addr().String()).Addr().String())
		}
		if len(where) != 2 || where[0] == where[1] || s.Port() != portOf(given[0]) {
			t.Errorf("%v at %d", where, s.Port())
		}
	}
	both(listenTest(t, "127.0.0.1:0"))
	both(listenTest(t, "[::1]:0"))
	one := listenTest(t, "127.0.0.1:0")
	two := listenTest(t, fmt.Sprintf("[::1]:%d", portOf(one)))
	both(one, two)
	for name, given := range map[string][]net.Listener{
		"different ports": {listenTest(t, "127.0.0.1:0"), listenTest(t, "[::1]:0")},
		"not loopback":    {listenTest(t, "0.0.0.0:0")},
		"no port":         {unixListener{}},
	} {
		if _, err := New(Config{Source: &driven{}, Listeners: given}); !errors.Is(err, ErrListen) {
			t.Errorf("%s: %v", name, err)
		}
	}
	half := listenTest(t, "127.0.0.1:0")
	listenTest(t, fmt.Sprintf("[::1]:%d", portOf(half)))
	if _, err := New(Config{Source: &driven{}, Listeners: []net.Listener{half}}); !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("the other address is taken: %v", err)
	}
}

type unixListener struct{ net.Listener }

func (unixListener) Addr() net.Addr { return &net.UnixAddr{Name: "/x", Net: "unix"} }

// inNewNetwork runs f in a network of its own with loopback alone, on a thread that ends
// with it.
func inNewNetwork(t *testing.T, f func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			ifr, err := unix.NewIfreq("lo")
			if err != nil {
				return err
			}
			ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
			if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
				return err
			}
			return f()
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// IPv6 that is turned off may be turned on later: ::1 is ours by then.
func TestIPv6TurnedOnLater(t *testing.T) {
	const off = "/proc/sys/net/ipv6/conf/lo/disable_ipv6"
	inNewNetwork(t, func() error {
		if err := os.WriteFile(off, []byte("1"), 0); err != nil {
			return err
		}
		if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
			l.Close()
			return errors.New("there is IPv6 all the same")
		}
		all, lacks, err := own("127.0.0.1:0", nil)
		if err != nil {
			return err
		}
		for _, l := range all {
			defer l.Close()
		}
		if len(all) != 2 || lacks {
			return fmt.Errorf("%d listeners, one is missing: %v", len(all), lacks)
		}
		if err := os.WriteFile(off, []byte("0"), 0); err != nil {
			return err
		}
		where := fmt.Sprintf("[::1]:%d", portOf(all[0]))
		if l, err := net.Listen("tcp", where); !errors.Is(err, unix.EADDRINUSE) {
			if l != nil {
				l.Close()
			}
			return fmt.Errorf("another program took %s when IPv6 was turned on: %v", where, err)
		}
		return nil
	})
}

// Where a kernel has no ::1 at all the page does without; once it has, the address is taken
// before a link is given out, or no link is.
func TestIPv6AppearsLater(t *testing.T) {
	o, err := New(Config{Source: &driven{}})
	if err != nil {
		t.Fatal(err)
	}
	// As on such a kernel: without the second listener, which is that of ::1.
	if err := o.listeners[1].Close(); err != nil {
		t.Fatal(err)
	}
	o.listeners, o.lacks = o.listeners[:1], true
	where := fmt.Sprintf("[::1]:%d", o.Port())
	thief, err := net.Listen("tcp", where)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Login(); !errors.Is(err, ErrListen) {
		t.Errorf("a link, though another program has %s: %v", where, err)
	}
	thief.Close()
	if _, err := o.Login(); err != nil {
		t.Error(err)
	}
	if l, err := net.Listen("tcp", where); err == nil {
		l.Close()
		t.Errorf("%s was not taken with the link", where)
	}
	o.Close()
}
