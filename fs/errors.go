package fs

import (
	"errors"
	"fmt"
)

// The meanings an operation of the tree can fail with. Layers above map them to errno
// (fs/fuse) and to exit codes (daemon/cli), each in one table.
var (
	ErrNotFound     = errors.New("not found")
	ErrExist        = errors.New("already exists")
	ErrNotDir       = errors.New("not a directory")
	ErrIsDir        = errors.New("is a directory")
	ErrNotEmpty     = errors.New("directory not empty")
	ErrInvalid      = errors.New("invalid argument")
	ErrNameTooLong  = errors.New("name too long")
	ErrPermission   = errors.New("operation not permitted")
	ErrAccess       = errors.New("permission denied")
	ErrReadOnly     = errors.New("read-only file system")
	ErrNoSpace      = errors.New("no space left")
	ErrTooLarge     = errors.New("file too large")
	ErrTooManyLinks = errors.New("too many links")
	ErrNoAttr       = errors.New("no such extended attribute")
	ErrAttrRange    = errors.New("buffer too small for the attribute")
	ErrNoSeek       = errors.New("no data or hole at that offset")
	ErrNotSupported = errors.New("not supported")
	ErrStale        = errors.New("stale inode")
	ErrBusy         = errors.New("busy")
	ErrInterrupted  = errors.New("interrupted")

	// ErrUnavailable: the store did not answer within its deadline; trying again may help.
	ErrUnavailable = errors.New("storage backend unreachable")
	// ErrIntegrity: stored bytes do not verify. They are never served.
	ErrIntegrity = errors.New("integrity check failed")
	// ErrStateMissing: what this device kept of the drive is gone, in whole or in part, and
	// with it perhaps changes that were acknowledged. It is an ErrIntegrity too.
	ErrStateMissing error = integrity("local state is missing or damaged")
	// ErrRollback: the store shows an older state than this device has accepted.
	ErrRollback = errors.New("the store was rolled back")
	// ErrNoCommits: the store has no commit of the vault. Other devices have written it, and this
	// one has never had it here, so that nothing was lost.
	ErrNoCommits = errors.New("no commit of this drive is here")
	// ErrFork: two different heads carry the same device and sequence.
	ErrFork = errors.New("the store shows a fork")
	// ErrTwin: another machine has the keys of this device and has made commits beside it.
	// It is an ErrFork.
	ErrTwin = fmt.Errorf("two machines write as the same device: %w", ErrFork)
)

// integrity is an ErrIntegrity with words of its own.
type integrity string

func (e integrity) Error() string        { return string(e) }
func (e integrity) Is(target error) bool { return target == ErrIntegrity }
