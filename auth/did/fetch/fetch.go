// Package fetch is the HTTP transport for servers whose names come from strangers.
//
// A DID names the host that has its document, so whoever shows a DID to this program
// chooses where it sends a request. This transport speaks HTTPS only, and connects to
// public addresses only: never to this machine, to its network or to what else is reached
// from here and not from everywhere. The address is checked when the connection is made,
// after the name was resolved, so a name that leads inside, or leads there the second time
// it is asked, is refused as well. It imports nothing of this module.
package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// ErrForbidden: the request is not HTTPS, or leads to an address that is not public.
var ErrForbidden = errors.New("not a public HTTPS server")

const (
	connectTime = 10 * time.Second
	headerMax   = 64 << 10 // bytes of an answer's header
)

// special are the ranges within the unicast ones that are not, or not only, of the public
// Internet (IANA's registries of special-purpose addresses).
func special() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),       // this host; Linux connects to itself
		netip.MustParsePrefix("10.0.0.0/8"),      // private
		netip.MustParsePrefix("100.64.0.0/10"),   // carrier-grade NAT, and overlay networks that use it
		netip.MustParsePrefix("127.0.0.0/8"),     // loopback
		netip.MustParsePrefix("169.254.0.0/16"),  // link-local, where clouds have their metadata
		netip.MustParsePrefix("172.16.0.0/12"),   // private
		netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
		netip.MustParsePrefix("192.0.2.0/24"),    // documentation
		netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays
		netip.MustParsePrefix("192.168.0.0/16"),  // private
		netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
		netip.MustParsePrefix("198.51.100.0/24"), // documentation
		netip.MustParsePrefix("203.0.113.0/24"),  // documentation
		netip.MustParsePrefix("224.0.0.0/4"),     // multicast
		netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and broadcast
		netip.MustParsePrefix("2001::/23"),       // protocol assignments, Teredo among them
		netip.MustParsePrefix("2001:db8::/32"),   // documentation
		netip.MustParsePrefix("2002::/16"),       // 6to4, which has an IPv4 address in it
		netip.MustParsePrefix("3fff::/20"),       // documentation
	}
}

// Public tells whether an address is reached from everywhere alike.
func Public(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	if a.Is6() {
		// NAT64: the well-known prefix stands for the IPv4 address in its last 32 bits. The
		// prefix for local use, 64:ff9b:1::/48, and all else below 2000::/3 is refused.
		if netip.MustParsePrefix("64:ff9b::/96").Contains(a) {
			b := a.As16()
			return Public(netip.AddrFrom4([4]byte(b[12:])))
		}
		if !netip.MustParsePrefix("2000::/3").Contains(a) {
			return false
		}
	}
	if !a.IsValid() {
		return false
	}
	for _, p := range special() {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// Transport is an http.RoundTripper that reaches public HTTPS servers.
type Transport struct {
	allow   []netip.Prefix
	direct  *http.Transport
	proxied *http.Transport
	proxy   func(*http.Request) (*url.URL, error)
}

var _ http.RoundTripper = (*Transport)(nil)

// New returns a transport. allow are ranges that may be reached though they are not public:
// for tests, and for servers of one's own network. Where the environment names a proxy
// (HTTPS_PROXY), it is used, and which names may lead where is for the proxy to decide;
// names that NO_PROXY exempts are connected to directly, and the rule above holds for them.
func New(allow ...netip.Prefix) *Transport {
	t := &Transport{allow: allow, proxy: http.ProxyFromEnvironment}
	base := func() *http.Transport {
		return &http.Transport{
			// A server of a stranger is asked once; nothing is kept open to it.
			DisableKeepAlives: true, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: connectTime, ResponseHeaderTimeout: connectTime, MaxResponseHeaderBytes: headerMax,
		}
	}
	t.direct, t.proxied = base(), base()
	t.direct.DialContext = (&net.Dialer{Timeout: connectTime, Control: t.control}).DialContext
	t.proxied.Proxy = func(r *http.Request) (*url.URL, error) { return t.proxy(r) }
	t.proxied.DialContext = (&net.Dialer{Timeout: connectTime}).DialContext
	return t
}

// control runs before each connection, with the address that the name resolved to.
func (t *Transport) control(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%.100q: %w", address, ErrForbidden)
	}
	return t.check(a.Addr())
}

func (t *Transport) check(a netip.Addr) error {
	for _, p := range t.allow {
		if p.Contains(a.Unmap()) {
			return nil
		}
	}
	if !Public(a) {
		return fmt.Errorf("%s: %w", a, ErrForbidden)
	}
	return nil
}

// RoundTrip implements http.RoundTripper. A redirect is a request of its own.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("%.100s: %w", r.URL.Redacted(), ErrForbidden)
	}
	proxy, err := t.proxy(r)
	if err != nil {
		return nil, fmt.Errorf("the proxy that the environment names: %w", err)
	}
	if proxy == nil {
		return t.direct.RoundTrip(r)
	}
	// What needs no resolving is refused here, whatever the proxy would do with it.
	host := strings.ToLower(strings.TrimSuffix(r.URL.Hostname(), "."))
	if a, err := netip.ParseAddr(host); err == nil {
		if err := t.check(a); err != nil {
			return nil, err
		}
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return nil, fmt.Errorf("%s: %w", host, ErrForbidden)
	}
	return t.proxied.RoundTrip(r)
}
