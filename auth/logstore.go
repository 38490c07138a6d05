package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// The files of a log, beside the keystore. They hold nothing secret.
const (
	logName     = "did.jsonl"
	witnessName = "did-witness.json"
)

// logStore keeps the log of one identity in its keystore's directory. Whoever reads it
// verifies it: the keystore remembers the version that it must reach at least.
type logStore struct{ dir string }

var _ webvh.Store = logStore{}

func (l logStore) read(name string, limit int64) ([]byte, error) {
	f, err := safefile.Open(filepath.Join(l.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no %s: %w", l.dir, name, did.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the DID's log: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading the DID's log: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", name, limit, did.ErrInvalid)
	}
	return b, nil
}

// Log returns the log, whatever it is of.
func (l logStore) Log(context.Context, webvh.ID) ([]byte, error) {
	return l.read(logName, webvh.MaxLog)
}

// Witness returns the proofs of the witnesses.
func (l logStore) Witness(context.Context, webvh.ID) ([]byte, error) {
	return l.read(witnessName, webvh.MaxWitness)
}

// Save replaces both files, the witnesses' first: a log is never there without them.
func (l logStore) Save(_ context.Context, _ webvh.ID, log, witness []byte) error {
	if len(witness) > 0 {
		if err := replaceFile(l.dir, witnessName, witness); err != nil {
			return err
		}
	}
	return replaceFile(l.dir, logName, log)
}

// OwnLog is the log that lies in a keystore's directory, if it is that of a DID; else nil.
// It is not verified.
func OwnLog(dir, id string) []byte {
	sum, err := Inspect(dir)
	if err != nil || sum.DID == "" || SelfCertifying(sum.DID) != SelfCertifying(id) {
		return nil
	}
	b, err := logStore{dir}.read(logName, webvh.MaxLog)
	if err != nil {
		return nil
	}
	return b
}

// stamp tells two states of the log's file apart.
type stamp struct {
	ino          uint64
	size         int64
	sec, nanosec int64
}

// stamp is the zero value when there is no log.
func (l logStore) stamp() stamp {
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(l.dir, logName), &st); err != nil {
		return stamp{}
	}
	return stamp{st.Ino, st.Size, st.Ctim.Sec, st.Ctim.Nsec}
}

// replaceFile writes a file at once: after a crash there is the old one or the new one.
func replaceFile(dir, name string, b []byte) (err error) {
	f, err := safefile.CreateTemp(filepath.Join(dir, name))
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the error that counts is the first
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return syncDir(dir)
}

// Resolver resolves did:key, and the DID whose log lies in a keystore's directory: the
// newest that is there or at one of the sources. Of the sources none is trusted.
func Resolver(dir string, sources ...webvh.Source) *did.Resolver {
	return did.NewResolver(did.NewKey(), LogMethod(dir, sources...))
}

// LogMethod is did:webvh with the rules that hold for our identities; the log that lies in
// a keystore's directory is that of its DID.
func LogMethod(dir string, sources ...webvh.Source) *webvh.Method {
	return webvh.New(webvh.Config{
		Verifier: webvh.Rules(), Store: logStore{dir}, Sources: sources, Portable: true,
	})
}
