package ipfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

const (
	// A CAR that is sent holds at most this much.
	sendBlocks = 4096
	sendBytes  = 32 << 20
	// checkBlocksMax is how many blocks one request asks after; checkBytes bounds what
	// the node reads for it.
	checkBlocksMax = 128
	// linkRounds bounds how often blocks are sent again that the node has lost since.
	linkRounds = 4
)

// Link implements fs.Store.
//
// It sends what is staged, links the directory, and then asks the node, offline, after
// each block: what the node's garbage collection took before the name protected it is
// sent again.
func (r *RPC) Link(ctx context.Context, name fs.CommitName, dir fs.CID, cids []fs.CID) error {
	if err := checkName(name); err != nil {
		return err
	}
	if dir.Codec != crypt.DagPB {
		return fmt.Errorf("%s is no directory: %w", dir, fs.ErrInvalid)
	}
	all := append(slices.Clone(cids), dir)
	var bytes int64
	for _, c := range all {
		n, _ := r.staging.size(c)
		bytes += int64(n)
	}
	limit := r.conf.LinkTimeout + time.Duration(bytes/slowest)*time.Second
	err := doErr(ctx, &r.gate, limit, func(ctx context.Context) error {
		return r.link(ctx, name, dir, all)
	})
	if err != nil {
		return fmt.Errorf("link %s: %w", name.Path(), err)
	}
	return nil
}

func (r *RPC) link(ctx context.Context, name fs.CommitName, dir fs.CID, cids []fs.CID) error {
	select {
	case r.linkSlot <- none{}:
		defer func() { <-r.linkSlot }()
	case <-ctx.Done():
		return ctx.Err()
	}
	have, err := r.resolve(ctx, name)
	if err == nil && have != dir {
		return fmt.Errorf("it is linked to %s: %w", have, fs.ErrExist)
	} else if err != nil && !errors.Is(err, fs.ErrNotFound) {
		return err
	}
	named := err == nil
	data, err := r.get(ctx, dir)
	if err != nil {
		return err
	}
	if _, err := decodeDir(dir, data); err != nil {
		return err
	}
	var send []fs.CID
	for _, c := range cids {
		if _, ok := r.staging.size(c); ok {
			send = append(send, c)
		}
	}
	if len(send) < len(cids) { // refuse before the name is there, not after
		if err := r.inNode(ctx, without(cids, send)); err != nil {
			return err
		}
	}
	if !named {
		if err := r.makeParents(ctx, name); err != nil {
			return err
		}
	}
	var held []cid.Cid // pins that hold what was sent
	defer func() { r.unpin(ctx, held) }()
	for round := range linkRounds {
		roots, err := r.send(ctx, send, round > 0)
		held = append(held, roots...)
		if err != nil {
			return err
		}
		if !named {
			if named, err = r.giveName(ctx, name, dir); err != nil {
				return err
			}
		}
		missing, err := r.missing(ctx, cids)
		if err != nil {
			return err
		}
		if named && len(missing) == 0 {
			return r.confirm(ctx, name, dir, cids)
		}
		send = missing
		r.conf.Log.Warn("the IPFS node lost blocks before they were linked; sending them again",
			"commit", name.Path(), "blocks", len(missing))
	}
	return fmt.Errorf("the node keeps losing blocks of the commit: %w", fs.ErrUnavailable)
}

// confirm flushes the name to the node's disk, reads it back, and lets the staging of the
// commit before go.
func (r *RPC) confirm(ctx context.Context, name fs.CommitName, dir fs.CID, cids []fs.CID) error {
	q := request{command: "files/flush", args: []string{path.Dir(name.Path())}}
	if err := r.client.call(ctx, q, nil); err != nil {
		return err
	}
	got, err := r.resolve(ctx, name)
	if err != nil {
		return err
	}
	if got != dir {
		return fmt.Errorf("it is linked to %s: %w", got, fs.ErrExist)
	}
	if err := r.staging.linked(cids); err != nil {
		// The commit stands; its staging only stays for longer.
		r.conf.Log.Warn("cannot record that staged blocks are linked", "error", err)
	}
	return nil
}

func (r *RPC) makeParents(ctx context.Context, name fs.CommitName) error {
	mkdir := request{command: "files/mkdir", args: []string{path.Dir(name.Path())},
		options: map[string]any{"parents": true}}
	return r.client.call(ctx, mkdir, nil)
}

// giveName links the directory in MFS. done is false when the node no longer has the
// directory and it is to be sent again.
func (r *RPC) giveName(ctx context.Context, name fs.CommitName, dir fs.CID) (done bool, err error) {
	cp := request{command: "files/cp", args: []string{"/ipfs/" + dir.String(), name.Path()}, options: noNetwork()}
	cpErr := r.client.call(ctx, cp, nil)
	if cpErr == nil {
		return true, nil
	}
	// A try whose answer was lost, or somebody else, may have given the name.
	switch have, err := r.resolve(ctx, name); {
	case err == nil && have == dir:
		return true, nil
	case err == nil:
		return false, fmt.Errorf("it is linked to %s: %w", have, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotFound):
		return false, err
	}
	k, err := kuboCID(dir)
	if err != nil {
		return false, err
	}
	if has, err := r.client.hasBlock(ctx, k); err != nil || has {
		return false, errors.Join(cpErr, err)
	}
	return false, nil
}

// send puts staged blocks into the node, as CAR files.
//
// Between the arrival of a block and its name the node's garbage collection may take it.
// That is rare, so at first it is only checked for afterwards. With hold the blocks come
// with a node that links to them all and is pinned in the same step; its CIDs are
// returned, also with an error, and are to be unpinned.
func (r *RPC) send(ctx context.Context, cids []fs.CID, hold bool) (held []cid.Cid, err error) {
	for len(cids) > 0 {
		n, bytes := 0, int64(0)
		for n < len(cids) && n < sendBlocks && bytes < sendBytes {
			size, ok := r.staging.size(cids[n])
			if !ok {
				return held, fmt.Errorf("block %s is neither in the node nor staged: %w", cids[n], fs.ErrNotFound)
			}
			bytes += int64(size)
			n++
		}
		var root *fs.Block
		if hold {
			b, k, err := holder(cids[:n])
			if err != nil {
				return held, err
			}
			root, held = &b, append(held, k)
		}
		if err := r.sendCAR(ctx, root, cids[:n], bytes); err != nil {
			return held, err
		}
		cids = cids[n:]
	}
	return held, nil
}

// holder is a node that links to blocks, all as raw: what they link to is not walked.
func holder(cids []fs.CID) (fs.Block, cid.Cid, error) {
	n := new(merkledag.ProtoNode)
	for _, c := range cids {
		k, err := kuboCID(fs.CID{Codec: crypt.Raw, Digest: c.Digest})
		if err != nil {
			return fs.Block{}, cid.Undef, err
		}
		if err := n.AddRawLink("", &ipld.Link{Cid: k}); err != nil {
			return fs.Block{}, cid.Undef, err
		}
	}
	data := n.RawData()
	c := crypt.Sum(crypt.DagPB, data)
	k, err := kuboCID(c)
	return fs.Block{CID: c, Data: data}, k, err
}

// unpin lets go of what send held. The names protect the blocks by now, or nothing does:
// then they are garbage.
func (r *RPC) unpin(ctx context.Context, held []cid.Cid) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.conf.RequestTimeout)
	defer cancel()
	for _, k := range held {
		q := request{command: "pin/rm", args: []string{k.String()}}
		if err := r.client.call(ctx, q, nil); err != nil {
			r.conf.Log.Warn("a pin that held blocks until they were linked stays in the IPFS node",
				"cid", k, "error", err)
		}
	}
}

// sendCAR sends one CAR. With a root, that goes with it and is pinned.
func (r *RPC) sendCAR(ctx context.Context, root *fs.Block, cids []fs.CID, bytes int64) error {
	var broken error // of the staging, which the transport would wrap as the node's
	get := func(c fs.CID) ([]byte, error) {
		if root != nil && c == root.CID {
			return root.Data, nil
		}
		data, err := r.staging.get(c)
		if err != nil {
			broken = err
		}
		return data, err
	}
	if root != nil {
		cids = append([]fs.CID{root.CID}, cids...)
	}
	q := request{
		command: "dag/import",
		options: map[string]any{
			"pin-roots": root != nil, "stats": true,
			"fast-provide-root": false, "allow-big-block": false,
		},
		body: func() io.Reader { return newCAR(cids, get) },
		size: bytes,
	}
	count, pinError := 0, ""
	err := r.client.call(ctx, q, func(body io.Reader) error {
		for d := json.NewDecoder(body); ; {
			var line struct {
				Root  *struct{ PinErrorMsg string }
				Stats *struct{ BlockCount int }
			}
			if err := d.Decode(&line); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if line.Root != nil {
				pinError = line.Root.PinErrorMsg
			}
			if line.Stats != nil {
				count = line.Stats.BlockCount
			}
		}
	})
	switch {
	case broken != nil:
		return broken
	case err != nil:
		return err
	case pinError != "":
		return fmt.Errorf("hold the blocks that were sent: %s: %w", pinError, fs.ErrUnavailable)
	case count != len(cids):
		return fmt.Errorf("it took %d of %d blocks: %w: %w", count, len(cids), errAnswer, fs.ErrUnavailable)
	}
	return nil
}

// inNode returns fs.ErrNotFound if one of the blocks does not lie in the node.
func (r *RPC) inNode(ctx context.Context, cids []fs.CID) error {
	missing, err := r.missing(ctx, cids)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("block %s and %d more: %w", missing[0], len(missing)-1, fs.ErrNotFound)
	}
	return err
}

// missing returns those of the blocks that do not lie in the node.
//
// It asks after many at once with "refs", which reads each of its arguments and here
// follows no link: the CIDs are given as raw, and the node looks at their digests alone.
func (r *RPC) missing(ctx context.Context, cids []fs.CID) ([]fs.CID, error) {
	var out []fs.CID
	for batch := range slices.Chunk(cids, checkBlocksMax) {
		q := request{command: "refs", options: map[string]any{"offline": true, "recursive": true, "max-depth": 0}}
		for _, c := range batch {
			q.args = append(q.args, fs.CID{Codec: crypt.Raw, Digest: c.Digest}.String())
		}
		complete := true
		err := r.client.call(ctx, q, func(body io.Reader) error {
			complete = true
			for d := json.NewDecoder(body); ; {
				var line struct{ Err string }
				if err := d.Decode(&line); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
				complete = complete && line.Err == ""
			}
		})
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		if err == nil && complete {
			continue
		}
		lost, err := r.missingOneByOne(ctx, batch)
		if err != nil {
			return nil, err
		}
		out = append(out, lost...)
	}
	return out, nil
}

func (r *RPC) missingOneByOne(ctx context.Context, cids []fs.CID) ([]fs.CID, error) {
	var (
		mu   sync.Mutex
		out  []fs.CID
		errs []error
		wg   sync.WaitGroup
		slot = make(chan none, parallel)
	)
	for _, c := range cids {
		slot <- none{}
		wg.Go(func() {
			defer func() { <-slot }()
			k, err := kuboCID(c)
			has := false
			if err == nil {
				has, err = r.client.hasBlock(ctx, k)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			} else if !has {
				out = append(out, c)
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return out, nil
}

// without returns a less b.
func without(a, b []fs.CID) []fs.CID {
	drop := make(map[fs.CID]bool, len(b))
	for _, c := range b {
		drop[c] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(c fs.CID) bool { return drop[c] })
}

// Unlink implements fs.Store.
func (r *RPC) Unlink(ctx context.Context, name fs.CommitName) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := doErr(ctx, &r.gate, r.conf.LinkTimeout, func(ctx context.Context) error {
		select {
		case r.linkSlot <- none{}:
			defer func() { <-r.linkSlot }()
		case <-ctx.Done():
			return ctx.Err()
		}
		if _, err := r.resolve(ctx, name); errors.Is(err, fs.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		rm := request{command: "files/rm", args: []string{name.Path()},
			options: map[string]any{"recursive": true, "force": true}}
		rmErr := r.client.call(ctx, rm, nil)
		flush := request{command: "files/flush", args: []string{path.Dir(name.Path())}}
		if err := r.client.call(ctx, flush, nil); err != nil {
			return errors.Join(rmErr, err)
		}
		if _, err := r.resolve(ctx, name); !errors.Is(err, fs.ErrNotFound) {
			return errors.Join(rmErr, err, fmt.Errorf("the name is still there: %w", fs.ErrUnavailable))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("unlink %s: %w", name.Path(), err)
	}
	return nil
}
