package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// Snapshot is a commit that is retained: the node keeps its blocks, and Egress its copies,
// until it is removed.
type Snapshot struct {
	Name     string    `json:"name"`
	Device   string    `json:"device"`
	Sequence uint64    `json:"sequence"`
	CID      string    `json:"cid"` // of the commit
	Time     time.Time `json:"time"`
	// Keyring opens the commit, if it was made before this device was let in: sealed to this
	// device and the recovery key.
	Keyring []byte `json:"keyring,omitempty"`
	// Copies of Target, and State, as Egress tells them; empty without one, or while the
	// drive is not mounted.
	Copies int    `json:"copies,omitempty"`
	Target int    `json:"target,omitempty"`
	State  string `json:"state,omitempty"`
}

const maxSnapshotName = 100 // bytes

// checkSnapshotName says whether people can tell a snapshot by a name.
func checkSnapshotName(name string) error {
	switch {
	case name == "" || len(name) > maxSnapshotName:
		return fmt.Errorf("the name of a snapshot has 1 to %d bytes: %w", maxSnapshotName, fs.ErrInvalid)
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }):
		return fmt.Errorf("%q has characters that cannot be shown: %w", name, fs.ErrInvalid)
	}
	return nil
}

// snapshots are those of one vault that this device knows, in a file of the home.
type snapshots struct {
	file string
	kept func() error // called when the file was written; nil to note nothing

	mu  sync.Mutex
	all []Snapshot // by sequence
}

// keptSnapshots is the file.
type keptSnapshots struct {
	Vault     string     `json:"vault"`
	Snapshots []Snapshot `json:"snapshots"`
}

// readSnapshots reads those of a vault; an empty vault is any.
func readSnapshots(file, vault string) (*snapshots, error) {
	s := &snapshots{file: file}
	b, err := safefile.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	var k keptSnapshots
	if err == nil {
		err = json.Unmarshal(b, &k)
	}
	if err != nil {
		// Not to know them would mean to drop what they need.
		return nil, fmt.Errorf("the list of snapshots, %s: %w", file, err)
	}
	if vault == "" || k.Vault == vault {
		s.all = k.Snapshots
	}
	return s, nil
}

func (s *snapshots) list() []Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// sequences are the commits that have to stay.
func (s *snapshots) sequences() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]uint64, len(s.all))
	for i := range s.all {
		out[i] = s.all[i].Sequence
	}
	return out
}

// of are the names of a commit.
func (s *snapshots) of(cid string) (names []string) {
	for _, x := range s.list() {
		if x.CID == cid {
			names = append(names, x.Name)
		}
	}
	return names
}

func (s *snapshots) find(name string) (Snapshot, error) {
	for _, x := range s.list() {
		if x.Name == name {
			return x, nil
		}
	}
	return Snapshot{}, fmt.Errorf("there is no snapshot %q: %w", name, fs.ErrNotFound)
}

// change replaces the list, in the file first.
func (s *snapshots) change(vault string, fn func([]Snapshot) ([]Snapshot, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := fn(slices.Clone(s.all))
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b Snapshot) int { return cmp.Compare(a.Sequence, b.Sequence) })
	b, err := json.Marshal(keptSnapshots{Vault: vault, Snapshots: all})
	if err == nil {
		err = writeFile(s.file, string(b)+"\n")
	}
	if err != nil {
		return fmt.Errorf("the list of snapshots: %w", err)
	}
	s.all = all
	if s.kept != nil {
		return s.kept()
	}
	return nil
}

func (s *snapshots) add(vault string, x Snapshot) error {
	return s.change(vault, func(all []Snapshot) ([]Snapshot, error) {
		if slices.ContainsFunc(all, func(y Snapshot) bool { return x.Name == y.Name }) {
			return nil, fmt.Errorf("there is a snapshot %q: %w", x.Name, fs.ErrInvalid)
		}
		return append(all, x), nil
	})
}

// meet adds those that are not known yet.
func (s *snapshots) meet(vault string, others []Snapshot) error {
	if len(others) == 0 {
		return nil
	}
	return s.change(vault, func(all []Snapshot) ([]Snapshot, error) {
		for _, x := range others {
			if !slices.ContainsFunc(all, func(y Snapshot) bool { return x.Name == y.Name || x.CID == y.CID }) {
				all = append(all, x)
			}
		}
		return all, nil
	})
}

func (s *snapshots) remove(vault, name string) error {
	return s.change(vault, func(all []Snapshot) ([]Snapshot, error) {
		n := len(all)
		all = slices.DeleteFunc(all, func(x Snapshot) bool { return x.Name == name })
		if len(all) == n {
			return nil, fmt.Errorf("there is no snapshot %q: %w", name, fs.ErrNotFound)
		}
		return all, nil
	})
}

// snapshotTries is how often a commit may be replaced by newer ones while it is retained.
const snapshotTries = 5

// makeSnapshot commits what was written and retains that commit; an empty name is the time.
func (s *Service) makeSnapshot(ctx context.Context, name string) (Snapshot, error) {
	if name == "" {
		name = time.Now().UTC().Format(time.RFC3339)
	}
	if err := checkSnapshotName(name); err != nil {
		return Snapshot{}, err
	}
	if st := s.tree.Status(); st.ReadOnly {
		return Snapshot{}, fmt.Errorf("the drive is read-only: %s: %w", st.Because, fs.ErrReadOnly)
	}
	if err := s.tree.Sync(ctx, fs.DurabilityIPFS); err != nil {
		return Snapshot{}, err
	}
	vault := s.tree.Status().Vault
	for range snapshotTries {
		h := s.tree.Status().Commit
		x := Snapshot{Name: name, Device: h.Device, Sequence: h.Sequence, CID: h.Commit.String(), Time: h.Time}
		if err := s.snapshots.add(vault, x); err != nil {
			return Snapshot{}, err
		}
		// From now on it stays, if it was not replaced just before.
		_, err := s.store.Resolve(ctx, fs.CommitName{Vault: vault, Device: h.Device, Sequence: h.Sequence})
		if err == nil {
			s.egress.retain()
			return x, nil
		}
		if gone := s.snapshots.remove(vault, name); gone != nil || !errors.Is(err, fs.ErrNotFound) {
			return Snapshot{}, errors.Join(err, gone)
		}
	}
	return Snapshot{}, fmt.Errorf("newer commits came too fast: %w", fs.ErrBusy)
}

func (s *Service) removeSnapshot(name string) error {
	if s.p.Snapshot != "" {
		return fmt.Errorf("the drive is mounted as a snapshot: %w", fs.ErrReadOnly)
	}
	err := s.snapshots.remove(s.tree.Status().Vault, name)
	if err == nil {
		s.egress.retain()
	}
	return err
}

// listSnapshots are all snapshots, with their copies.
func (s *Service) listSnapshots() []Snapshot {
	all := s.snapshots.list()
	if s.egress != nil {
		for i := range all {
			if p, ok := s.egress.keeper.Pin(all[i].CID); ok {
				all[i].Copies, all[i].Target, all[i].State = p.Copies, p.Target, string(p.State)
			}
		}
	}
	if all == nil {
		all = []Snapshot{}
	}
	return all
}

// ReadSnapshots lists the snapshots that a home knows while its drive is not mounted.
func ReadSnapshots(h Home) ([]Snapshot, error) {
	s, err := readSnapshots(h.snapshotsFile(), "")
	if err != nil {
		return nil, err
	}
	return s.list(), nil
}

// at is the commit of a snapshot that the drive is to be mounted as.
func (s *Service) at(name string) (*fs.At, error) {
	x, err := s.snapshots.find(name)
	if err != nil {
		return nil, err
	}
	cid, err := crypt.ParseCID(x.CID)
	if err != nil {
		return nil, fmt.Errorf("snapshot %q: %w: %w", name, fs.ErrIntegrity, err)
	}
	return &fs.At{Device: x.Device, Sequence: x.Sequence, Commit: cid, Keyring: x.Keyring}, nil
}

// restoreSnapshots is how many snapshots are looked for, the newest.
const restoreSnapshots = 100

// snapshotsAmong are the snapshots among the commits that Egress keeps of a vault. It does
// not know their names: here they are called by their times.
func (s *Service) snapshotsAmong(ctx context.Context, slots slots, commits []pinned) (all []Snapshot) {
	return snapshotsAmong(ctx, slots, commits, s.p.Log, func(ctx context.Context, c pinned) (openedSnapshot, error) {
		h, err := fs.Inspect(ctx, s.store, s.p.Identity, c.name, c.cid, time.Time{})
		return openedSnapshot{head: h}, err
	})
}

// openedSnapshot is the head of a snapshot, with a keyring for this device if it needs one of
// its own.
type openedSnapshot struct {
	head    fs.HeadInfo
	keyring []byte
}

func snapshotsAmong(ctx context.Context, slots slots, commits []pinned, log *slog.Logger,
	open func(context.Context, pinned) (openedSnapshot, error),
) (all []Snapshot) {
	marked := slices.DeleteFunc(slices.Clone(commits), func(c pinned) bool { return !c.snapshot })
	marked = marked[:min(len(marked), restoreSnapshots)]
	for _, c := range readCommits(ctx, slots, marked, open) {
		if c.err != nil {
			log.Warn("a snapshot in Egress cannot be used", "cid", c.commit.cid, "error", c.err)
			continue
		}
		h := c.got.head
		name := h.Time.UTC().Format(time.RFC3339)
		if slices.ContainsFunc(all, func(x Snapshot) bool { return x.Name == name }) {
			name += fmt.Sprintf(" (%d)", h.Sequence)
		}
		all = append(all, Snapshot{Name: name, Device: h.Device, Sequence: h.Sequence, CID: c.commit.cid.String(), Time: h.Time, Keyring: c.got.keyring})
	}
	return all
}
