package cluster

import (
	"context"
	"time"
)

// Post puts a pin into the pin set that is there for its metadata: a message to whoever
// shares this cluster, until it expires. The CID should be one whose block lies in itself,
// so that no peer has anything to fetch. A second one of the same CID replaces the first.
func (c *Client) Post(ctx context.Context, cid, name string, metadata map[string]string, expires time.Time) error {
	_, err := c.pin(ctx, cid, &options{name: name, metadata: metadata, expires: expires, min: -1, max: -1})
	return err
}

// Announce puts a CID into the pin set for a program that ends before a Keeper takes over. The
// owner is in the metadata, as OwnerKey, so that a Keeper finds the pin. That it returns
// without an error means no copy yet: see Copies.
func (c *Client) Announce(ctx context.Context, cid, name string, p Policy, metadata map[string]string, origins []string) error {
	if err := p.check(); err != nil {
		return err
	}
	_, err := c.pin(ctx, cid, &options{name: name, metadata: metadata, min: p.Min, max: p.Max, prefer: p.Peers, origins: origins})
	return err
}

// Withdraw takes a message out of the pin set.
func (c *Client) Withdraw(ctx context.Context, cid string) error { return c.unpin(ctx, cid) }
