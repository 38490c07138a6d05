package fleet_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

// TestJoin has a node in a directory of its own join a fleet that speaks TLS, hold a copy,
// and be trusted later.
func TestJoin(t *testing.T) {
	t.Parallel() // it waits more than it works
	f := fleettest.Up(t, fleet.Config{Peers: 2, TLS: true})
	token, err := f.Token().Encode()
	must(t, err)
	if !f.Token().Local() {
		t.Error("a token with addresses of loopback alone is not local")
	}
	b := fleettest.Binaries(t)
	dir := filepath.Join(t.TempDir(), "joined")
	must(t, fleet.Join(t.Context(), token, fleet.Config{Dir: dir, Name: "attic", Listen: "127.0.0.2", Binaries: b}))
	if err := fleet.Join(t.Context(), token, fleet.Config{Dir: dir, Binaries: b}); !errors.Is(err, fleet.ErrConfig) {
		t.Errorf("joined twice: %v", err)
	}
	j := fleettest.Up(t, fleet.Config{Dir: dir})
	joined := j.Nodes()[0]
	if joined.Name() != "attic" || len(j.Nodes()) != 1 {
		t.Errorf("joined as %s", joined.Name())
	}
	within(t, 30*time.Second, "the fleet sees the new node", func() error { return isUp(t, f, f.Nodes()[0], 3) })

	a := newAPI(t, f.Info())
	cid := add(t, f.Nodes()[0])
	a.pin(t, f.Nodes()[0], cid, 3)
	a.waitHeld(t, f.Nodes()[0], cid, 3, 30*time.Second, "held by the new node too")
	if !hasPin(t.Context(), joined, cid) {
		t.Error("the new node's Kubo does not hold the DAG")
	}

	// Its own changes count once it is trusted.
	must(t, fleet.Trust(t.Context(), f.Dir(), joined.Peer()))
	within(t, 30*time.Second, "all see each other again", func() error {
		return errors.Join(isUp(t, f, f.Nodes()[1], 3), isUp(t, j, joined, 3))
	})
	other := add(t, joined)
	ja := newAPI(t, j.Info())
	ja.pin(t, joined, other, 3)
	a.waitHeld(t, f.Nodes()[0], other, 3, 30*time.Second, "its pin reached all")
	if err := fleet.Trust(t.Context(), f.Dir(), "nobody"); !errors.Is(err, fleet.ErrConfig) {
		t.Errorf("trusted nobody: %v", err)
	}

	t.Run("closed to others", func(t *testing.T) { closed(t, f) })
	t.Run("loopback alone", func(t *testing.T) {
		for _, n := range append(f.Nodes(), joined) {
			ipfs, peer := n.PIDs()
			kubo, service := listening(t, ipfs), listening(t, peer)
			at4 := "tcp 0100007F:"
			if n == joined {
				at4 = "tcp 0200007F:" // a machine of its own, as far as loopback has some
			}
			if len(kubo) != 1 || len(service) < 2 {
				t.Errorf("%s listens on %v, %v", n.Name(), kubo, service)
			}
			for _, at := range kubo {
				if !strings.HasPrefix(at, at4) {
					t.Errorf("the Kubo of %s listens on %s", n.Name(), at)
				}
			}
			for _, at := range service {
				// The cluster peer also asks, over UDP, for a router that maps ports. That
				// cannot be turned off; ports of loopback it does not ask for.
				if strings.HasPrefix(at, "tcp") && !strings.HasPrefix(at, at4) && !strings.HasPrefix(at, "tcp 0100007F:") {
					t.Errorf("the cluster peer of %s listens on %s", n.Name(), at)
				}
			}
		}
	})
}

// closed checks that the API wants the password and its own certificate.
func closed(t *testing.T, f *fleet.Fleet) {
	a := newAPI(t, f.Info())
	u := f.Endpoints()[0] + "/id"
	for _, password := range []string{"", "wrong"} {
		req, err := http.NewRequest(http.MethodGet, u, nil)
		must(t, err)
		if password != "" {
			req.SetBasicAuth(f.Info().Username, password)
		}
		resp, err := a.http.Do(req)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("password %q: %s", password, resp.Status)
		}
	}
	var none struct{}
	plain := &api{info: f.Info(), http: &http.Client{Timeout: 10 * time.Second}}
	if err := plain.call(http.MethodGet, u, &none); err == nil {
		t.Error("a certificate that nobody vouches for was taken")
	}
	asURL, err := url.Parse(u)
	must(t, err)
	asURL.Scheme = "http"
	if err := plain.call(http.MethodGet, asURL.String(), &none); err == nil {
		t.Error("the API answers without TLS")
	}
}

// TestTokens damages a token in all places, one after the other.
func TestTokens(t *testing.T) {
	dir := t.TempDir()
	if _, err := fleet.MakeToken(dir); !errors.Is(err, fleet.ErrNone) {
		t.Errorf("a token of nothing: %v", err)
	}
	if _, err := fleet.Load(dir); !errors.Is(err, fleet.ErrNone) {
		t.Errorf("loaded nothing: %v", err)
	}
	if err := fleet.Shutdown(t.Context(), dir); !errors.Is(err, fleet.ErrNone) {
		t.Errorf("shut down nothing: %v", err)
	}
	const peer = "12D3KooWGbR9sHXAjYf9zBQnLtVQ8FVvBp7arUZB4dLDsWDGaSui"
	good := &fleet.Token{
		Cluster: "c", Secret: strings.Repeat("ab", 32), Trusted: []string{peer},
		Nodes: []fleet.RemotePeer{{Peer: peer, IPFS: peer,
			Cluster: []string{"/ip4/192.0.2.1/tcp/9096"}, IPFSAddrs: []string{"/dns/a.example/tcp/4001"}}},
	}
	text, err := good.Encode()
	must(t, err)
	if got, err := fleet.ParseToken(" " + text[:40] + "\n  " + text[40:] + "\n"); err != nil || got.Secret != good.Secret || got.Local() {
		t.Errorf("parsed as %+v, %v", got, err)
	}
	for i := range text {
		bad := []byte(text)
		if bad[i]++; bad[i] == '{' {
			bad[i] = 'a'
		}
		if _, err := fleet.ParseToken(string(bad)); !errors.Is(err, fleet.ErrToken) {
			t.Fatalf("changed at %d of %d: %v", i, len(text), err)
		}
		if _, err := fleet.ParseToken(text[:i]); !errors.Is(err, fleet.ErrToken) {
			t.Fatalf("cut at %d of %d: %v", i, len(text), err)
		}
	}
	for name, change := range map[string]func(*fleet.Token){
		"secret": func(b *fleet.Token) { b.Secret = "short" },
		"nobody": func(b *fleet.Token) { b.Nodes = nil },
		"trust":  func(b *fleet.Token) { b.Trusted = nil },
		"id":     func(b *fleet.Token) { b.Trusted = []string{"*"} },
		"address": func(b *fleet.Token) {
			b.Nodes = []fleet.RemotePeer{{Peer: peer, IPFS: peer, Cluster: []string{"/tcp/x"}}}
		},
	} {
		bad := *good
		change(&bad)
		text, err := bad.Encode()
		must(t, err)
		if _, err := fleet.ParseToken(text); !errors.Is(err, fleet.ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRefused has settings that cannot work, none of which may make anything.
func TestRefused(t *testing.T) {
	b := fleettest.Binaries(t)
	for name, c := range map[string]fleet.Config{
		"nothing there":    {},
		"too many":         {Peers: 1000},
		"negative":         {Peers: -1},
		"no address":       {Peers: 1, Listen: "localhost"},
		"anywhere":         {Peers: 1, Listen: "0.0.0.0"},
		"announce nowhere": {Peers: 1, Listen: "0.0.0.0", Announce: "::"},
		"announce":         {Peers: 1, Listen: "0.0.0.0", Announce: "a b"},
		"api":              {Peers: 1, APIListen: "x"},
		"group":            {Peers: 1, Group: "../x"},
		"name":             {Peers: 1, Name: "../x"},
		"timing":           {Peers: 1, Timing: &fleet.Timing{Ping: time.Second}},
	} {
		c.Dir, c.Binaries = t.TempDir(), b
		_, err := fleet.Up(t.Context(), c)
		if !errors.Is(err, fleet.ErrConfig) && !errors.Is(err, fleet.ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(c.Dir, "fleet.json")); err == nil {
			t.Errorf("%s: made something", name)
		}
	}
	self, err := os.Executable()
	must(t, err)
	bad := fleet.Config{Dir: t.TempDir(), Peers: 1, Binaries: fleet.Binaries{IPFS: self, ClusterService: b.ClusterService}}
	if _, err := fleet.Up(t.Context(), bad); !errors.Is(err, fleet.ErrBinaries) {
		t.Errorf("any program for a Kubo: %v", err)
	}
	mixed := t.TempDir() // with a program called ipfs that is another one, and no service
	must(t, os.Symlink(self, filepath.Join(mixed, "ipfs")))
	t.Setenv("PATH", mixed)
	if _, err := fleet.FindBinaries(mixed); !errors.Is(err, fleet.ErrBinaries) {
		t.Errorf("found: %v", err)
	}
	if found, err := fleet.FindBinaries(mixed, filepath.Dir(b.IPFS)); err != nil || found != b {
		t.Errorf("found %+v, %v", found, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	late := fleet.Config{Dir: t.TempDir(), Peers: 1, Binaries: b}
	if _, err := fleet.Up(ctx, late); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left := leftovers(t, late.Dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
