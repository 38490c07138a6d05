package fs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/journal"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
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
	// JournalEnding says what was being done with that journal when this was written:
	// endingAside or endingDropped. If the process died meanwhile, the next one does it again;
	// else the directory would look like one that was lost.
	JournalEnding string `json:"journal_ending,omitempty"`
	// JournalKept: the journal has a directory, which is there as long as this says so.
	JournalKept bool `json:"journal_kept,omitempty"`
	// Relieved: another device has written since that journal's last change, and this one has
	// taken over again. What the journal has and no head contains is not to be mixed in.
	Relieved bool `json:"relieved,omitempty"`
	// Contained is the position in that journal up to which a commit of this device contains
	// it. Heads of other devices carry such a position too, and may lie about it.
	Contained uint64 `json:"contained,omitempty"`
	// Parted is the head of the accepted commit whose changes were looked through when another
	// device took over: what the drive does not have of them was set aside, and is not again.
	Parted string `json:"parted,omitempty"`
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
	// Time of the head, in nanoseconds since 1970; 0 if an older version wrote this. A device
	// with an end date cannot follow a head from after its end.
	Time int64 `json:"time,omitempty"`
	// Session is the session that made it; empty if an earlier version of this program wrote
	// this, or made the head.
	Session string `json:"session,omitempty"`
}

func (a *acceptedHead) time() time.Time {
	if a.Time == 0 {
		return time.Time{}
	}
	return time.Unix(0, a.Time)
}

// What JournalEnding says.
const (
	endingAside   = "aside"
	endingDropped = "dropped"
)

// endJournal notes that there is no journal any more, until another one is begun.
func (s *localState) endJournal() {
	s.Journal, s.Base, s.JournalKeyring, s.Contained, s.JournalEnding, s.JournalKept = "", "", nil, 0, "", false
}

const reserveSequences = 64

// stateFile keeps localState in one file, replaced atomically.
type stateFile struct {
	path string

	mu sync.Mutex
	s  localState
}

func openState(dir string) (*stateFile, error) {
	if err := safefile.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	f := &stateFile{path: filepath.Join(dir, "heads.json")}
	b, err := safefile.ReadFile(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("local state: %w", err)
	}
	if err := json.Unmarshal(b, &f.s); err != nil {
		f.s = localState{}
		return f, fmt.Errorf("%s is empty or cut (%v): %w", f.path, err, ErrStateMissing)
	}
	return f, nil
}

// openKnown opens the state of a vault that this device may have had state of, and says so if
// it is lost. What is accepted as lost is told by the second result.
func openKnown(cfg *Config) (*stateFile, error, error) {
	f, err := openState(cfg.StateDir)
	if f == nil {
		return nil, nil, err
	}
	if err == nil && f.s.empty() {
		began, jerr := journal.Began(cfg.JournalDir)
		if jerr != nil {
			return nil, nil, jerr
		}
		switch {
		case cfg.Known:
			err = fmt.Errorf("%s, which remembers what this device has written, is not there: %w", f.path, ErrStateMissing)
		case began:
			err = fmt.Errorf("%s is not there, but a journal that goes with it is (%s): %w", f.path, cfg.JournalDir, ErrStateMissing)
		}
	}
	if err == nil {
		return f, nil, nil
	}
	if !cfg.AcceptMissing || !errors.Is(err, ErrStateMissing) {
		return nil, nil, err
	}
	return f, err, nil
}

// empty tells whether no vault was ever opened or made with this state.
func (s *localState) empty() bool { return s.Accepted.Sequence == 0 && s.Reserved == 0 }

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
	if err := safefile.Replace(f.path, b); err != nil {
		return fmt.Errorf("local state: %w", err)
	}
	f.s = next
	return nil
}

// nextSequence returns a sequence above last that was never signed. ErrCounter: nobody
// would take a commit with that number at this time.
func (f *stateFile) nextSequence(last uint64, now time.Time) (uint64, error) {
	if last >= maxSequence(now) {
		return 0, fmt.Errorf("commit %d: %w", last, ErrCounter)
	}
	if s := f.get(); last+1 <= s.Reserved {
		return last + 1, nil
	}
	err := f.update(func(s *localState) { s.Reserved = last + reserveSequences })
	return last + 1, err
}
