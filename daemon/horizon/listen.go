package horizon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A browser that is sent to a name under .localhost tries ::1 and 127.0.0.1, in an order of
// its own. If only one of them were ours, another user of the machine could take the same
// port at the other, and would be handed what is meant for us. So the page has both
// addresses, or it has none.

const portTries = 100 // ports that are free at one address, and taken at the other

func four() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }
func six() netip.Addr  { return netip.IPv6Loopback() }

// own takes a port at both addresses, and at the one that is asked for if that is another.
// given are listeners that were made before, which count; what is missing is added. Where
// the kernel has no IPv6 at all the listener for it is missing, and lacks is true.
func own(listen string, given []net.Listener) (all []net.Listener, lacks bool, err error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, false, err
	}
	asked, err := netip.ParseAddr(host)
	if err != nil || !asked.IsLoopback() {
		return nil, false, fmt.Errorf("%s is not a loopback address", host)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, false, fmt.Errorf("port %.20q: %w", port, err)
	}
	want := []netip.Addr{asked, four(), six()}
	for _, l := range given {
		a, err := netip.ParseAddrPort(l.Addr().String())
		if err != nil || !a.Addr().Unmap().IsLoopback() {
			return nil, false, fmt.Errorf("%s is not a loopback address", l.Addr())
		}
		if uint64(a.Port()) != number {
			return nil, false, fmt.Errorf("%s and %s have different ports; the page has one", given[0].Addr(), l.Addr())
		}
		want = slices.DeleteFunc(want, func(x netip.Addr) bool { return x == a.Addr().Unmap() })
	}
	for range portTries {
		all, lacks, err = take(want, uint16(number), given)
		if number != 0 || !errors.Is(err, unix.EADDRINUSE) {
			return all, lacks, err
		}
	}
	return nil, false, err
}

// take takes one port at all addresses, or closes what it has taken.
func take(want []netip.Addr, port uint16, given []net.Listener) (all []net.Listener, lacks bool, err error) {
	defer func() {
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			all = nil
		}
	}()
	have := map[netip.Addr]bool{}
	for _, a := range want {
		if have[a] {
			continue
		}
		have[a] = true
		l, err := listenAt(netip.AddrPortFrom(a, port))
		if a == six() && noSuchAddress(err) {
			lacks = true
			continue
		}
		if errors.Is(err, unix.EADDRINUSE) && len(all)+len(given) > 0 {
			err = fmt.Errorf("another program has the port at %s, where a browser may look first: %w", a, err)
		}
		if err != nil {
			return all, false, err
		}
		all = append(all, l)
		if p, perr := netip.ParseAddrPort(l.Addr().String()); perr == nil {
			port = p.Port()
		}
	}
	return append(slices.Clone(given), all...), lacks, nil
}

func noSuchAddress(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// listenAt listens at one address. ::1 is taken also while IPv6 is turned off on this
// machine: it may be turned on later, and then the address must be ours already.
func listenAt(a netip.AddrPort) (net.Listener, error) {
	var c net.ListenConfig
	network := "tcp4"
	if a.Addr().Is6() {
		network = "tcp6"
		c.Control = func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) {
				// Where it is not known, listening says whether the address is there.
				_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
			})
		}
	}
	return c.Listen(context.Background(), network, a.String())
}
