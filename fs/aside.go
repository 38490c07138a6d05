package fs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/journal"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// When another device takes over a drive, this device may still have changes that the other
// one has never seen: records of its journal that no commit has, and commits that it made
// before it learnt that it was displaced. Programs were told that these changes are kept, so
// they must stay reachable. They are set aside: the journal's directory is renamed, and
// aside.json in it says on top of which commit its records are to be applied. The commits that
// are needed to read it are retained until the owner discards the directory.

// Aside describes changes that were acknowledged on this device and that the drive does not have.
type Aside struct {
	// Name is what commands call it by: the time at which it was set aside, or AsideJournal.
	Name    string
	Since   time.Time
	Because string
	// Line is the newest commit of this device that the changes build on. Commits of this
	// device above Shared, up to and including it, are not in the drive either.
	Line   CommitName
	Shared uint64
	// Changes counts the records of the journal that no commit has.
	Changes  int
	Exported time.Time // when it was last exported in full; zero if it never was
	// Problem says why nothing more is known about it, or is empty.
	Problem string
}

// AsideJournal names the journal that is still in its place. It is listed as an aside while
// the drive is mounted and read-only, so that it cannot be committed.
const AsideJournal = "journal"

const (
	asideDir  = ".aside-"
	asideFile = "aside.json"
	asideTime = "20060102T150405.000"
	asideView = ".aside-view-" // a copy that is being read

	discardedMark = ".discarded-" // what is being removed
)

// asideRecord is the file aside.json.
type asideRecord struct {
	Since   time.Time    `json:"since"`
	Because string       `json:"because"`
	Line    acceptedHead `json:"line"`
	Shared  uint64       `json:"shared"`
	// ChangedSince, if it is not zero, stands in for Shared: this device cannot open the commits of those
	// who write the drive now, and knows only that they saw all that it wrote before this time.
	ChangedSince time.Time `json:"changed_since,omitzero"`
	// JournalKeyring has the key of the journal, where that is not the key of Line's keyring.
	JournalKeyring []byte `json:"journal_keyring,omitempty"`
	Changes        int    `json:"changes"`
	// Last is the number of the journal's newest record.
	Last     uint64    `json:"last"`
	Exported time.Time `json:"exported,omitzero"`
}

func (r *asideRecord) aside(name, vault string) Aside {
	a := Aside{Name: name, Since: r.Since, Because: r.Because,
		Line:   CommitName{Vault: vault, Device: r.Line.Device, Sequence: r.Line.Sequence},
		Shared: r.Shared, Changes: r.Changes, Exported: r.Exported}
	if !r.ChangedSince.IsZero() {
		a.Shared = 0
	}
	return a
}

// keyring is the keyring that the journal's key comes from.
func (r *asideRecord) keyring() []byte {
	if r.JournalKeyring != nil {
		return r.JournalKeyring
	}
	return r.Line.Keyring
}

// removeLeftovers removes directories that a process left in the middle of reading or discarding what
// was set aside. Nobody else may use the journal's directory meanwhile.
func removeLeftovers(journalDir string) error {
	dir := filepath.Clean(journalDir)
	for _, pattern := range []string{filepath.Join(filepath.Dir(dir), asideView+"*"), dir + discardedMark + "*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, d := range found {
			if err := os.RemoveAll(d); err != nil {
				return fmt.Errorf("removing what an earlier process left: %w", err)
			}
		}
	}
	return nil
}

func asidePath(journalDir, name string) string {
	return filepath.Clean(journalDir) + asideDir + name
}

// readAside reads what a directory says about itself.
func readAside(dir string) (*asideRecord, error) {
	b, err := safefile.ReadFile(filepath.Join(dir, asideFile))
	if err != nil {
		return nil, err
	}
	var r asideRecord
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", filepath.Join(dir, asideFile), ErrIntegrity, err)
	}
	return &r, nil
}

func writeAside(dir string, r *asideRecord) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return safefile.Replace(filepath.Join(dir, asideFile), b)
}

// Asides lists what was set aside of the vault whose journal is in a directory, the oldest
// first. One that cannot be read is listed too, with its problem.
func Asides(journalDir, vault string) ([]Aside, error) {
	dir, prefix := filepath.Split(filepath.Clean(journalDir) + asideDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for changes that were set aside: %w", err)
	}
	var out []Aside
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok || !e.IsDir() {
			continue
		}
		r, err := readAside(filepath.Join(dir, e.Name()))
		if err == nil {
			out = append(out, r.aside(name, vault))
			continue
		}
		a := Aside{Name: name, Problem: err.Error()}
		if errors.Is(err, os.ErrNotExist) {
			a.Problem = "an older version of this program set it aside, without saying on which commit it stands"
		}
		a.Since, _ = time.Parse(asideTime, name)
		out = append(out, a)
	}
	// A journal in its place says so itself if it cannot be committed.
	if r, err := readAside(journalDir); err == nil {
		out = append(out, r.aside(AsideJournal, vault))
	}
	return out, nil
}

// findAside returns the directory of an aside. The name comes from a command line.
func findAside(journalDir, name string) (string, error) {
	all, err := Asides(journalDir, "")
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(all, func(a Aside) bool { return a.Name == name }) {
		return "", fmt.Errorf("nothing was set aside under the name %q: %w", name, ErrNotFound)
	}
	return asidePath(journalDir, name), nil
}

// asideCommits are the numbers of the commits that are needed to read what was set aside:
// those that it stands on, and those that it is compared with. These are the newest that
// both lines share, or if that is gone already, the first of another device.
func asideCommits(journalDir string, names []CommitName) ([]uint64, error) {
	all, err := Asides(journalDir, "")
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, a := range all {
		if a.Line.Sequence == 0 { // nobody knows what it stands on
			continue
		}
		out = append(out, a.Line.Sequence)
		if shared := newestUpTo(names, a.Shared); shared > 0 {
			out = append(out, shared)
		} else if i := slices.IndexFunc(names, func(n CommitName) bool { return n.Device != a.Line.Device }); i >= 0 {
			out = append(out, names[i].Sequence)
		}
	}
	return out, nil
}

func newestUpTo(names []CommitName, most uint64) (n uint64) {
	for _, x := range names {
		if x.Sequence <= most {
			n = max(n, x.Sequence)
		}
	}
	return n
}

// DiscardAside removes changes that were set aside. ErrBusy if they were never exported, unless
// force says that they may be lost.
func DiscardAside(cfg Config, name string, force bool) error {
	dir := cfg.JournalDir
	var r *asideRecord
	var err error
	if name != AsideJournal {
		if dir, err = findAside(cfg.JournalDir, name); err != nil {
			return err
		}
	}
	r, err = readAside(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !force {
		return err
	}
	if !force && (r == nil || r.Exported.IsZero()) {
		return fmt.Errorf("these changes were never exported, and would be gone: %w", ErrBusy)
	}
	// Renamed first: a directory that is removed in part must not look like one that is whole.
	gone := filepath.Clean(cfg.JournalDir) + discardedMark + cfg.now().UTC().Format(asideTime)
	if err := os.Rename(dir, gone); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("there is no journal: %w", ErrNotFound)
		}
		return fmt.Errorf("discarding what was set aside: %w", err)
	}
	if name == AsideJournal {
		state, err := openState(cfg.StateDir)
		if err != nil {
			return err
		}
		if err := state.update(func(s *localState) { s.Journal, s.Base, s.JournalKeyring = "", "", nil }); err != nil {
			return err
		}
	}
	return os.RemoveAll(gone)
}

func (c *Config) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// evidence examines a commit that this device has accepted. It was judged then: what the
// newest DID document says about its device does not count here, so that a device that was
// locked out can still read what it wrote itself.
func (a *acceptedHead) evidence(ctx context.Context, cfg *Config) (*Evidence, error) {
	cid, err := crypt.ParseCID(a.Commit)
	if err != nil {
		return nil, fmt.Errorf("%w: local state: %w", ErrIntegrity, err)
	}
	ev, err := Examine(ctx, cfg.Store, cfg.Identity.OpenWrapped, CommitName{Vault: cfg.Vault, Device: a.Device, Sequence: a.Sequence}, cid)
	if err != nil {
		return nil, err
	}
	if ev.headCID.String() != a.Head {
		return nil, fmt.Errorf("commit %d has the head %s, this device has accepted %s: %w", a.Sequence, ev.headCID, a.Head, ErrIntegrity)
	}
	return ev, nil
}

// positionOf is the last record of a journal that a head contains, and whether it speaks of it.
func positionOf(journals []crypt.JournalPosition, id [16]byte) (uint64, bool) {
	for _, p := range journals {
		if p.Journal == id && id != ([16]byte{}) {
			return p.Position, true
		}
	}
	return 0, false
}

// divided is the number of the newest commit that another line of commits shares with this
// device's: that of the last commit of this one if the other contains all of it, 0 if it is
// not known.
func (a *acceptedHead) divided(ours, other line) uint64 {
	if other.follows(ours) {
		return a.Sequence
	}
	if n := ours.parting(other); n > 0 {
		return min(n, a.Sequence)
	}
	// Earlier versions noted no sessions. The first turn that this device has not seen began
	// behind the last commit that both have.
	first := uint64(0)
	for device, n := range turnsOf(other.journals) {
		if n > a.Turns[device] && (first == 0 || n < first) {
			first = n
		}
	}
	if first == 0 || first > a.Sequence+1 {
		return 0
	}
	return first - 1
}

// part sets aside what this device has and the line of commits that goes on with another
// device's head has not. It reports whether there was anything, and removes a journal that has
// nothing: the next one begins under the key of that line.
func part(ctx context.Context, cfg *Config, state *stateFile, other line, because string) (bool, error) {
	a := state.get().Accepted
	if a.Sequence == 0 || a.Device != cfg.Identity.Device() || state.get().Parted == a.Head {
		return false, nil
	}
	ev, err := a.evidence(ctx, cfg)
	if err != nil {
		cfg.Log.Warn("what is in the last commit of this device cannot be read now", "error", err)
	}
	ours, err := a.line()
	if err != nil {
		return false, err
	}
	var mine *crypt.Head
	if ev != nil {
		mine, ours = ev.head, lineOf(ev.head, ev.headCID)
	}
	r := asideRecord{Since: cfg.Now().UTC(), Because: because, Line: a, Shared: a.divided(ours, other), JournalKeyring: state.get().JournalKeyring}
	exists, err := hasJournal(cfg.JournalDir)
	if err != nil {
		return false, err
	}
	pending := false
	if exists {
		if err := r.count(ctx, cfg, mine); err != nil {
			cfg.Log.Warn("the journal cannot be read now", "error", err)
			pending = true
		}
		pending = pending || r.Changes > 0
	}
	if !pending && r.Shared == a.Sequence {
		if exists {
			if err := state.update(func(s *localState) { s.JournalEnding = endingDropped }); err != nil {
				return false, err
			}
			if err := os.RemoveAll(cfg.JournalDir); err != nil {
				return false, fmt.Errorf("removing a journal that is committed: %w", err)
			}
		}
		return false, state.update(func(s *localState) {
			s.endJournal()
			s.Parted = a.Head
		})
	}
	return true, moveAside(cfg, state, &r)
}

// moveAside renames the journal's directory, with the record in it.
func moveAside(cfg *Config, state *stateFile, r *asideRecord) error {
	if err := safefile.MakePrivate(cfg.JournalDir); err != nil {
		return fmt.Errorf("setting changes aside: %w", err)
	}
	if old, err := readAside(cfg.JournalDir); err == nil && old.Line.Head == r.Line.Head && old.Last == r.Last {
		r.Exported = old.Exported // it was exported while it was still in its place
	}
	// The record goes first: without it nobody could tell later on which commit the journal stands.
	if err := writeAside(cfg.JournalDir, r); err != nil {
		return fmt.Errorf("setting changes aside: %w", err)
	}
	to := asidePath(cfg.JournalDir, r.Since.Format(asideTime))
	if err := state.update(func(s *localState) { s.JournalEnding = endingAside }); err != nil {
		return err
	}
	if err := os.Rename(cfg.JournalDir, to); err != nil {
		return fmt.Errorf("setting changes aside: %w", err)
	}
	cfg.Log.Warn("changes that the drive does not have were set aside", "directory", to, "changes", r.Changes, "because", r.Because)
	return state.update(func(s *localState) {
		s.endJournal()
		s.Parted = r.Line.Head
	})
}

// setAside keeps a journal whose records belong to another state of the vault than the one
// that is open.
func (t *Tree) setAside(because string) error {
	s := t.state.get()
	exists, err := hasJournal(t.cfg.JournalDir)
	if err != nil || !exists {
		return errors.Join(err, t.journalEnded())
	}
	r := asideRecord{Since: t.cfg.Now().UTC(), Because: because, Line: s.Accepted, Shared: s.Accepted.Sequence, JournalKeyring: s.JournalKeyring}
	var mine *crypt.Head
	if ev, err := r.Line.evidence(context.Background(), &t.cfg); err == nil {
		mine = ev.head
	}
	if err := r.count(context.Background(), &t.cfg, mine); err != nil {
		t.cfg.Log.Warn("the journal cannot be read now", "error", err)
	}
	return moveAside(&t.cfg, t.state, &r)
}

// hasJournal tells whether a directory holds records of a journal.
func hasJournal(dir string) (bool, error) {
	_, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// count counts the changes in the journal that a head does not have; all, without a head. The
// journal is not open.
func (r *asideRecord) count(ctx context.Context, cfg *Config, head *crypt.Head) error {
	derive, err := r.journalDeriver(ctx, cfg.Identity)
	if err != nil {
		return err
	}
	j, err := journal.Open(journal.Config{Dir: cfg.JournalDir, Derive: derive})
	if err != nil {
		return journalError(err)
	}
	defer j.Abandon()
	after := uint64(0)
	if head != nil {
		after, _ = positionOf(head.Journals, j.ID())
	}
	r.Changes, r.Last = 0, j.Last()
	return j.Replay(after, func(_ uint64, b []byte) error {
		if o, err := decodeOp(b); err == nil && o.kind != opLocate {
			r.Changes++
		}
		return nil
	})
}

func (r *asideRecord) journalDeriver(ctx context.Context, id Identity) (journal.Deriver, error) {
	keys, err := unwrap(ctx, id, r.keyring())
	if err != nil {
		return nil, fmt.Errorf("the key of the journal: %w", err)
	}
	return keys.journalDeriver()
}

// JournalAside describes the journal of a tree that takes no more changes, if that has any
// that the drive does not have. false if there is nothing, or if the tree does not hold the
// journal: then Asides lists it.
func (t *Tree) JournalAside() (Aside, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readOnly == nil || t.journal == nil {
		return Aside{}, false
	}
	r := t.liveRecord()
	if t.pendingOps == 0 && !r.beside(t.top.time) {
		return Aside{}, false
	}
	return r.aside(AsideJournal, t.vault.id.String()), true
}

// liveRecord is the record of the journal that is in its place. It is called with the lock held.
func (t *Tree) liveRecord() asideRecord {
	s := t.state.get()
	r := asideRecord{Since: t.displaced.at, Because: t.readOnly.Error(), Line: s.Accepted, Shared: s.Accepted.Sequence,
		JournalKeyring: s.JournalKeyring, Changes: t.pendingOps, Last: t.journal.Last()}
	switch {
	case t.displaced.by != nil:
		r.Shared = s.Accepted.divided(t.line, *t.displaced.by)
	case !t.displaced.since.IsZero():
		r.ChangedSince = t.displaced.since
	}
	if kept, err := readAside(t.cfg.JournalDir); err == nil && kept.Line.Head == r.Line.Head && kept.Last == r.Last {
		r.Exported = kept.Exported
	}
	return r
}

// note keeps what is known of the journal in its place beside it, for the time after this process.
func (t *Tree) note() {
	if _, ok := t.JournalAside(); !ok {
		return
	}
	t.mu.Lock()
	r := t.liveRecord()
	t.mu.Unlock()
	if err := writeAside(t.cfg.JournalDir, &r); err != nil {
		t.cfg.Log.Error("noting what the journal stands on", "error", err)
	}
}

// beside tells whether there are commits that the drive may not have; newest is the time of the
// last one.
func (r *asideRecord) beside(newest time.Time) bool {
	if !r.ChangedSince.IsZero() {
		return !newest.Before(r.ChangedSince)
	}
	return r.Shared != r.Line.Sequence
}

// noteIdle does so for a tree that was not opened for writing, because its device may not write
// any more: the journal may have what was never committed.
func (t *Tree) noteIdle(ctx context.Context, why error, since time.Time) error {
	return noteIdle(ctx, &t.cfg, t.state.get(), why, since)
}

// NoteLockedOut does so for a drive that cannot be opened at all any more: the DID document does
// not list this device, so that not even its own commits are believed. since is that of Displace.
func NoteLockedOut(ctx context.Context, cfg Config, why error, since time.Time) error {
	cfg.fill()
	state, err := openState(cfg.StateDir)
	if err != nil {
		return err
	}
	return noteIdle(ctx, &cfg, state.get(), why, since)
}

func noteIdle(ctx context.Context, cfg *Config, s localState, why error, since time.Time) error {
	exists, err := hasJournal(cfg.JournalDir)
	if err != nil || !exists || s.Accepted.Device != cfg.Identity.Device() {
		return err
	}
	r := asideRecord{Since: cfg.Now().UTC(), Because: why.Error(), Line: s.Accepted, Shared: s.Accepted.Sequence, ChangedSince: since,
		JournalKeyring: s.JournalKeyring}
	var mine *crypt.Head
	var newest time.Time
	if ev, err := s.Accepted.evidence(ctx, cfg); err == nil {
		mine, newest = ev.head, ev.Head.Time
	}
	if err := r.count(ctx, cfg, mine); err != nil {
		cfg.Log.Warn("the journal cannot be read now", "error", err)
	}
	if kept, err := readAside(cfg.JournalDir); err == nil && kept.Line.Head == r.Line.Head {
		if kept.Last == r.Last && (since.IsZero() || !kept.ChangedSince.IsZero()) {
			return nil // it says what is to be said
		}
		r.Since = kept.Since
	}
	if r.Changes == 0 && !r.beside(newest) {
		return nil
	}
	return writeAside(cfg.JournalDir, &r)
}

// displacement says when a tree learnt that it may not write any more, and which line of
// commits goes on in its place, if that is known.
type displacement struct {
	at    time.Time
	by    *line
	since time.Time // if by is nil: what was changed before it is in that line; zero if all is
}

// displace makes the tree read-only, once. What is not committed stays in the journal. The
// caller holds mu.
func (t *Tree) displace(why error, by *loadedHead) {
	if t.readOnly != nil {
		return
	}
	t.readOnly = why
	t.displaced = displacement{at: t.cfg.Now()}
	if by != nil {
		l := lineOf(by.head, by.cid)
		t.displaced.by = &l
	}
	t.alarm(why)
}
