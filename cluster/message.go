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

// Withdraw takes a message out of the pin set.
func (c *Client) Withdraw(ctx context.Context, cid string) error { return c.unpin(ctx, cid) }
