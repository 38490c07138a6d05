package ipfs

import (
	"fmt"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// kuboCID is our CID as Kubo's libraries know it.
func kuboCID(c fs.CID) (cid.Cid, error) {
	k, err := cid.Cast(c.Bytes())
	if err != nil {
		return cid.Undef, fmt.Errorf("cid %s: %w: %w", c, fs.ErrInvalid, err)
	}
	return k, nil
}

// ourCID is the reverse of kuboCID; CIDs that we do not make are fs.ErrInvalid.
func ourCID(k cid.Cid) (fs.CID, error) {
	c, err := crypt.CIDFromBytes(k.Bytes())
	if err != nil {
		return fs.CID{}, fmt.Errorf("cid %s: %w: %w", k, fs.ErrInvalid, err)
	}
	return c, nil
}

// digestOf returns the SHA-256 digest a CID carries; ok is false for other hashes.
func digestOf(k cid.Cid) (digest [32]byte, ok bool) {
	d, err := mh.Decode(k.Hash())
	if err != nil || d.Code != mh.SHA2_256 || len(d.Digest) != len(digest) {
		return digest, false
	}
	return [32]byte(d.Digest), true
}

// checkName refuses names that would leave their place in MFS.
func checkName(n fs.CommitName) error {
	for _, part := range []string{n.Vault, n.Device} {
		if err := checkPart(part); err != nil {
			return err
		}
	}
	return nil
}

func checkPart(s string) error {
	if s == "" || len(s) > fs.NameMax {
		return fmt.Errorf("part of %d bytes in a commit name: %w", len(s), fs.ErrInvalid)
	}
	for i := range len(s) {
		if (s[i] < 'a' || s[i] > 'z') && (s[i] < '0' || s[i] > '9') {
			return fmt.Errorf("part %q of a commit name: %w", s, fs.ErrInvalid)
		}
	}
	return nil
}

func checkBlocks(blocks []fs.Block) error {
	for _, b := range blocks {
		if len(b.Data) > maxBlock {
			return fmt.Errorf("block %s of %d bytes: %w", b.CID, len(b.Data), fs.ErrTooLarge)
		}
	}
	return nil
}
