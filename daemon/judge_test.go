package daemon

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/fs"
)

// judged is an owner's drive, and a device that makes commits with a program of its own,
// which asks nobody for leave.
type judged struct {
	t      *testing.T
	owner  *machine
	other  *machine
	phrase *auth.Phrase
}

func newJudged(t *testing.T, g auth.Grant) judged {
	t.Helper()
	a, phrase := founderWithPhrase(t, "owner")
	a.write("precious", "old text")
	b := a.enrol(g)
	if !b.has("precious") {
		t.Fatal("the other device does not read")
	}
	return judged{t, a, b, phrase}
}

// liar names a version of the document that does not exist.
type liar struct {
	deaf
	version string
}

func (l liar) Log(ctx context.Context) (log []byte, version string, err error) {
	if log, version, err = l.deaf.Log(ctx); l.version != "" {
		version = l.version
	}
	return log, version, err
}

// plant lets the other device remove what the owner wrote and commit at a time, as itself.
func (j judged) plant(at time.Time, version string) fs.HeadInfo {
	j.t.Helper()
	ctx := context.Background()
	name, cid := j.owner.newest()
	cfg := j.other.config(liar{deaf{j.other.s}, version})
	cfg.Now = func() time.Time { return at }
	head, err := fs.Rewrap(ctx, cfg, fs.Rewrapped{Name: name, Commit: cid, Open: j.other.s.OpenWrapped})
	if err != nil {
		j.t.Fatal(err)
	}
	tree, err := fs.Open(ctx, cfg)
	if err != nil {
		j.t.Fatal(err)
	}
	defer tree.Abort()
	if err := tree.Rmdir(ctx, fs.RootIno, "precious"); err != nil {
		j.t.Fatal(err)
	}
	for range 3 {
		if _, err := tree.Mkdir(ctx, fs.RootIno, "planted", 0o700, fs.Owner{}); err != nil && !errors.Is(err, fs.ErrExist) {
			j.t.Fatal(err)
		}
		if err := tree.Sync(ctx, fs.DurabilityIPFS); err != nil {
			j.t.Fatal(err)
		}
	}
	if head = tree.Status().Commit; head.Sequence == 0 {
		j.t.Fatal("nothing was planted")
	}
	return head
}

// clues are what a search by the phrase finds in the store.
func (j judged) clues() []clue {
	j.t.Helper()
	ctx := context.Background()
	var all []clue
	names, err := j.owner.store.Commits(ctx, "")
	if err != nil {
		j.t.Fatal(err)
	}
	for _, n := range names {
		c, err := j.owner.store.Resolve(ctx, n)
		if err != nil {
			j.t.Fatal(err)
		}
		e, err := fs.Examine(ctx, j.owner.store, j.phrase.OpenWrapped, n, c)
		if err != nil {
			continue
		}
		all = append(all, clue{source: "the store", log: e.Log, commit: e})
	}
	// What the owner's newest document is, an other place tells.
	all = append(all, clue{source: "a file", log: auth.OwnLog(j.owner.keystore(), j.owner.s.DID())})
	return all
}

// Whoever asks whether a device may have made a commit gets the same answer: an open drive,
// a restore from Egress, a recovery by the phrase, and a snapshot, which alone goes by the
// document of its own time.
func TestOneJudgeOfCommits(t *testing.T) {
	ctx := context.Background()
	now := time.Now()
	soon := now.Add(time.Hour).UTC().Truncate(time.Second)
	for name, c := range map[string]struct {
		grant    auth.Grant
		at       time.Time // of the commit
		version  string    // that the commit names, in place of the newest
		before   func(judged)
		after    func(judged) // between the commit and the question
		used     bool
		snapshot bool
	}{
		"full":      {grant: auth.Grant{Scope: auth.ScopeFull}, at: now, used: true, snapshot: true},
		"read-only": {grant: auth.Grant{Scope: auth.ScopeRead}, at: now},
		"in time":   {grant: auth.Grant{Scope: auth.ScopeWrite, Until: soon}, at: now, used: true, snapshot: true},
		"expired":   {grant: auth.Grant{Scope: auth.ScopeWrite, Until: soon}, at: soon.Add(time.Minute)},
		// It dates its commit back, and the owner has committed after its end.
		"expired, dated back": {grant: auth.Grant{Scope: auth.ScopeWrite, Until: soon}, at: soon.Add(-time.Second),
			before: func(j judged) { j.owner.writeAt("later", soon.Add(time.Hour)) }, snapshot: true},
		// It names the document in which it was still allowed.
		"revoked": {grant: auth.Grant{Scope: auth.ScopeFull}, at: now, after: judged.revoke, snapshot: true},
		"demoted": {grant: auth.Grant{Scope: auth.ScopeFull}, at: now, after: judged.demote, snapshot: true},
		"unknown": {grant: auth.Grant{Scope: auth.ScopeFull}, at: now, version: "7-QmfGEUAcMpzo25kF2Rhn8L5FAXysfGnkzjwdKoNPi615XQ"},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJudged(t, c.grant)
			if c.before != nil {
				c.before(j)
			}
			head := j.plant(c.at, c.version)
			if c.after != nil {
				c.after(j)
			}
			name := fs.CommitName{Vault: j.owner.vault, Device: head.Device, Sequence: head.Sequence}
			check := func(who string, got bool) {
				t.Helper()
				if got != c.used {
					t.Errorf("%s uses the commit: %t, want %t", who, got, c.used)
				}
			}
			found, err := fs.Newest(ctx, j.owner.config(j.owner.s))
			check("an open drive", err == nil && found.Device == head.Device)
			_, accepted, err := fs.AcceptedAt(j.owner.config(nil).StateDir, j.owner.vault)
			if err != nil {
				t.Fatal(err)
			}
			_, err = fs.Inspect(ctx, j.owner.store, j.owner.s, name, head.Commit, accepted)
			check("a restore", err == nil)
			if _, err = fs.Adopt(ctx, j.owner.store, j.owner.s, name, head.Commit, accepted); (err == nil) != c.used {
				t.Errorf("adopting it: %v", err)
			}
			f, err := judge(ctx, j.clues(), j.phrase, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			check("a recovery", f.Commit != nil && f.Commit.Device == head.Device)

			cfg := j.owner.config(j.owner.s)
			cfg.StateDir = t.TempDir()
			cfg.At = &fs.At{Device: head.Device, Sequence: head.Sequence, Commit: head.Commit}
			tree, err := fs.Open(ctx, cfg)
			if (err == nil) != c.snapshot {
				t.Errorf("as a snapshot: %v", err)
			}
			if err == nil {
				tree.Abort()
			} else if !errors.Is(err, fs.ErrIntegrity) {
				t.Errorf("the refusal is no integrity error: %v", err)
			}
		})
	}
}

// revoke takes the device out of the document. The vault's new key is not there yet: the
// recovery and the drive have nothing but the document to go by.
func (j judged) revoke() {
	j.t.Helper()
	if _, err := auth.Revoke(context.Background(), j.owner.keystore(), thiefPass, j.other.s.Device()); err != nil {
		j.t.Fatal(err)
	}
}

// demote leaves the device its reading.
func (j judged) demote() {
	j.t.Helper()
	if _, err := auth.Approve(context.Background(), j.owner.keystore(), thiefPass, j.other.request, auth.Grant{Scope: auth.ScopeRead}); err != nil {
		j.t.Fatal(err)
	}
}

// writeAt is write at another time.
func (m *machine) writeAt(name string, at time.Time) {
	m.t.Helper()
	ctx := context.Background()
	cfg := m.config(m.s)
	cfg.Now = func() time.Time { return at }
	tree, err := fs.Open(ctx, cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	defer tree.Abort()
	if _, err := tree.Mkdir(ctx, fs.RootIno, name, 0o700, fs.Owner{}); err != nil {
		m.t.Fatal(err)
	}
	if err := tree.Sync(ctx, fs.DurabilityIPFS); err != nil {
		m.t.Fatal(err)
	}
}

// An identity that somebody else made does not win a recovery by the date of its commit:
// the one that the phrase has signed for does.
func TestThePhraseVouches(t *testing.T) {
	ctx := context.Background()
	log := slog.New(slog.DiscardHandler)
	mine := newJudged(t, auth.Grant{Scope: auth.ScopeFull})
	other := newJudged(t, auth.Grant{Scope: auth.ScopeFull})
	other.owner.writeAt("later", time.Now().Add(time.Hour))
	for _, all := range [][]clue{append(mine.clues(), other.clues()...), append(other.clues(), mine.clues()...)} {
		f, err := judge(ctx, all, mine.phrase, log)
		if err != nil || auth.SelfCertifying(f.DID) != auth.SelfCertifying(mine.owner.s.DID()) {
			t.Errorf("the phrase finds %+v, %v", f, err)
		}
	}
}

// A revoked device shows an old log under the name whose key it had. Whatever else was found
// leads to the new name, and the log there counts.
func TestSearchFollowsTheName(t *testing.T) {
	ctx := context.Background()
	j := newJudged(t, auth.Grant{Scope: auth.ScopeFull})
	dir := j.owner.keystore()
	name := func() string {
		t.Helper()
		n, ok := auth.NameOf(auth.PresentDID(ctx, dir, j.owner.s.DID()))
		if !ok {
			t.Fatal("the DID has no IPNS name")
		}
		return n
	}
	old, oldLog := name(), auth.OwnLog(dir, j.owner.s.DID())
	j.revoke()
	now, inCommit := name(), auth.OwnLog(dir, j.owner.s.DID())
	if _, err := auth.Rotate(ctx, dir, thiefPass); err != nil {
		t.Fatal(err)
	}
	newest := auth.OwnLog(dir, j.owner.s.DID())
	if now == old {
		t.Fatal("the name is the same")
	}
	read := func(n string) ([]byte, error) {
		if n == now {
			return newest, nil
		}
		return oldLog, nil
	}
	out, err := followNames(ctx, []string{old}, namesIn(ctx, inCommit), read)
	if err != nil || len(out) != 2 {
		t.Fatalf("%d logs, %v", len(out), err)
	}
	f, err := judge(ctx, out, j.phrase, slog.New(slog.DiscardHandler))
	if err != nil || string(f.Log) != string(newest) {
		t.Errorf("%+v, %v", f, err)
	}
	// With the old name alone there is no way to know: it is withheld, and not replaced.
	if out, _ = followNames(ctx, []string{old}, nil, read); len(out) != 1 {
		t.Errorf("%d logs", len(out))
	}
}
