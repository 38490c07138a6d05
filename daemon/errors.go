package daemon

import (
	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/fuse"
)

// What a run of the daemon can fail with, for callers that see no deeper package.
var (
	ErrBusy               = fs.ErrBusy
	ErrUnavailable        = fs.ErrUnavailable
	ErrIntegrity          = fs.ErrIntegrity
	ErrRollback           = fs.ErrRollback
	ErrFork               = fs.ErrFork
	ErrNotFound           = fs.ErrNotFound
	ErrExists             = fs.ErrExist
	ErrInvalid            = fs.ErrInvalid
	ErrNotSupported       = fs.ErrNotSupported
	ErrNotRecipient       = crypt.ErrNotRecipient
	ErrDID                = did.ErrInvalid
	ErrDIDLog             = webvh.ErrLog // an ErrDID, but one that is no matter of its spelling
	ErrDIDMethod          = did.ErrUnsupportedMethod
	ErrDIDNotFound        = did.ErrNotFound
	ErrDIDCannot          = did.ErrNotSupported
	ErrDIDUnavailable     = did.ErrUnavailable
	ErrMount              = fuse.ErrMount
	ErrMountpointMissing  = fuse.ErrMountpointMissing
	ErrMountpointNotDir   = fuse.ErrMountpointNotDir
	ErrMountpointNotEmpty = fuse.ErrMountpointNotEmpty
	ErrMountpointBusy     = fuse.ErrMountpointBusy
)

// ParseDurability reads "local", "ipfs" or "egress:N".
func ParseDurability(s string) error {
	_, err := fs.ParseDurability(s)
	return err
}

// Identity is who a drive belongs to: a session of the package auth.
type Identity = fs.Identity

// Both are in other packages, which must not import fs: here it shows that they fit.
var (
	_ fs.Identity = (*auth.Session)(nil)
	_ fs.Identity = (*auth.Client)(nil)
)

// DIDDocument is a version of the owner's DID document.
type DIDDocument = *did.Document
