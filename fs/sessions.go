package fs

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// Two machines may have the same device key: one was restored from a backup of the other,
// or its disk was copied. Their commits have the same device and perhaps the same numbers,
// so that neither tells which of two commits came after the other.
//
// Each opening of a vault for writing therefore draws a session: 16 random bytes. A head
// lists the sessions of its line, each with the number of its last commit. One process
// writes one session, so a session is linear: a commit (session, number) is an ancestor of
// a head, or the head itself, if and only if the head lists that session with that number
// or a higher one.
//
// A session stands in the head as the position of a journal of a device that cannot exist.
// Programs that know nothing of sessions carry such entries on.

// sessionMark and asideMark stand where a journal's position has its device. They are
// shorter than the name of any device.
const (
	sessionMark = "session"
	// asideMark is for a line that the owner has given up: its commits are no ancestors, and
	// that they are there is no news.
	asideMark = "aside"
)

const (
	maxSessions = 64 // of a line that a head lists, the newest
	maxAside    = 16
)

type session [16]byte

func newSession() session { return session(crypt.NewVaultID()) }

func (s session) String() string { return hex.EncodeToString(s[:]) }

// unnamed is the session of a head that lists none, as earlier versions made them: each of
// their heads is one of its own.
func unnamed(head CID) session { return session(head.Digest[:16]) }

// sessionsOf are the sessions that a head lists, in the order in which they wrote.
func sessionsOf(journals []crypt.JournalPosition) []crypt.JournalPosition {
	return marked(journals, sessionMark)
}

func marked(journals []crypt.JournalPosition, mark string) (out []crypt.JournalPosition) {
	for _, j := range journals {
		if j.Device == mark {
			out = append(out, j)
		}
	}
	return out
}

// ownSession is the session that made a head.
func ownSession(h *crypt.Head, cid CID) session {
	if all := sessionsOf(h.Journals); len(all) > 0 {
		if last := all[len(all)-1]; last.Position == h.Sequence {
			return last.Journal
		}
	}
	return unnamed(cid)
}

// signOn enters that a session makes a head.
func (s session) signOn(h *crypt.Head) {
	list := sessionsOf(h.Journals)
	var last uint64
	if len(list) > 0 {
		last = list[len(list)-1].Position
	}
	for _, p := range h.Parents { // of a version that knew no sessions
		if p.Sequence > last {
			list = append(list, crypt.JournalPosition{Device: sessionMark, Journal: unnamed(p.Head), Position: p.Sequence})
		}
	}
	list = slices.DeleteFunc(list, func(j crypt.JournalPosition) bool { return j.Journal == s })
	list = append(list, crypt.JournalPosition{Device: sessionMark, Journal: s, Position: h.Sequence})
	h.Journals = replaceMarked(h.Journals, sessionMark, list, maxSessions)
}

func replaceMarked(journals []crypt.JournalPosition, mark string, list []crypt.JournalPosition, most int) []crypt.JournalPosition {
	out := slices.DeleteFunc(slices.Clone(journals), func(j crypt.JournalPosition) bool { return j.Device == mark })
	return append(out, list[max(0, len(list)-most):]...)
}

// lists tells whether a list of sessions has one, up to a number.
func lists(journals []crypt.JournalPosition, mark string, s session, sequence uint64) bool {
	return slices.ContainsFunc(journals, func(j crypt.JournalPosition) bool {
		return j.Device == mark && j.Journal == s && j.Position >= sequence
	})
}

// giveUp enters that the line that ends with a commit was given up by the owner.
func giveUp(h *crypt.Head, s session, sequence uint64) {
	list := slices.DeleteFunc(marked(h.Journals, asideMark), func(j crypt.JournalPosition) bool { return j.Journal == s })
	list = append(list, crypt.JournalPosition{Device: asideMark, Journal: s, Position: sequence})
	h.Journals = replaceMarked(h.Journals, asideMark, list, maxAside)
}

// giveUpLine enters so what a line has that this one has not.
func giveUpLine(h *crypt.Head, l *loadedHead) {
	giveUp(h, ownSession(l.head, l.cid), l.head.Sequence)
	for _, s := range sessionsOf(l.head.Journals) {
		if !lists(h.Journals, sessionMark, s.Journal, s.Position) {
			giveUp(h, s.Journal, s.Position)
		}
	}
}

// Kinship is how a commit stands to the newest one of this device's line.
type Kinship int

const (
	// KinOther: neither comes after the other. Another machine made it, with the same keys.
	KinOther Kinship = iota
	KinSame
	KinAncestor
	KinDescendant
	// KinAside: it belongs to a line that the owner has given up.
	KinAside
)

// line is where a line of commits ends.
type line struct {
	head     CID
	session  session
	sequence uint64
	journals []crypt.JournalPosition
}

func lineOf(h *crypt.Head, cid CID) line {
	return line{head: cid, session: ownSession(h, cid), sequence: h.Sequence, journals: h.Journals}
}

// follows tells whether a line contains the end of another one.
func (l line) follows(older line) bool {
	return l.head == older.head || lists(l.journals, sessionMark, older.session, older.sequence)
}

// to says how the end of another line stands to this one's.
func (l line) to(other line) Kinship {
	switch {
	case l.head == other.head:
		return KinSame
	case l.follows(other):
		return KinAncestor
	case other.follows(l):
		return KinDescendant
	case lists(l.journals, asideMark, other.session, other.sequence):
		return KinAside
	}
	return KinOther
}

// parting is the number of the last commit that two lines have in common, 0 if none is
// known.
func (l line) parting(other line) (n uint64) {
	for _, a := range sessionsOf(l.journals) {
		for _, b := range sessionsOf(other.journals) {
			if a.Journal == b.Journal {
				n = max(n, min(a.Position, b.Position))
			}
		}
	}
	return n
}

// line is that of the accepted commit, as far as it is known without its head.
func (a *acceptedHead) line() (line, error) {
	cid, err := crypt.ParseCID(a.Head)
	if err != nil {
		return line{}, fmt.Errorf("%w: local state: %w", ErrIntegrity, err)
	}
	l := line{head: cid, session: unnamed(cid), sequence: a.Sequence}
	if a.Session != "" {
		b, err := hex.DecodeString(a.Session)
		if err != nil || len(b) != len(l.session) {
			return line{}, fmt.Errorf("the session in the local state: %w", ErrIntegrity)
		}
		l.session = session(b)
	}
	return l, nil
}

// ancestors follows the parents of a head of which the list of sessions does not say
// whether it comes after an older one, as far as they can be had.
func ancestors(ctx context.Context, cfg *Config, l *loadedHead, older line) bool {
	h := l.head
	for range maxSessions {
		var next *crypt.Head
		for _, p := range h.Parents {
			if p.Head == older.head {
				return true
			}
			if p.Sequence <= older.sequence {
				continue
			}
			sealed, err := cfg.Store.Get(ctx, p.Head)
			if err != nil {
				continue
			}
			// Its CID stands in a head that has verified.
			next, _ = crypt.OpenHead(ctx, sealed, l.keys.key, func(context.Context, string, []byte, []byte) error { return nil })
		}
		if next == nil {
			return false
		}
		h = next
	}
	return false
}

// Relative is a commit that was found outside the store, and how it stands to what this
// device has.
type Relative struct {
	HeadInfo
	Kin Kinship
}

// Relate verifies a commit as Inspect does and says how it stands to the commit that this
// device has accepted last. ErrNotFound: it has accepted none.
func Relate(ctx context.Context, cfg Config, name CommitName, commit CID) (r Relative, err error) {
	cfg.fill()
	state, err := openState(cfg.StateDir)
	if err != nil {
		return r, err
	}
	t := &Tree{cfg: cfg, state: state, reader: newReader(cfg.Store, cfg.MemoryLimit)}
	known := t.acceptedHead(ctx, state.get().Accepted)
	if known == nil {
		return r, fmt.Errorf("the commit that this device accepted last: %w", ErrNotFound)
	}
	name.Sequence = 0
	l, err := loadCommit(ctx, &cfg, name, commit, time.Time{}, false)
	if err != nil {
		return r, err
	}
	return relate(ctx, &cfg, lineOf(known.head, known.cid), l), nil
}

// madeCommit is a commit of this process.
type madeCommit struct {
	sequence uint64
	commit   CID
}

const maxMade = 1024

// stand enters that this process has made the newest commit.
func (t *Tree) stand(h *crypt.Head, info commitInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line = lineOf(h, info.head)
	if t.made = append(t.made, madeCommit{info.sequence, info.commit}); len(t.made) > maxMade {
		t.made = slices.Delete(t.made, 0, len(t.made)-maxMade)
	}
}

// Relate says how a commit stands to the newest one of the tree.
func (t *Tree) Relate(ctx context.Context, name CommitName, commit CID) (Relative, error) {
	t.mu.Lock()
	i := slices.IndexFunc(t.made, func(m madeCommit) bool { return m.commit == commit })
	if i >= 0 {
		r := Relative{Kin: KinAncestor, HeadInfo: HeadInfo{Device: t.cfg.Identity.Device(), Sequence: t.made[i].sequence, Commit: commit}}
		if i == len(t.made)-1 {
			r.Kin = KinSame
		}
		t.mu.Unlock()
		return r, nil
	}
	t.mu.Unlock()
	name.Sequence = 0
	l, err := loadCommit(ctx, &t.cfg, name, commit, time.Time{}, false)
	if err != nil {
		return Relative{}, err
	}
	t.mu.Lock()
	ours, made := t.line, slices.Clone(t.made)
	t.mu.Unlock() // all that the commit can have come from is in there
	r := relate(ctx, &t.cfg, ours, l)
	// A machine that was copied while it ran has two processes with the same session.
	if t.session != (session{}) && ownSession(l.head, l.cid) == t.session && !slices.Contains(made, madeCommit{r.Sequence, commit}) &&
		(len(made) < maxMade || r.Sequence >= made[0].sequence) {
		r.Kin = KinOther
	}
	return r, nil
}

func relate(ctx context.Context, cfg *Config, ours line, l *loadedHead) Relative {
	r := Relative{HeadInfo: l.info(), Kin: ours.to(lineOf(l.head, l.cid))}
	if r.Kin == KinOther && l.head.Sequence > ours.sequence && ancestors(ctx, cfg, l, ours) {
		r.Kin = KinDescendant
	}
	return r
}

// Skip keeps the numbers up to one from being signed by this device: somebody has seen a
// commit of it with that number.
func Skip(stateDir string, sequence uint64) error {
	s, err := openState(stateDir)
	if err != nil || s.get().Reserved >= sequence {
		return err
	}
	return s.update(func(l *localState) { l.Reserved = max(l.Reserved, sequence) })
}

// containedIn tells whether a head is one of those on top of which, or by which, the last
// opening has written the end of the journal.
func (s *localState) containedIn(l *loadedHead) bool {
	o := s.Opened
	if o.Session == "" || o.On == l.cid.String() {
		return true // an earlier version of this program wrote it, or nothing was committed since
	}
	b, err := hex.DecodeString(o.Session)
	return err == nil && len(b) == len(session{}) && !s.Halted && lists(l.head.Journals, sessionMark, session(b), 0)
}

const (
	leapRandom  = 1 << 20 // numbers
	leapPerS    = 5       // numbers for each second since the last commit: more than a drive makes
	leapSeconds = 100 * 365 * 24 * 3600
)

// leap returns how many numbers an opening leaves out, if another machine may have gone on
// from the same commit. It may have used the next numbers, and nobody who can be asked now
// may know of that. It has not made more than a few commits each second; and if it runs just
// now, it has begun at another random number.
func leap(last, now time.Time) uint64 {
	s := min(max(0, int64(now.Sub(last)/time.Second)), leapSeconds)
	return uint64(s)*leapPerS + rand.Uint64N(leapRandom)
}
