package fs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/journal"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// AsideView is what a device has that the drive does not: two trees in memory, the drive as
// this device left it and the drive as it was before, and the differences between them. It
// changes neither the journal nor the vault.
type AsideView struct {
	Aside Aside
	// Base tells people with what the device's tree is compared.
	Base string

	mine    *Tree
	base    *Tree     // nil: nothing to compare with, everything counts as new
	since   time.Time // without a base: what was changed before counts as unchanged
	record  *asideRecord
	scratch string
	dir     string // of the aside
	now     Clock
}

// OpenAside opens what was set aside, by the name that Asides tells. The vault may be mounted
// by this process or by none. AsideJournal is the journal in its place: the caller makes sure
// that nothing is appended to it meanwhile.
func OpenAside(ctx context.Context, cfg Config, name string) (*AsideView, error) {
	cfg.fill()
	dir := cfg.JournalDir
	var r *asideRecord
	if name == AsideJournal {
		state, err := openState(cfg.StateDir)
		if err != nil {
			return nil, err
		}
		s := state.get()
		r = &asideRecord{Since: cfg.Now(), Line: s.Accepted, Shared: s.Accepted.Sequence, JournalKeyring: s.JournalKeyring}
		if kept, err := readAside(dir); err == nil && kept.Line.Head == r.Line.Head {
			r = kept
		}
		return openAside(ctx, cfg, name, dir, r)
	}
	dir, err := findAside(cfg.JournalDir, name)
	if err != nil {
		return nil, err
	}
	r, err = readAside(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s was set aside by an older version of this program, which did not note on which commit it stands: %w", dir, ErrNotSupported)
	}
	if err != nil {
		return nil, err
	}
	return openAside(ctx, cfg, name, dir, r)
}

// OpenAside is OpenAside for the vault that is open: also for the journal that this tree holds.
func (t *Tree) OpenAside(ctx context.Context, name string) (*AsideView, error) {
	cfg := t.cfg
	cfg.Replicas, cfg.Committed, cfg.Retained, cfg.At = nil, nil, nil, nil
	if name != AsideJournal || t.journal == nil {
		return OpenAside(ctx, cfg, name)
	}
	if _, ok := t.JournalAside(); !ok {
		return nil, fmt.Errorf("the journal has nothing that the drive does not have, or will not have soon: %w", ErrNotFound)
	}
	// What is in the tail and in memory goes to the files that are copied below.
	if err := t.journal.Sync(ctx, t.journal.Last()); err != nil {
		return nil, journalError(err)
	}
	t.mu.Lock()
	r := t.liveRecord()
	t.mu.Unlock()
	return openAside(ctx, cfg, name, cfg.JournalDir, &r)
}

func openAside(ctx context.Context, cfg Config, name, dir string, r *asideRecord) (_ *AsideView, err error) {
	v := &AsideView{Aside: r.aside(name, cfg.Vault), record: r, dir: dir, now: cfg.Now}
	ev, err := r.Line.evidence(ctx, &cfg)
	if err != nil {
		return nil, fmt.Errorf("commit %d, on which these changes stand: %w", r.Line.Sequence, err)
	}
	// The copies lie beside the journal, on the same file system, and are ciphertext as it is.
	v.scratch = filepath.Join(filepath.Dir(filepath.Clean(cfg.JournalDir)), asideView+rand.Text())
	if err := safefile.MakePrivate(v.scratch); err != nil {
		return nil, fmt.Errorf("room for reading what was set aside: %w", err)
	}
	defer func() {
		if err != nil {
			v.Close()
		}
	}()
	cfg.Store = &scratchStore{Store: cfg.Store, dir: filepath.Join(v.scratch, "blocks")}
	if v.mine, err = viewTree(ctx, cfg, ev); err != nil {
		return nil, err
	}
	if err := v.replay(ctx, r, ev); err != nil {
		return nil, err
	}
	return v, v.findBase(ctx, cfg, r, ev)
}

// viewTree is a tree of one commit, which nobody changes and nothing commits.
func viewTree(ctx context.Context, cfg Config, ev *Evidence) (*Tree, error) {
	keys := &vaultKeys{id: ev.head.Vault, epoch: ev.Epoch, key: ev.key, keyring: ev.keyring, keyringCID: ev.head.Keyring}
	t := &Tree{cfg: cfg, state: &stateFile{}, reader: newReader(cfg.Store, cfg.MemoryLimit),
		space: &space{dir: cfg.JournalDir}, inodes: map[Ino]*inode{}, orphans: map[*inode]struct{}{},
		crowded: make(chan struct{}, 1), epoch: 1, dirtyDone: make(chan struct{}), readOnly: errors.New("opened to be read only")}
	t.crowdedAt = t.inodeLimit()
	t.ring.newer, t.ring.older = &t.ring, &t.ring
	if err := t.load(ctx, &loadedHead{name: ev.Name, commit: ev.Head.Commit, cid: ev.headCID, head: ev.head, keys: keys}); err != nil {
		return nil, err
	}
	t.commits = newCommitter(t)
	t.ahead = newReadAhead(t.reader)
	t.inMemory, t.aheadOf = t.memoryPage, t.ahead.pages
	return t, nil
}

// closeView is for a tree of viewTree: its committer never ran.
func (t *Tree) closeView() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.commits.cancel()
	t.ahead.close()
	if t.journal != nil {
		t.journal.Abandon()
		t.stage.close()
	}
}

// Close ends the view.
func (v *AsideView) Close() {
	for _, t := range []*Tree{v.mine, v.base} {
		if t != nil {
			t.closeView()
		}
	}
	_ = os.RemoveAll(v.scratch) // ciphertext; a later view has a directory of its own
}

// replay applies the records of the journal to the tree of the commit, from a copy: opening a
// journal changes it, and this one may be all that is left.
func (v *AsideView) replay(ctx context.Context, r *asideRecord, ev *Evidence) error {
	t := v.mine
	t.cfg.JournalDir = filepath.Join(v.scratch, "journal")
	if err := copyJournal(t.cfg.JournalDir, v.dir); err != nil {
		return fmt.Errorf("copying the journal: %w", err)
	}
	derive, err := r.journalDeriver(ctx, t.cfg.Identity)
	if err != nil {
		return err
	}
	if t.stage, err = openStage(t.cfg.JournalDir); err != nil {
		return err
	}
	if t.journal, err = journal.Open(journal.Config{Dir: t.cfg.JournalDir, Derive: derive}); err != nil {
		t.stage.close()
		return journalError(err)
	}
	after, _ := positionOf(ev.head.Journals, t.journal.ID())
	return t.replayJournal(ctx, after)
}

// copyJournal copies a journal's files. Staged blobs, which are never written again, are linked.
func copyJournal(to, from string) error {
	if err := safefile.MakePrivate(filepath.Join(to, stageName)); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || e.Name() == asideFile || strings.HasSuffix(e.Name(), ".old") {
			continue
		}
		if err := copyFile(filepath.Join(to, e.Name()), filepath.Join(from, e.Name())); err != nil {
			return err
		}
	}
	blobs, err := os.ReadDir(filepath.Join(from, stageName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range blobs {
		a, b := filepath.Join(from, stageName, e.Name()), filepath.Join(to, stageName, e.Name())
		if os.Link(a, b) != nil {
			if err := copyFile(b, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyFile(to, from string) error {
	a, err := safefile.Open(from)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := safefile.CreateNew(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(b, a)
	return errors.Join(err, b.Close())
}

// findBase opens the tree to compare with: the newest commit that this device and the drive
// share, as far as it is still there; else the other device's.
func (v *AsideView) findBase(ctx context.Context, cfg Config, r *asideRecord, line *Evidence) (err error) {
	if !r.ChangedSince.IsZero() {
		v.since = r.ChangedSince
		v.Base = fmt.Sprintf("nothing, because this device cannot read the drive any more: all that was changed since %s is taken, and what was removed is not listed",
			r.ChangedSince.Local().Format(time.DateTime))
		return nil
	}
	if r.Shared == r.Line.Sequence {
		v.Base = fmt.Sprintf("commit %d, from which the drive goes on", r.Shared)
		v.base, err = viewTree(ctx, cfg, line)
		return err
	}
	names, err := cfg.Store.Commits(ctx, cfg.Vault)
	if err != nil {
		return fmt.Errorf("listing the commits of vault %s: %w", cfg.Vault, err)
	}
	var best *Evidence
	for i := len(names) - 1; i >= 0; i-- {
		n := names[i]
		ours := n.Sequence <= r.Shared // of whichever device: both lines have it
		theirs := n.Device != r.Line.Device && best == nil
		if !ours && !theirs {
			continue
		}
		cid, err := cfg.Store.Resolve(ctx, n)
		if err != nil {
			continue
		}
		ev, err := Examine(ctx, cfg.Store, cfg.Identity.OpenWrapped, n, cid)
		if err != nil {
			cfg.Log.Info("a commit cannot be compared with", "device", n.Device, "sequence", n.Sequence, "error", err)
			continue
		}
		if best = ev; ours {
			break
		}
	}
	switch {
	case best == nil:
		v.Base = "nothing: no commit that the drive shares with this device is here, so all its files are taken"
		return nil
	case best.Head.Sequence <= r.Shared:
		v.Base = fmt.Sprintf("commit %d, which the drive goes on from", best.Head.Sequence)
	default:
		v.Base = fmt.Sprintf("commit %d of %s: what that device has changed since it took over counts as a difference too", best.Head.Sequence, best.Head.Device)
	}
	v.base, err = viewTree(ctx, cfg, best)
	return err
}

// Read reads a file of the device's tree, by the inode number of a Difference.
func (v *AsideView) Read(ctx context.Context, ino Ino, off uint64, p []byte) (int, error) {
	return v.mine.Read(ctx, ino, off, p)
}

// Readlink reads a symbolic link of the device's tree.
func (v *AsideView) Readlink(ctx context.Context, ino Ino) (string, error) {
	return v.mine.Readlink(ctx, ino)
}

// Xattrs are the extended attributes of a file of the device's tree.
func (v *AsideView) Xattrs(ctx context.Context, ino Ino) (map[string][]byte, error) {
	names, err := v.mine.ListXattr(ctx, ino)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, n := range names {
		if out[n], err = v.mine.GetXattr(ctx, ino, n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// MarkExported notes that the owner has all of it, so that it may be discarded.
func (v *AsideView) MarkExported() error {
	v.record.Exported = v.now().UTC().Truncate(time.Second)
	return writeAside(v.dir, v.record)
}

// scratchStore reads through a store and writes into a directory: what a replay seals to save
// memory is nothing that a vault should keep.
type scratchStore struct {
	Store
	dir string

	mu   sync.Mutex // guards all below
	made bool
	has  map[CID]bool
}

var _ Store = (*scratchStore)(nil)

// Put implements Store.
func (s *scratchStore) Put(_ context.Context, blocks []Block) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.made {
		if err := safefile.MakePrivate(s.dir); err != nil {
			return err
		}
		s.made, s.has = true, map[CID]bool{}
	}
	for _, b := range blocks {
		if err := safefile.Replace(filepath.Join(s.dir, b.CID.String()), b.Data); err != nil {
			return err
		}
		s.has[b.CID] = true
	}
	return nil
}

// Get implements Store.
func (s *scratchStore) Get(ctx context.Context, cid CID) ([]byte, error) {
	s.mu.Lock()
	has := s.has[cid]
	s.mu.Unlock()
	if !has {
		return s.Store.Get(ctx, cid)
	}
	return safefile.ReadFile(filepath.Join(s.dir, cid.String()))
}
