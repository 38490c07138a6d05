package fuse

import (
	"context"
	"errors"
	"log/slog"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/cluster-labs/ipfscloud/fs"
)

// errnos is the one table from meanings to numbers. The first match counts: what is more
// special stands first.
var errnos = []struct {
	err   error
	errno syscall.Errno
}{
	{fs.ErrRollback, syscall.EROFS},
	{fs.ErrFork, syscall.EROFS},
	{fs.ErrReadOnly, syscall.EROFS},
	{fs.ErrIntegrity, syscall.EIO},
	{fs.ErrUnavailable, syscall.EIO},
	{fs.ErrNoSpace, syscall.ENOSPC},
	{fs.ErrNotFound, syscall.ENOENT},
	{fs.ErrExist, syscall.EEXIST},
	{fs.ErrNotDir, syscall.ENOTDIR},
	{fs.ErrIsDir, syscall.EISDIR},
	{fs.ErrNotEmpty, syscall.ENOTEMPTY},
	{fs.ErrInvalid, syscall.EINVAL},
	{fs.ErrNameTooLong, syscall.ENAMETOOLONG},
	{fs.ErrPermission, syscall.EPERM},
	{fs.ErrAccess, syscall.EACCES},
	{fs.ErrTooLarge, syscall.EFBIG},
	{fs.ErrTooManyLinks, syscall.EMLINK},
	{fs.ErrNoAttr, syscall.ENODATA},
	{fs.ErrAttrRange, syscall.ERANGE},
	{fs.ErrNoSeek, syscall.ENXIO},
	{fs.ErrNotSupported, syscall.EOPNOTSUPP},
	{fs.ErrStale, syscall.ESTALE},
	{fs.ErrBusy, syscall.EBUSY},
	{fs.ErrInterrupted, syscall.EINTR},
	{context.Canceled, syscall.EINTR},
	{context.DeadlineExceeded, syscall.EIO},
}

// errno returns the number for an error: EIO for one that no table knows, which is logged.
func errno(log *slog.Logger, err error) gofuse.Status {
	if err == nil {
		return gofuse.OK
	}
	for _, e := range errnos {
		if errors.Is(err, e.err) {
			if e.errno == syscall.EIO {
				log.Warn("input/output error", "error", err)
			}
			return gofuse.Status(e.errno)
		}
	}
	log.Error("unexpected error", "error", err)
	return gofuse.EIO
}
