package fs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/journal"
)

// Config is what a Tree is opened with.
type Config struct {
	Store    Store
	Identity Identity
	Vault    string // 32 hex digits
	// StateDir and JournalDir are directories of mode 0700 for this vault on this machine.
	StateDir, JournalDir string
	ReadOnly             bool
	// Known says that this device has had local state of the vault: if none is there, it is
	// lost. AcceptMissing goes on without what is missing; otherwise that is ErrStateMissing.
	Known, AcceptMissing bool
	// Notices are alerts from the start on.
	Notices []error
	// At opens the vault read-only as one commit left it; nil is the newest.
	At *At
	// Before is called once the tree is open for writing, and nothing was committed yet. An
	// error halts the tree; see Tree.Halt.
	Before func(context.Context, *Tree) error
	// Leap leaves out numbers of commits at the start: another machine with the keys of this
	// device may have used the next ones, and this one may not hear of it in time.
	Leap bool
	// Retained are the sequences of commits that stay beside the newest two; nil is none. It
	// must return at once.
	Retained    func() []uint64
	Durability  Durability    // what Fsync waits for; local if empty
	Deadline    time.Duration // longest wait for the store; 30 s if 0
	MemoryLimit int64         // bytes for caches and for writes not sealed yet; 256 MiB if 0
	// Replicas counts the copies on other machines; nil if there are to be none.
	Replicas Replicas
	// Committed is told of each commit, if not nil. It must return at once.
	Committed func(HeadInfo)
	Log       *slog.Logger
	Now       Clock
}

const (
	defaultDeadline = 30 * time.Second
	defaultMemory   = 256 << 20
)

func (c *Config) fill() {
	if c.Durability == "" {
		c.Durability = DurabilityLocal
	}
	if c.Deadline == 0 {
		c.Deadline = defaultDeadline
	}
	if c.MemoryLimit == 0 {
		c.MemoryLimit = defaultMemory
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Tree is an open vault. Its methods may be called from many goroutines.
type Tree struct {
	cfg    Config
	reader *reader
	ahead  *readAhead
	// What trees read by, made once.
	inMemory pageSource
	aheadOf  func(crypt.PageKind, []branch)
	journal  *journal.Journal // nil on a read-only tree
	stage    *stage           // nil on a read-only tree
	state    *stateFile
	vault    *vaultKeys
	space    *space
	commits  *committer // nil on a read-only tree

	carried []crypt.JournalPosition // of heads: journals of other devices, and turns
	forked  *loadedHead             // a head of another line, if this device went on after it was relieved
	// unconfirmed: opened while the store was away; the committer's own once that runs.
	unconfirmed bool

	rekeying sync.Mutex // one change of keys at a time; before mu

	mu            sync.Mutex // guards all below, and every inode
	inodes        map[Ino]*inode
	ring          inode         // heads a ring of them, in the order in which they were loaded
	weight        int64         // bytes of memory that they take, about
	crowdedAt     int64         // the weight at which Restrain is asked the next time
	balanced      int64         // the weight when caches were given what the rest leaves
	dirtyBalanced int64         // dirty, then
	changed       int           // names and inodes that changed since the freeze
	freezing      int           // those that the running commit writes
	crowded       chan struct{} // capacity 1: more inodes are loaded than there should be
	root          *inode
	walk          walk
	held          *heldPages   // pages that the running operation has seen
	scratch       heldPages    // what held is as long as an operation finds all in memory
	group         uint64       // upper 40 bits of new inode numbers
	counter       uint64       // lower 24 bits
	contained     uint64       // position of the journal when it was opened, that the head contained
	seen          uint64       // highest number of this device that the store shows
	made          []madeCommit // by this opening, the newest last; guarded by mu
	session       session      // that this opening writes, if it does
	attempted     uint64       // highest sequence that may have been signed; the committer's own
	replay        bool         // the journal is being replayed: nothing is logged
	epoch         uint64       // counts freezes, from 1
	header        []byte       // of the record that was written last, to be used again
	slab          []byte       // room for pieces, see keepPiece

	top        vaultTop            // of the newest commit
	links      map[Ino]*inode      // inodes with several names, changed since the freeze; nil if gone
	linkFrozen map[Ino]*inode      // what the running commit writes of them
	orphans    map[*inode]struct{} // without names, with committed content or references
	files      uint64              // inodes in the tree
	bytes      uint64              // logical bytes of all files

	used, free   uint64 // bytes that the store took, and could still take, when it last said
	pendingOps   int    // changes since the last commit that is linked
	pendingBytes int64  // of them, in the journal and in the stage
	journalBytes int64  // those in the journal
	oldest       time.Time
	dirty        int64         // bytes of files in memory only, and in the journal
	dirtyDone    chan struct{} // closed and made anew when dirty falls
	streams      []*stream     // open, the oldest first
	replayed     map[stageID]*source
	rekeyed      *vaultKeys // those of the next commit, if they change; until it is linked
	readOnly     error      // why, or nil
	displaced    displacement
	halted       error // why nothing is committed any more, or nil
	line         line  // of the newest commit
	alerts       []string
	causes       map[string]error // of alerts that come from an error
	closed       bool
}

func (t *Tree) btree(kind crypt.PageKind, root crypt.PagePointer) *btree {
	return &btree{kind: kind, root: root, get: t.inMemory, ahead: t.aheadOf}
}

// get returns a loaded inode. The kernel only speaks of inodes that it looked up.
func (t *Tree) get(ino Ino) (*inode, error) {
	if in, ok := t.inodes[ino]; ok {
		return in, nil
	}
	return nil, fmt.Errorf("inode %d: %w", ino, ErrStale)
}

func (t *Tree) getDir(ino Ino) (*inode, error) {
	in, err := t.get(ino)
	if err == nil && !in.isDir() {
		err = ErrNotDir
	}
	return in, err
}

// child returns the inode that a name in dir stands for, loading it if need be.
func (t *Tree) child(dir *inode, name string) (*inode, error) {
	if in, ok := dir.over[name]; ok {
		return orNotFound(in)
	}
	if in, ok := dir.frozen[name]; ok {
		return orNotFound(in)
	}
	b, ok, err := t.btree(crypt.PageDirectory, dir.base).lookup(name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrNotFound
	}
	var r record
	if err := r.decode(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIntegrity, err)
	}
	if in, ok := t.inodes[r.attr.Ino]; ok {
		return in, nil
	}
	if r.body == bodyLinked {
		return t.linkedInode(r.attr.Ino)
	}
	in := inodeOf(&r)
	in.parent, in.name, in.since = dir, name, t.top.sequence
	dir.kids++
	t.keep(in)
	return in, nil
}

func orNotFound(in *inode) (*inode, error) {
	if in == nil {
		return nil, ErrNotFound
	}
	return in, nil
}

// linkedInode returns an inode of the inode table.
func (t *Tree) linkedInode(ino Ino) (*inode, error) {
	if in, ok := t.inodes[ino]; ok {
		return in, nil
	}
	b, ok, err := t.btree(crypt.PageInodes, t.top.inodes).lookup(inoKey(ino))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("inode %d is in no table: %w", ino, ErrIntegrity)
	}
	r, err := decodeRecord(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIntegrity, err)
	}
	in := inodeOf(r)
	in.linked, in.since = true, t.top.sequence
	t.keep(in)
	return in, nil
}

func inoKey(ino Ino) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(ino))
	return string(b[:])
}

// newIno draws the next inode number.
func (t *Tree) newIno() Ino {
	if t.counter == 0 || t.counter >= 1<<24 {
		var b [8]byte
		rand.Read(b[3:])
		t.group, t.counter = binary.BigEndian.Uint64(b[:]), 1
		if t.group == 0 { // numbers of group 0 are the root's
			t.group = 1
		}
	}
	n := Ino(t.group<<24 | t.counter)
	t.counter++
	return n
}

// mark notes that an inode changed: its parent's overlay gets it, and so up to the root.
func (t *Tree) mark(in *inode) {
	for in != t.root && in.marked != t.epoch && !in.orphan {
		in.marked = t.epoch
		if in.linked {
			put(&t.links, in.attr.Ino, in)
			t.noteChange()
			return
		}
		put(&in.parent.over, in.name, in)
		t.noteChange()
		in = in.parent
	}
}

// put sets a name of an overlay and counts who holds the inode.
func put[K comparable](m *map[K]*inode, k K, in *inode) {
	if *m == nil {
		*m = map[K]*inode{}
	}
	old := (*m)[k]
	if in != nil {
		in.holders++
	}
	if old != nil {
		old.holders--
	}
	(*m)[k] = in
}

// setName makes a name of dir stand for in, or for nothing.
func (t *Tree) setName(dir *inode, name string, in *inode) {
	put(&dir.over, name, in)
	t.noteChange()
	dir.lists.gen++
	t.mark(dir)
}

// evict drops a clean inode that nobody refers to, and then perhaps its parent.
func (t *Tree) evict(in *inode) {
	for in != nil && in != t.root && in.refs == 0 && in.kids == 0 && in.holders == 0 && !t.replay {
		if in.orphan {
			if in.committed.isZero() {
				delete(t.orphans, in)
				t.unload(in)
			}
			return
		}
		if in.fileState != nil && in.stream != nil {
			t.endStream(in.stream)
		}
		t.unload(in)
		p := in.parent
		if p != nil {
			p.kids--
		}
		in = p
	}
}

// Parent returns the directory that a loaded inode is in; not that of one with several names.
func (t *Tree) Parent(ino Ino) (Ino, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in := t.inodes[ino]
	if in == nil || in.parent == nil {
		return 0, false
	}
	return in.parent.attr.Ino, true
}

// Forget drops n references of the kernel.
func (t *Tree) Forget(ino Ino, n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in, ok := t.inodes[ino]
	if !ok {
		return
	}
	in.refs -= min(n, in.refs)
	t.evict(in)
}

// noteError raises an alert for what the user must know.
func (t *Tree) noteError(err error) {
	if !errors.Is(err, ErrIntegrity) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.alarm(err)
}

const maxAlerts = 32

// alarm adds an error to the alerts, once.
func (t *Tree) alarm(err error) {
	t.alert(err.Error())
	if t.causes == nil {
		t.causes = map[string]error{}
	}
	t.causes[err.Error()] = err
}

// alert adds a line for status, once.
func (t *Tree) alert(text string) {
	for _, a := range t.alerts {
		if a == text {
			return
		}
	}
	t.cfg.Log.Error("alert", "what", text)
	if len(t.alerts) < maxAlerts {
		t.alerts = append(t.alerts, text)
	}
}

// writable reports why the tree cannot be changed, or nil.
func (t *Tree) writable() error {
	if t.readOnly != nil {
		return fmt.Errorf("%w: %w", ErrReadOnly, t.readOnly)
	}
	return nil
}

// change checks, journals and applies an op. check sees the tree and may fill in the op;
// nothing changes unless it returns nil. after, if given, sees the changed tree.
func (t *Tree) change(ctx context.Context, o *op, check func() error, after ...func()) error {
	o.time = t.cfg.Now().UnixNano()
	crowd := false
	defer func() {
		if crowd {
			t.pace(ctx)
		}
	}()
	return t.do(ctx, func() error {
		if err := t.writable(); err != nil {
			return err
		}
		if err := check(); err != nil {
			return err
		}
		// What has no name dies with the process: its changes need no record.
		if in := t.inodes[o.ino]; in == nil || !in.orphan {
			if err := t.log(o); err != nil {
				return err
			}
		}
		if err := t.apply(o); err != nil {
			return err
		}
		for _, f := range after {
			f()
		}
		// Writes wait in room.
		crowd = o.kind != opWrite && t.changed+t.freezing > 2*t.changeLimit()
		return nil
	})
}

// log appends an op to the journal, after records that say where its inodes are found.
func (t *Tree) log(o *op) error {
	if err := t.space.admit(int64(len(o.data)), o.kind); err != nil {
		return err
	}
	for _, ino := range [...]Ino{o.ino, o.parent, o.parent2, o.ino2} {
		if err := t.locate(ino); err != nil {
			return err
		}
	}
	t.header = o.header(t.header[:0])
	return t.append(t.header, o.data)
}

func (t *Tree) append(parts ...[]byte) error {
	if _, err := t.journal.Append(parts...); err != nil {
		return journalError(err)
	}
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if t.pendingOps == 0 {
		t.oldest = t.cfg.Now()
		t.commits.wake()
	}
	t.pendingOps++
	t.pendingBytes += int64(n)
	t.journalBytes += int64(n)
	t.space.owed.Store(t.journalBytes)
	return nil
}

// locate writes, once an epoch, how to find an inode, its parents first: a replay that
// begins at the last freeze has no other way to an inode by number.
func (t *Tree) locate(ino Ino) error {
	in := t.inodes[ino]
	if in == nil || in == t.root || in.located == t.epoch || in.orphan {
		return nil
	}
	o := op{kind: opLocate, ino: ino}
	if !in.linked {
		if err := t.locate(in.parent.attr.Ino); err != nil {
			return err
		}
		o.parent, o.name = in.parent.attr.Ino, in.name
	}
	t.header = o.header(t.header[:0])
	if err := t.append(t.header); err != nil {
		return err
	}
	in.located = t.epoch
	return nil
}
