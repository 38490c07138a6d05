package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

func TestPublic(t *testing.T) {
	for a, want := range map[string]bool{
		"8.8.8.8": true, "93.184.216.34": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true, "64:ff9b::808:808": true,
		"0.0.0.0": false, "0.1.2.3": false, "127.0.0.1": false, "127.9.9.9": false, "10.1.2.3": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false, "100.127.255.254": false, "192.0.0.8": false, "198.18.0.1": false,
		"224.0.0.1": false, "239.255.255.250": false, "255.255.255.255": false, "240.0.0.1": false,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "2606:4700::1%eth0": false, "fec0::1": false, "fc00::1": false, "fd12::1": false, "ff02::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::127.0.0.1": false, "64:ff9b::7f00:1": false, "64:ff9b::a00:1": false, "64:ff9b:1::808:808": false,
		"2002:7f00:1::": false, "2002:808:808::": false, "2001:0:4136:e378::1": false, "2001:db8::1": false, "100::1": false,
	} {
		if got := Public(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
	if Public(netip.Addr{}) {
		t.Error("no address at all")
	}
}

// inside is a server of this machine that counts who connects.
func inside(t *testing.T) (s *httptest.Server, connected *atomic.Int32) {
	t.Helper()
	connected = new(atomic.Int32)
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "inside") }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connected.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, connected
}

func direct(allow ...netip.Prefix) *Transport {
	tr := New(allow...)
	tr.proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	tr.direct.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	tr.proxied.TLSClientConfig = tr.direct.TLSClientConfig
	return tr
}

func get(t *testing.T, tr *Transport, where string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: tr}).Do(r)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// Nothing inside is so much as connected to, by whatever name.
func TestNothingInside(t *testing.T) {
	s, connected := inside(t)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1.1.1", "[::]", "[64:ff9b::7f00:1]"} {
		if err := get(t, direct(), "https://"+host+":"+port+"/"); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if err := get(t, direct(netip.MustParsePrefix("127.0.0.0/8")), "http://"+s.Listener.Addr().String()); !errors.Is(err, ErrForbidden) {
		t.Errorf("without TLS: %v", err)
	}
	if n := connected.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
	// What is allowed explicitly works; a redirect away from it does not.
	if err := get(t, direct(netip.MustParsePrefix("127.0.0.0/8")), s.URL); err != nil {
		t.Error(err)
	}
	away := httptest.NewTLSServer(http.RedirectHandler("https://[::ffff:127.0.0.1]:"+port+"/", http.StatusFound))
	defer away.Close()
	one := netip.MustParsePrefix("127.0.0.1/32")
	tr := direct(one)
	tr.allow = nil
	var redirected error
	tr.proxy = func(r *http.Request) (*url.URL, error) {
		if r.Response != nil { // the request that a redirect made
			tr.allow = nil
		} else {
			tr.allow = []netip.Prefix{one}
		}
		return nil, nil
	}
	before := connected.Load()
	if redirected = get(t, tr, away.URL); !errors.Is(redirected, ErrForbidden) || connected.Load() != before {
		t.Errorf("redirected inside: %v", redirected)
	}
}

// A proxy of the environment is used though its own address is private; it is not asked for
// what can be seen to lead inside.
func TestProxy(t *testing.T) {
	s, _ := inside(t)
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		up, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		w.WriteHeader(http.StatusOK)
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		go func() { _, _ = io.Copy(up, c); up.Close() }()
		_, _ = io.Copy(c, up)
		c.Close()
	}))
	defer proxy.Close()
	tr := direct()
	tr.proxy = func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	if err := get(t, tr, "https://example.com/"); err != nil || asked.Load() != 1 {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
	for _, host := range []string{"127.0.0.1", "localhost", "x.localhost.", "[::1]", "169.254.169.254"} {
		if err := get(t, tr, "https://"+host+"/"); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s by the proxy: %v", host, err)
		}
	}
	if asked.Load() != 1 {
		t.Error("the proxy was asked for something inside")
	}
}
