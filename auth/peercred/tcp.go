package peercred

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoPeer: no process of this machine has the other end of a connection.
var ErrNoPeer = errors.New("no process of this machine has that connection")

// TCP is the user of this machine who has the other end of a TCP connection: who made the
// socket, so of a port that SSH forwards the user who logged in. It is asked for when the
// connection is accepted. A socket that its process has closed meanwhile is ErrNoPeer: the
// kernel says 0, root, of one that nobody has any more.
func TCP(c net.Conn) (uint32, error) {
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return 0, fmt.Errorf("peer of a connection: %w", err)
	}
	remote, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return 0, fmt.Errorf("peer of a connection: %w", err)
	}
	return owner(plain(remote), plain(local))
}

// TCPWorks tells whether this system says who has a connection. Some sandboxes do not.
func TCPWorks() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.DialTimeout("tcp", l.Addr().String(), time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	a, err := l.Accept()
	if err != nil {
		return err
	}
	defer a.Close()
	uid, err := TCP(a)
	if err == nil && int(uid) != os.Geteuid() {
		err = fmt.Errorf("a connection of user %d is said to be that of %d", os.Geteuid(), uid)
	}
	return err
}

func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// owner is the user of the socket at "at" that is connected to "to".
func owner(at, to netip.AddrPort) (uint32, error) {
	uid, err := asked(at, to)
	if err == nil || errors.Is(err, ErrNoPeer) {
		return uid, err
	}
	// Without that kind of netlink sockets, as under some seccomp filters: the tables.
	uid, terr := listed(at, to)
	if terr != nil {
		return 0, fmt.Errorf("%w; %w", terr, err)
	}
	return uid, nil
}

const (
	sockDiagByFamily = 20
	diagUID          = unix.SizeofNlMsghdr + 64 // of inet_diag_msg
	diagInode        = diagUID + 4
)

// asked has the kernel look one socket up (sock_diag(7)), which takes the same time however
// many there are.
func asked(at, to netip.AddrPort) (uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, fmt.Errorf("sock_diag: %w", err)
	}
	defer unix.Close(fd)
	family := byte(unix.AF_INET)
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	m := make([]byte, unix.SizeofNlMsghdr, 128)
	native := binary.NativeEndian
	native.PutUint16(m[4:], sockDiagByFamily)
	native.PutUint16(m[6:], unix.NLM_F_REQUEST)
	native.PutUint32(m[8:], 1)
	m = append(m, family, unix.IPPROTO_TCP, 0, 0)
	m = native.AppendUint32(m, ^uint32(0)) // in any state
	m = binary.BigEndian.AppendUint16(m, at.Port())
	m = binary.BigEndian.AppendUint16(m, to.Port())
	for _, a := range []netip.Addr{at.Addr(), to.Addr()} {
		var b [16]byte
		copy(b[:], a.AsSlice())
		m = append(m, b[:]...)
	}
	m = native.AppendUint32(m, 0)          // any interface
	m = native.AppendUint64(m, ^uint64(0)) // no cookie
	native.PutUint32(m, uint32(len(m)))
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("sock_diag: %w", err)
	}
	b := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, b, 0) // the kernel answered within the call before
	if err != nil {
		return 0, fmt.Errorf("sock_diag: %w", err)
	}
	b = b[:n]
	switch kind := native.Uint16(b[4:]); {
	case kind == unix.NLMSG_ERROR && n >= unix.SizeofNlMsghdr+4:
		errno := unix.Errno(-int32(native.Uint32(b[unix.SizeofNlMsghdr:])))
		if errno == unix.ENOENT {
			return 0, ErrNoPeer
		}
		return 0, fmt.Errorf("sock_diag: %w", errno)
	case kind != sockDiagByFamily || n < diagInode+4:
		return 0, fmt.Errorf("sock_diag: an answer of kind %d with %d bytes", kind, n)
	case native.Uint32(b[diagInode:]) == 0:
		return 0, ErrNoPeer
	}
	return native.Uint32(b[diagUID:]), nil
}

// listed looks for the socket in /proc/net.
func listed(at, to netip.AddrPort) (uint32, error) {
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open("/proc/self/net/" + table)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		defer f.Close()
		want := [2]string{written(at, table == "tcp6"), written(to, table == "tcp6")}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			// sl local remote state queues timer retransmissions uid timeout inode
			w := strings.Fields(lines.Text())
			if len(w) < 10 || w[1] != want[0] || w[2] != want[1] || w[9] == "0" {
				continue
			}
			uid, err := strconv.ParseUint(w[7], 10, 32)
			return uint32(uid), err
		}
	}
	return 0, ErrNoPeer
}

// written is an address as /proc/net has it: words of the machine's byte order in hex.
func written(a netip.AddrPort, six bool) string {
	b := a.Addr().AsSlice()
	if six {
		b16 := a.Addr().As16()
		b = b16[:]
	}
	out := make([]byte, len(b))
	for i := 0; i+4 <= len(b); i += 4 {
		binary.BigEndian.PutUint32(out[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	return fmt.Sprintf("%s:%04X", strings.ToUpper(hex.EncodeToString(out)), a.Port())
}
