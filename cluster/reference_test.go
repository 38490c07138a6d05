//go:build !race

// IPFS Cluster's client brings a whole libp2p, which takes minutes to compile with race
// detection.

package cluster

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/api/rest/client"
)

// Our requests are those that IPFS Cluster's own client makes.
func TestRequestsAreThoseOfTheReference(t *testing.T) {
	var last *http.Request
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last = r.Clone(context.Background())
		w.WriteHeader(http.StatusNoContent)
	}))
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := client.NewDefaultClient(&client.Config{
		Host: u.Hostname(), Port: u.Port(), Username: "me", Password: secret, DisableKeepAlives: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ours := newTestClient(t, Config{Endpoints: []string{s.URL}, User: "me", Password: secret})
	const peer = "12D3KooWBH7J3dMLaimitqWTi3dDoMpY2kLSiKkE9RDRkLETfA8n"
	const origin = "/ip4/10.0.0.1/tcp/4001/p2p/12D3KooWNSYA3oTujE4GXiKfPJsV9hWG3Gfey9UnVuPSo6wzVhCw"
	expires := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	decode := func(n int) api.Cid {
		c, err := api.DecodeCid(testCID(n))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	address, err := api.NewMultiaddr(origin)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for name, c := range map[string]struct{ theirs, ours func() error }{
		"peers": {
			func() error { return theirs.Peers(ctx, make(chan api.ID, 1)) },
			func() error { _, err := ours.Peers(ctx); return err },
		},
		"list": {
			func() error { return theirs.Allocations(ctx, api.DataType, make(chan api.Pin, 1)) },
			func() error { _, err := ours.Find(ctx, "", ""); return err },
		},
		"status": {
			func() error {
				return theirs.StatusCids(ctx, []api.Cid{decode(1), decode(2)}, false, make(chan api.GlobalPinInfo, 1))
			},
			func() error {
				return ours.status(ctx, []string{testCID(1), testCID(2)}, func() {}, func(*wireStatus) {})
			},
		},
		"pin": {
			func() error {
				_, err := theirs.Pin(ctx, decode(1), api.PinOptions{
					ReplicationFactorMin: 2, ReplicationFactorMax: 3, Name: "a name/&?=", Metadata: map[string]string{"k": "v ä"},
					UserAllocations: api.StringsToPeers([]string{peer}), ExpireAt: expires, PinUpdate: decode(2),
					Origins: []api.Multiaddr{address},
				})
				return err
			},
			func() error {
				_, err := ours.pin(ctx, testCID(1), &options{
					min: 2, max: 3, name: "a name/&?=", metadata: map[string]string{"k": "v ä"}, prefer: []string{peer, "no peer"},
					expires: expires, update: testCID(2), origins: []string{"nonsense", "/ip4/1.2.3.4/tcp/1", origin},
				})
				return err
			},
		},
		"unpin": {
			func() error { _, err := theirs.Unpin(ctx, decode(1)); return err },
			func() error { return ours.unpin(ctx, testCID(1)) },
		},
		"recover": {
			func() error { _, err := theirs.Recover(ctx, decode(1), false); return err },
			func() error { return ours.recover(ctx, testCID(1)) },
		},
		"metrics": {
			func() error { _, err := theirs.Metrics(ctx, "ping"); return err },
			func() error { _, err := ours.metrics(ctx, "ping"); return err },
		},
		"graph": {
			func() error { _, err := theirs.GetConnectGraph(ctx); return err },
			func() error { _, err := ours.graph(ctx); return err },
		},
		"alerts": {
			func() error { _, err := theirs.Alerts(ctx); return err },
			func() error { _, err := ours.Alerts(ctx); return err },
		},
		"version": {
			func() error { _, err := theirs.Version(ctx); return err },
			func() error { _, err := ours.Version(ctx); return err },
		},
	} {
		if err := c.theirs(); err != nil {
			t.Fatal(name, err)
		}
		want := last
		if err := c.ours(); err != nil {
			t.Fatal(name, err)
		}
		if last.Method != want.Method || last.URL.Path != want.URL.Path || last.URL.Query().Encode() != want.URL.Query().Encode() {
			t.Errorf("%s:\n%s %s\nbut the reference makes\n%s %s", name, last.Method, last.URL, want.Method, want.URL)
		}
		if last.Header.Get("Authorization") != want.Header.Get("Authorization") || want.Header.Get("Authorization") == "" {
			t.Errorf("%s: other credentials", name)
		}
	}
}
