package fleet_test

import (
	"bufio"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// listen takes the port of a URL.
func listen(t *testing.T, of string) net.Listener {
	t.Helper()
	u, err := url.Parse(of)
	must(t, err)
	l, err := net.Listen("tcp", u.Host)
	must(t, err)
	return l
}

// listening are the addresses, as the kernel writes them, on which a process accepts
// connections or datagrams.
func listening(t *testing.T, pid int) []string {
	t.Helper()
	own := make(map[string]bool)
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	must(t, err)
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:[") {
			own[strings.Trim(to, "socket:[]")] = true
		}
	}
	var found []string
	for proto, state := range map[string]string{"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, proto))
		must(t, err)
		for s := bufio.NewScanner(f); s.Scan(); {
			if c := strings.Fields(s.Text()); len(c) > 9 && c[3] == state && own[c[9]] {
				found = append(found, proto+" "+c[1])
			}
		}
		must(t, f.Close())
	}
	return found
}
