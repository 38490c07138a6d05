package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
)

const (
	// maxBatch is how many CIDs one call asks for: the REST API takes 4 KiB of header.
	maxBatch = 40
	// maxPins is how many pins a list may have, maxFound how many of them Find keeps, and
	// maxPeers how many peers there may be: more cannot be meant.
	maxPins  = 1_000_000
	maxFound = 20_000
	maxPeers = 10_000
)

// Client calls the REST API of one cluster, over any of several endpoints. Its methods
// may be called at once from many goroutines.
type Client struct {
	cfg       Config
	endpoints []*endpoint
	choice    choice
	owners    owners
	fanout    time.Duration // for calls for which the cluster asks other peers
	log       *slog.Logger
}

// NewClient returns a client. It calls nobody yet.
func NewClient(cfg Config) (*Client, error) {
	if err := cfg.settle(); err != nil {
		return nil, err
	}
	roots, err := readRoots(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, log: cfg.Log, fanout: max(fanoutTime, cfg.CallTimeout)}
	for _, s := range cfg.Endpoints {
		e, err := newEndpoint(s, roots)
		if err != nil {
			return nil, err
		}
		c.endpoints = append(c.endpoints, e)
	}
	c.owners.ids = make([]string, len(c.endpoints))
	c.choice.failed, c.choice.now = make([]time.Time, len(c.endpoints)), time.Now
	return c, nil
}

// Close lets go of idle connections.
func (c *Client) Close() {
	for _, e := range c.endpoints {
		e.http.CloseIdleConnections()
	}
}

// Endpoint is the URL of the endpoint that answered last.
func (c *Client) Endpoint() string { return c.endpoints[c.choice.used()].name }

// Version is that of the peer that answers.
func (c *Client) Version(ctx context.Context) (string, error) {
	v, err := get[wireVersion](ctx, c, "/version", false)
	return v.Version, err
}

// Find returns the pins whose metadata has a value under a key; with an empty key, all.
// It reads the list of pins from one peer's disk, without asking others.
func (c *Client) Find(ctx context.Context, key, value string) ([]Found, error) {
	var all []Found
	err := c.list(ctx, func() { all = nil }, func(p *wirePin) error {
		if have, ok := p.Metadata[key]; key != "" && (!ok || have != value) {
			return nil
		}
		if len(all) == maxFound {
			return errTooLong
		}
		all = append(all, p.found())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Each calls begin, and then fn for each pin in the pin set, which may be longer than what
// fits into memory: fn keeps what it wants. They are called again, from the beginning, if
// another endpoint has to be asked. After an error the pins were only a part.
func (c *Client) Each(ctx context.Context, begin func(), fn func(*Found)) error {
	return c.list(ctx, begin, func(p *wirePin) error {
		f := p.found()
		fn(&f)
		return nil
	})
}

// Peers are the members of the cluster, as they answer now. Free, Used, Pins, Held,
// Errors and Sees are not filled in: a Keeper knows them.
func (c *Client) Peers(ctx context.Context) ([]Peer, error) {
	wire, err := c.peers(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	all := make([]Peer, 0, len(wire))
	for i := range wire {
		w := &wire[i]
		p := Peer{
			ID: w.ID, Name: w.Name, Version: w.Version, Up: w.Error == "", Error: plain(w.Error), Since: now,
			Free: -1, Used: -1, IPFS: w.IPFS.ID, IPFSAddrs: w.IPFS.Addresses,
		}
		if p.Up {
			p.LastSeen, p.Error = now, plain(w.IPFS.Error)
		}
		all = append(all, p)
	}
	slices.SortFunc(all, byName)
	return all, nil
}

func byName(a, b Peer) int {
	if n := strings.Compare(a.Name, b.Name); n != 0 {
		return n
	}
	return strings.Compare(a.ID, b.ID)
}

// dialable are addresses with the peer's ID at their end.
func dialable(id string, addrs []string) []string {
	out := make([]string, 0, len(addrs))
	for _, a := range addrs {
		switch {
		case !strings.HasPrefix(a, "/"):
			continue
		case !strings.Contains(a, "/p2p/") && id != "":
			a += "/p2p/" + id
		}
		out = append(out, a)
	}
	return out
}

// object makes a call that is answered with one value.
func object[T any](ctx context.Context, c *Client, r request) (v T, err error) {
	r.begin = func() {
		var zero T
		v = zero
	}
	r.read = func(d *json.Decoder) error { return d.Decode(&v) }
	err = c.call(ctx, &r)
	return v, err
}

func get[T any](ctx context.Context, c *Client, path string, fanout bool) (T, error) {
	return object[T](ctx, c, request{method: http.MethodGet, path: path, fanout: fanout})
}

// list calls begin, and then fn for each pin in the pin set. It may begin again, with
// another endpoint. After an error the pins were only a part.
func (c *Client) list(ctx context.Context, begin func(), fn func(*wirePin) error) error {
	n := 0
	return c.call(ctx, &request{
		method: http.MethodGet, path: "/allocations", query: "filter=pin", stream: true, most: maxList,
		begin: func() {
			n = 0
			begin()
		},
		read: func(d *json.Decoder) error {
			var p wirePin
			if err := d.Decode(&p); err != nil {
				return err
			}
			if n++; n > maxPins {
				return errTooLong
			}
			if !isCID(p.CID) {
				return fmt.Errorf("a pin without a CID")
			}
			return fn(&p)
		},
	})
}

func (c *Client) peers(ctx context.Context) (all []wirePeer, err error) {
	err = c.call(ctx, &request{
		method: http.MethodGet, path: "/peers", fanout: true, stream: true,
		begin: func() { all = nil },
		read: func(d *json.Decoder) error {
			var p wirePeer
			if err := d.Decode(&p); err != nil {
				return err
			}
			if len(all) == maxPeers {
				return errTooLong
			}
			if p.ID != "" {
				c.tidy(&p)
				all = append(all, p)
			}
			return nil
		},
	})
	return all, err
}

// status asks the allocated peers of each CID. It calls begin, and then fn for the CIDs
// of which there are answers.
func (c *Client) status(ctx context.Context, cids []string, begin func(), fn func(*wireStatus)) error {
	if len(cids) == 0 {
		return nil
	}
	n := 0
	return c.call(ctx, &request{
		method: http.MethodGet, path: "/pins", query: "local=false&filter=&cids=" + strings.Join(cids, ","),
		fanout: true, stream: true,
		begin: func() {
			n = 0
			begin()
		},
		read: func(d *json.Decoder) error {
			var s wireStatus
			if err := d.Decode(&s); err != nil {
				return err
			}
			if n++; n > 2*len(cids) {
				return errTooLong
			}
			fn(&s)
			return nil
		},
	})
}

// Copies counts the peers that report that they have all of a CID.
func (c *Client) Copies(ctx context.Context, cid string) (n int, err error) {
	err = c.status(ctx, []string{cid}, func() { n = 0 }, func(s *wireStatus) {
		if s.CID != cid {
			return
		}
		for _, p := range s.Peers {
			if statusFrom(p.Status) == statusPinned {
				n++
			}
		}
	})
	return n, err
}

// pin puts a CID into the pin set, or changes how it stands there. That it returns
// without an error means no copy yet.
func (c *Client) pin(ctx context.Context, cid string, o *options) (wirePin, error) {
	q, err := o.query()
	if err != nil {
		return wirePin{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return object[wirePin](ctx, c, request{method: http.MethodPost, path: pinPath(cid), query: q})
}

func (c *Client) unpin(ctx context.Context, cid string) error {
	_, err := object[wirePin](ctx, c, request{method: http.MethodDelete, path: pinPath(cid)})
	return err
}

// recover makes the allocated peers try again what failed.
func (c *Client) recover(ctx context.Context, cid string) error {
	_, err := object[wireStatus](ctx, c, request{
		method: http.MethodPost, path: pinPath(cid) + "/recover", query: "local=false", fanout: true,
	})
	return err
}

func pinPath(cid string) string { return "/pins/" + url.PathEscape(cid) }

// metrics are the valid ones of one name, as the peer asked remembers them.
func (c *Client) metrics(ctx context.Context, name string) ([]wireMetric, error) {
	return object[[]wireMetric](ctx, c, request{
		method: http.MethodGet, path: "/monitor/metrics/" + name, timeout: min(c.cfg.CallTimeout, connectTime),
	})
}

func (c *Client) graph(ctx context.Context) (wireGraph, error) {
	return get[wireGraph](ctx, c, "/health/graph", true)
}

// Alerts are what the peer asked noticed of others.
func (c *Client) Alerts(ctx context.Context) ([]Alert, error) {
	wire, err := get[[]wireAlert](ctx, c, "/health/alerts", false)
	if err != nil {
		return nil, err
	}
	all := make([]Alert, 0, len(wire))
	for _, w := range wire {
		all = append(all, Alert{Peer: w.Peer, Metric: plain(w.Name), Time: w.TriggeredAt})
	}
	return all, nil
}

// isCID says whether a text is a CID, and so can stand in a URL.
func isCID(s string) bool {
	if len(s) > 200 {
		return false
	}
	_, err := api.DecodeCid(s)
	return err == nil
}
