package cluster

import "context"

// Unpin unpins without a Keeper.
func (c *Client) Unpin(ctx context.Context, cid string) error { return c.unpin(ctx, cid) }
