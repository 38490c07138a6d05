package ipfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/cluster-labs/ipfscloud/fs"
)

// catalog reads the names of commits from an MFS tree, given its root. It works on blocks
// that dag has verified, so it shows what a reader after a power cut would find, and not
// what a node holds in memory.
type catalog struct {
	dag ipld.DAGService
}

// commitDir is CommitRoot without its slash: the first name below the root of MFS.
var commitDir = strings.TrimPrefix(fs.CommitRoot, "/")

// resolve follows a path of names from root; fs.ErrNotFound if one is missing.
func (c catalog) resolve(ctx context.Context, root cid.Cid, path ...string) (cid.Cid, error) {
	at := root
	for i, name := range path {
		entries, err := c.list(ctx, at)
		if err != nil {
			return cid.Undef, err
		}
		next, ok := entries[name]
		if !ok {
			return cid.Undef, fmt.Errorf("/%s: %w", strings.Join(path[:i+1], "/"), fs.ErrNotFound)
		}
		at = next
	}
	return at, nil
}

// commit returns the directory that a commit's name leads to.
func (c catalog) commit(ctx context.Context, root cid.Cid, name fs.CommitName) (fs.CID, error) {
	k, err := c.resolve(ctx, root, strings.Split(strings.TrimPrefix(name.Path(), "/"), "/")...)
	if err != nil {
		return fs.CID{}, err
	}
	return ourCID(k)
}

// commits lists the commits of a vault, or of all of them, by sequence.
func (c catalog) commits(ctx context.Context, root cid.Cid, vault string) ([]fs.CommitName, error) {
	top, err := c.resolve(ctx, root, commitDir)
	if errors.Is(err, fs.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	vaults, err := c.list(ctx, top)
	if err != nil {
		return nil, err
	}
	var out []fs.CommitName
	for v, at := range vaults {
		if (vault != "" && v != vault) || checkPart(v) != nil {
			continue
		}
		devices, err := c.list(ctx, at)
		if err != nil {
			return nil, err
		}
		for d, at := range devices {
			if checkPart(d) != nil {
				continue
			}
			sequences, err := c.list(ctx, at)
			if err != nil {
				return nil, err
			}
			for s := range sequences {
				if n, err := fs.ParseSequence(s); err == nil {
					out = append(out, fs.CommitName{Vault: v, Device: d, Sequence: n})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b fs.CommitName) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Vault, b.Vault),
			cmp.Compare(a.Device, b.Device))
	})
	return out, nil
}

// list reads a UnixFS directory, sharded or not.
func (c catalog) list(ctx context.Context, at cid.Cid) (map[string]cid.Cid, error) {
	node, err := c.dag.Get(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", at, missing(err))
	}
	dir, err := uio.NewDirectoryFromNode(c.dag, node)
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w: %w", at, fs.ErrInvalid, err)
	}
	out := make(map[string]cid.Cid)
	err = dir.ForEachLink(ctx, func(l *ipld.Link) error {
		out[l.Name] = l.Cid
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", at, missing(err))
	}
	return out, nil
}

// missing tells a block that is lost, on the way to a name, from a name that is not there.
func missing(err error) error {
	err = meaning(err)
	if errors.Is(err, fs.ErrNotFound) {
		return fmt.Errorf("%w: %s", fs.ErrIntegrity, err)
	}
	return err
}
