package ipfs

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	bstore "github.com/ipfs/boxo/blockstore"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/cluster-labs/ipfscloud/fs"
)

// maxBlock is the largest block, in bytes, that IPFS nodes pass on to each other.
const maxBlock = 2 << 20

var errClosed = fmt.Errorf("the store is closed: %w", fs.ErrUnavailable)

// meanings are the errors that callers of a Store tell apart.
var meanings = []error{
	fs.ErrNotFound, fs.ErrUnavailable, fs.ErrNoSpace, fs.ErrIntegrity, fs.ErrNotSupported,
	fs.ErrExist, fs.ErrInvalid, fs.ErrTooLarge, fs.ErrBusy,
}

// meaning wraps an error of Kubo or of the system in the one of ours that fits.
func meaning(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	for _, m := range meanings {
		if errors.Is(err, m) {
			return err
		}
	}
	switch {
	case ipld.IsNotFound(err):
		return fmt.Errorf("%w: %w", fs.ErrNotFound, err)
	case errors.Is(err, bstore.ErrHashMismatch):
		return fmt.Errorf("%w: %w", fs.ErrIntegrity, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", fs.ErrNoSpace, err)
	}
	return fmt.Errorf("%w: %w", fs.ErrUnavailable, err)
}

// within runs f, but returns when ctx or the limit ends even if f does not: a disk or a
// node that hangs must not hang the mount. The context of f ends with the return.
func within[T any](ctx context.Context, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var zero T
	if err := ctx.Err(); err != nil {
		return zero, meaning(err)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan result, 1)
	go func() {
		v, err := f(ctx)
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return zero, meaning(r.err)
		}
		return r.value, nil
	case <-ctx.Done():
		return zero, meaning(ctx.Err())
	}
}

type none = struct{}
