package daemon

import (
	"context"
	"fmt"

	"github.com/cluster-labs/ipfscloud/auth"
)

// ResolveDID returns the DID document of a DID, as JSON.
func ResolveDID(ctx context.Context, id string) ([]byte, error) {
	doc, err := auth.DefaultResolver().Resolve(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("resolving %s: %w", id, err)
	}
	return doc.Raw(), nil
}
