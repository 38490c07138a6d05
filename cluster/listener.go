package cluster

import (
	"bufio"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// sameServer says whether the user who serves an endpoint on this machine also serves an
// address on this machine. What cannot be found out is no.
func sameServer(p *place, a netip.AddrPort) bool {
	theirs, ok := p.owners()
	if !ok {
		return false
	}
	listening := listeners(a)
	return len(listening) > 0 && !slices.ContainsFunc(listening, func(uid uint32) bool { return !slices.Contains(theirs, uid) })
}

// owners are the users who serve an endpoint on this machine.
func (p *place) owners() ([]uint32, bool) {
	if p.path != "" {
		st, err := os.Stat(p.path)
		if err != nil {
			return nil, false
		}
		s, ok := st.Sys().(*syscall.Stat_t)
		if !ok {
			return nil, false
		}
		return []uint32{s.Uid}, true
	}
	at := p.addr
	if !at.IsValid() {
		at = netip.AddrFrom4([4]byte{127, 0, 0, 1}) // localhost
	}
	all := listeners(netip.AddrPortFrom(at, p.port))
	if !p.addr.IsValid() {
		all = append(all, listeners(netip.AddrPortFrom(netip.IPv6Loopback(), p.port))...)
	}
	return all, len(all) > 0
}

// listeners are the users of the sockets that take connections to an address of this
// machine.
func listeners(a netip.AddrPort) []uint32 {
	var all []uint32
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		all = append(all, listening(f, a)...)
		f.Close() //nolint:errcheck // it was read
	}
	return all
}

const stateListen = "0A"

// listening reads a table of sockets as the kernel prints it: local address in the second
// column, state in the fourth, user in the eighth.
func listening(r io.Reader, a netip.AddrPort) (uids []uint32) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		col := strings.Fields(lines.Text())
		if len(col) < 8 || col[3] != stateListen {
			continue
		}
		at, ok := kernelAddr(col[1])
		if !ok || at.Port() != a.Port() || at.Addr() != a.Addr().Unmap() && !at.Addr().IsUnspecified() {
			continue
		}
		if uid, err := strconv.ParseUint(col[7], 10, 32); err == nil {
			uids = append(uids, uint32(uid))
		}
	}
	return uids
}

// kernelAddr reads an address such as 0100007F:1F90: each four bytes in the order of this
// machine, which is little-endian on all that this is built for.
func kernelAddr(s string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	n, portErr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || portErr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), ok
}
