package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// outFile is a new file that a flag names, for this user alone: all that a command writes for
// a person to take elsewhere goes through it. It follows no symbolic link of somebody else's
// and overwrites nothing.
type outFile struct {
	f       *os.File
	written bool
}

// newOutFile makes the file, before the command does anything: what cannot be kept must not be
// drawn, approved or signed. nil for no path.
func newOutFile(flag, path string) (*outFile, error) {
	if path == "" {
		return nil, nil
	}
	f, err := safefile.CreateNew(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %s wants a new file: %w", errUsage, flag, err)
	}
	return &outFile{f: f}, nil
}

// write writes all of the file, and returns when it survives a power cut.
func (o *outFile) write(b []byte) error {
	if o == nil {
		return nil
	}
	o.written = true
	_, err := o.f.Write(b)
	return errors.Join(err, o.f.Sync(), syncParent(o.f.Name()))
}

// syncParent makes the name survive too, where the directory may be read.
func syncParent(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil
	}
	defer d.Close()
	return d.Sync()
}

// discard closes the file, and removes it if nothing was written.
func (o *outFile) discard() {
	if o == nil {
		return
	}
	o.f.Close()
	if !o.written {
		os.Remove(o.f.Name())
	}
}
