package fs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// localState is what this device remembers about a vault between runs. It holds no secret.
type localState struct {
	// Accepted is the highest head that this device wrote or accepted: the store must
	// never show a lower one.
	Accepted acceptedHead `json:"accepted"`
	// Reserved is the highest sequence this device may have signed: it signs only
	// above. Sequences are reserved many at a time; gaps are legal.
	Reserved uint64 `json:"reserved"`
	// Journal is the journal that this device writes, and Base the head on top of which
	// it was begun, until a head of this device speaks of it.
	Journal string `json:"journal,omitempty"`
	Base    string `json:"base,omitempty"`
	// JournalKeyring has the key of that journal, if it is not the vault's: it was begun in
	// an earlier epoch.
	JournalKeyring []byte `json:"journal_keyring,omitempty"`
	// Relieved: another device has written since that journal's last change, and this one has
	// taken over again. What the journal has and no head contains is not to be mixed in.
	Relieved bool `json:"relieved,omitempty"`
	// Opened is the last opening for writing, since the last commit.
	Opened opening `json:"opened,omitzero"`
	// Halted: another machine with the keys of this device wrote at the same time.
	Halted bool `json:"halted,omitempty"`
}

// opening says on top of which head a session has written into the journal, and from which
// record on. A head that neither is that one nor lists the session contains none of these
// records, whatever it says of the journal: it was made by another machine, whose journal
// has the same id and goes on with other records.
type opening struct {
	Session string `json:"session"`
	From    uint64 `json:"from"` // the last record before
	On      string `json:"on"`
}

// goOn enters a commit of the session: what it contains needs no opening any more.
func (o *opening) goOn(h *crypt.Head, a acceptedHead) {
	if own := h.Journals; o.Session == a.Session && len(own) > 0 && own[0].Device == h.Device {
		o.From, o.On = own[0].Position, a.Head
	}
}

type acceptedHead struct {
	Device   string `json:"device"`
	Sequence uint64 `json:"sequence"`
	Head     string `json:"head"`
	Commit   string `json:"commit"`
	Keyring  []byte `json:"keyring,omitempty"` // so that the journal opens without the store
	// Turns are the commits with which devices took over, the last one of each.
	Turns turns `json:"turns,omitempty"`
	// Session is the session that made it; empty if an earlier version of this program wrote
	// this, or made the head.
	Session string `json:"session,omitempty"`
}

const reserveSequences = 64

// stateFile keeps localState in one file, replaced atomically.
type stateFile struct {
	path string

	mu sync.Mutex
	s  localState
}

func openState(dir string) (*stateFile, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	f := &stateFile{path: filepath.Join(dir, "heads.json")}
	b, err := os.ReadFile(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("local state: %w", err)
	}
	if err := json.Unmarshal(b, &f.s); err != nil {
		return nil, fmt.Errorf("local state %s: %w: %w", f.path, ErrIntegrity, err)
	}
	return f, nil
}

func (f *stateFile) get() localState {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.s
}

// update changes the state and returns when it survives a power cut.
func (f *stateFile) update(fn func(*localState)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.s
	fn(&next)
	b, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	if err := replaceFile(f.path, b); err != nil {
		return fmt.Errorf("local state: %w", err)
	}
	f.s = next
	return nil
}

// nextSequence returns a sequence above last that was never signed.
func (f *stateFile) nextSequence(last uint64) (uint64, error) {
	if s := f.get(); last+1 <= s.Reserved {
		return last + 1, nil
	}
	err := f.update(func(s *localState) { s.Reserved = last + reserveSequences })
	return last + 1, err
}

// replaceFile writes a file so that a power cut leaves the old or the new one.
func replaceFile(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
