package daemon

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// machine is a device with its own directories, at a store that all of them reach.
type machine struct {
	t     *testing.T
	dir   string
	store *fstest.Memory
	vault string
	s     *auth.Session

	request *auth.Request // with which it joined
}

var thiefPass = []byte("correct horse")

// lightKDF is the least that is accepted.
func lightKDF() auth.KDF { return auth.KDF{Time: 1, Memory: 64 << 10, Threads: 4} }

// copyBlocks copies what one store has to another.
func copyBlocks(t *testing.T, to, from *fstest.Memory) {
	t.Helper()
	ctx := context.Background()
	for _, c := range from.CIDs() {
		b, err := from.Get(ctx, c)
		if err == nil {
			err = to.Put(ctx, []fs.Block{{CID: c, Data: b}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (m *machine) keystore() string { return filepath.Join(m.dir, "keystore") }

func (m *machine) login() {
	m.t.Helper()
	s, err := auth.Login(context.Background(), m.keystore(), thiefPass)
	if err != nil {
		m.t.Fatal(err)
	}
	m.s = s
	m.t.Cleanup(func() { _ = s.Close() })
}

func (m *machine) config(id fs.Identity) fs.Config {
	return fs.Config{Store: m.store, Identity: id, Vault: m.vault, StateDir: filepath.Join(m.dir, "state"),
		JournalDir: filepath.Join(m.dir, "journal"), Deadline: 10 * time.Second}
}

// write writes a file and commits it.
func (m *machine) write(name, text string) fs.HeadInfo {
	m.t.Helper()
	ctx := context.Background()
	tree, err := fs.Open(ctx, m.config(m.s))
	if err != nil {
		m.t.Fatal(err)
	}
	defer tree.Abort()
	if _, err := tree.Mkdir(ctx, fs.RootIno, name, 0o700, fs.Owner{}); err != nil {
		m.t.Fatal(err)
	}
	if err := tree.SetXattr(ctx, fs.RootIno, "user.text", []byte(text), 0); err != nil {
		m.t.Fatal(err)
	}
	if err := tree.Sync(ctx, fs.DurabilityIPFS); err != nil {
		m.t.Fatal(err)
	}
	return tree.Status().Commit
}

// has tells whether a directory is there, as this machine sees the vault.
func (m *machine) has(name string) bool {
	m.t.Helper()
	ctx := context.Background()
	tree, err := fs.Open(ctx, m.config(m.s))
	if err != nil {
		m.t.Fatal(err)
	}
	defer tree.Abort()
	_, err = tree.Lookup(ctx, fs.RootIno, name)
	if err != nil && !errors.Is(err, fs.ErrNotFound) {
		m.t.Fatal(err)
	}
	return err == nil
}

// enrol makes a device of m's identity on another machine.
func (m *machine) enrol(g auth.Grant) *machine {
	m.t.Helper()
	ctx := context.Background()
	other := &machine{t: m.t, dir: m.t.TempDir(), store: m.store, vault: m.vault}
	r, err := auth.Enrol(ctx, auth.InitConfig{Dir: other.keystore(), Passphrase: thiefPass, KDF: lightKDF(), DeviceName: "other"})
	if err != nil {
		m.t.Fatal(err)
	}
	other.request = r
	done, err := auth.Approve(ctx, m.keystore(), thiefPass, r, g)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := m.s.TakeNotes(ctx, done.Notes); err != nil {
		m.t.Fatal(err)
	}
	m.rekey(false)
	text, err := r.Seal(auth.Answer{DID: done.Document.ID, Version: done.Document.Version.ID, Log: done.Log, Notes: done.Notes})
	if err != nil {
		m.t.Fatal(err)
	}
	if _, _, err := auth.Join(ctx, auth.InitConfig{Dir: other.keystore(), Passphrase: thiefPass, KDF: lightKDF()}, text, nil); err != nil {
		m.t.Fatal(err)
	}
	other.login()
	return other
}

func (m *machine) rekey(newEpoch bool) {
	m.t.Helper()
	ctx := context.Background()
	tree, err := fs.Open(ctx, m.config(m.s))
	if err != nil {
		m.t.Fatal(err)
	}
	defer tree.Abort()
	if _, err := tree.Rekey(ctx, newEpoch); err != nil {
		m.t.Fatal(err)
	}
}

// takeOver makes the machine the writer, as it sees itself.
func (m *machine) takeOver(id fs.Identity, name fs.CommitName, commit fs.CID) (fs.HeadInfo, error) {
	return fs.Rewrap(context.Background(), m.config(id), fs.Rewrapped{Name: name, Commit: commit, Open: m.s.OpenWrapped})
}

// deaf is the program of a thief: it learns nothing from the commits that it sees, and
// asks nobody for leave.
type deaf struct{ *auth.Session }

func (deaf) TakeLog(context.Context, []byte) error      { return nil }
func (deaf) TakeNotes(context.Context, []byte) error    { return nil }
func (deaf) MayCommit(context.Context, time.Time) error { return nil }
func (deaf) JudgeCommit(context.Context, fs.CommitClaim) (fs.Verdict, error) {
	return fs.Verdict{Standing: fs.StandingWriter}, nil
}
func (d deaf) Log(ctx context.Context) (b []byte, v string, err error) { return d.Session.Log(ctx) }

func founder(t *testing.T) *machine {
	t.Helper()
	m, phrase := founderWithPhrase(t, "first")
	phrase.Wipe()
	return m
}

// founderWithPhrase makes an identity and its drive on a machine.
func founderWithPhrase(t *testing.T, name string) (*machine, *auth.Phrase) {
	t.Helper()
	ctx := context.Background()
	m := &machine{t: t, dir: t.TempDir(), store: fstest.NewMemory()}
	id, err := auth.Init(ctx, auth.InitConfig{Dir: m.keystore(), Passphrase: thiefPass, KDF: lightKDF(), DeviceName: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(id.Phrase.Wipe)
	m.login()
	if m.vault, err = fs.Create(ctx, m.config(m.s)); err != nil {
		t.Fatal(err)
	}
	return m, id.Phrase
}

func (m *machine) newest() (fs.CommitName, fs.CID) {
	m.t.Helper()
	name, cid, err := fs.LastAccepted(filepath.Join(m.dir, "state"), m.vault)
	if err != nil {
		m.t.Fatal(err)
	}
	return name, cid
}

// A thief has the disk of a device with all rights, and its passphrase, and a program of
// his own. Once the device is revoked he reads nothing that is written then, nobody takes
// what he commits, and nobody takes the versions of the document that he writes.
func TestThiefWithPassphrase(t *testing.T) {
	ctx := context.Background()
	a := founder(t)
	a.write("before", "old text")
	b := a.enrol(auth.Grant{Scope: auth.ScopeFull})
	c := a.enrol(auth.Grant{Scope: auth.ScopeFull})
	if !b.has("before") || !c.has("before") {
		t.Fatal("a device does not read the vault")
	}
	// The thief copies the disk of b, and knows the newest commit.
	thief := &machine{t: t, dir: t.TempDir(), store: fstest.NewMemory(), vault: a.vault}
	copyBlocks(t, thief.store, a.store)
	if err := os.CopyFS(thief.dir, os.DirFS(b.dir)); err != nil {
		t.Fatal(err)
	}
	thief.login()
	stolenName, stolen := a.newest()
	doc, err := auth.Revoke(ctx, a.keystore(), thiefPass, b.s.Device())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Revoke(ctx, a.keystore(), thiefPass, b.s.Device()); !errors.Is(err, auth.ErrNoDevice) {
		t.Errorf("revoked twice: %v", err)
	}
	if _, err := auth.Revoke(ctx, a.keystore(), thiefPass, a.s.Device()); !errors.Is(err, auth.ErrInvalid) {
		t.Errorf("a device revoked itself: %v", err)
	}
	a.rekey(true)
	mine := a.write("after", "new text")

	// He reads what was there before; of what came after, not even the head.
	if _, err := fs.Examine(ctx, thief.store, thief.s.OpenWrapped, stolenName, stolen); err != nil {
		t.Errorf("what was stolen does not open: %v", err)
	}
	if _, err := fs.Examine(ctx, a.store, thief.s.OpenWrapped, stolenName, mine.Commit); !errors.Is(err, crypt.ErrNotRecipient) {
		t.Errorf("the thief opens a commit of the new epoch: %v", err)
	}
	if got, err := fs.Examine(ctx, a.store, c.s.OpenWrapped, stolenName, mine.Commit); err != nil || got.Epoch != 2 {
		t.Errorf("a device that stays does not open it: %+v, %v", got, err)
	}

	// He commits on top of the old one, wrapped for everybody that he knows of, and goes on
	// until his numbers are the highest.
	var forged fs.HeadInfo
	name, cid := stolenName, stolen
	for forged.Sequence < mine.Sequence+5 {
		if forged, err = thief.takeOver(deaf{thief.s}, name, cid); err != nil {
			t.Fatal(err)
		}
		name, cid = fs.CommitName{Vault: a.vault, Device: forged.Device, Sequence: forged.Sequence}, forged.Commit
	}
	copyBlocks(t, a.store, thief.store)
	if err := a.store.Link(ctx, name, cid, []fs.CID{cid}); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Examine(ctx, a.store, a.s.OpenWrapped, name, cid); err != nil {
		t.Fatalf("the forged commit is not even for the first device: %v", err)
	}
	for _, m := range []*machine{a, c} {
		tree, err := fs.Open(ctx, m.config(m.s))
		if err != nil {
			t.Fatal(err)
		}
		st := tree.Status()
		if _, err := tree.Lookup(ctx, fs.RootIno, "after"); err != nil || st.Commit.Sequence >= forged.Sequence {
			t.Errorf("with the thief's commits there: %+v, %v", st.Commit, err)
		}
		// To c, of whom the disk knew nothing, it is one more commit that does not open.
		if len(st.Alerts) == 0 || m == a && !slices.ContainsFunc(st.Alerts, func(s string) bool { return strings.Contains(s, thief.s.Device()) }) {
			t.Errorf("nothing is said of the thief's commits: %q", st.Alerts)
		}
		tree.Abort()
	}
	a.write("later", "goes on")
	if !c.has("later") {
		t.Error("a device that stays does not see what comes later")
	}
	if w, err := fs.Newest(ctx, c.config(c.s)); err != nil || w.Device != a.s.Device() {
		t.Errorf("%+v, %v", w, err)
	}

	// His version of the document is of another history.
	evil, err := auth.Enrol(ctx, auth.InitConfig{Dir: filepath.Join(t.TempDir(), "evil"), Passphrase: thiefPass, KDF: lightKDF()})
	if err != nil {
		t.Fatal(err)
	}
	done, err := auth.Approve(ctx, thief.keystore(), thiefPass, evil, auth.Grant{Scope: auth.ScopeFull})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*machine{a, c} {
		if _, err := auth.TakeLog(ctx, m.keystore(), done.Log); !errors.Is(err, auth.ErrRollback) {
			t.Errorf("the thief's history of the document: %v", err)
		}
	}
	// Nor has he a key for the true one.
	log := auth.OwnLog(a.keystore(), doc.ID)
	honest := &machine{t: t, dir: t.TempDir()}
	if err := os.CopyFS(honest.dir, os.DirFS(b.dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.TakeLog(ctx, honest.keystore(), log); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Approve(ctx, honest.keystore(), thiefPass, evil, auth.Grant{Scope: auth.ScopeFull}); !errors.Is(err, auth.ErrDevice) {
		t.Errorf("the thief changes the true document: %v", err)
	}
	if _, err := auth.Login(ctx, honest.keystore(), thiefPass); !errors.Is(err, auth.ErrDevice) {
		t.Errorf("the thief logs in: %v", err)
	}
	// The device that stays can still change it.
	if _, err := auth.TakeLog(ctx, c.keystore(), log); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Rotate(ctx, c.keystore(), thiefPass); err != nil {
		t.Errorf("a device that stays cannot change the document: %v", err)
	}
}

// The thief has the disk alone.
func TestThiefWithoutPassphrase(t *testing.T) {
	ctx := context.Background()
	a := founder(t)
	a.write("secret name", "secret text")
	b := a.enrol(auth.Grant{Scope: auth.ScopeFull})
	if !b.has("secret name") {
		t.Fatal("the device does not read the vault")
	}
	wrong := []byte("wrong horse")
	evil, err := auth.Enrol(ctx, auth.InitConfig{Dir: filepath.Join(t.TempDir(), "evil"), Passphrase: wrong, KDF: lightKDF()})
	if err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]func() error{
		"login": func() error { _, err := auth.Login(ctx, b.keystore(), wrong); return err },
		"approve": func() error {
			_, err := auth.Approve(ctx, b.keystore(), wrong, evil, auth.Grant{Scope: auth.ScopeFull})
			return err
		},
		"revoke": func() error { _, err := auth.Revoke(ctx, b.keystore(), wrong, a.s.Device()); return err },
		"rotate": func() error { _, err := auth.Rotate(ctx, b.keystore(), wrong); return err },
	} {
		if err := try(); !errors.Is(err, auth.ErrPassphrase) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Nothing on the disk says what the vault holds.
	err = filepath.WalkDir(b.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, canary := range [][]byte{[]byte("secret name"), []byte("secret text"), thiefPass} {
			if bytes.Contains(text, canary) {
				t.Errorf("%q stands in %s", canary, path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A device that may read commits nothing that others accept, also with a program of its own;
// one with an end of writing, nothing after that.
func TestDeviceScopes(t *testing.T) {
	ctx := context.Background()
	a := founder(t)
	a.write("before", "old text")
	reader := a.enrol(auth.Grant{Scope: auth.ScopeRead})
	end := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	guest := a.enrol(auth.Grant{Scope: auth.ScopeWrite, Until: end})
	if !reader.has("before") || !guest.has("before") {
		t.Fatal("a device does not read the vault")
	}
	list, err := a.s.Devices(ctx)
	if err != nil || len(list) != 3 || list[1].Scope != auth.ScopeRead || list[2].Scope != auth.ScopeWrite || !list[2].Until.Equal(end) {
		t.Errorf("%+v, %v", list, err)
	}
	// Neither has an update key.
	for _, m := range []*machine{reader, guest} {
		if _, err := auth.Rotate(ctx, m.keystore(), thiefPass); !errors.Is(err, auth.ErrScope) {
			t.Errorf("a device without all rights changes the document: %v", err)
		}
	}
	name, cid := a.newest()
	if _, err := reader.takeOver(reader.s, name, cid); !errors.Is(err, auth.ErrScope) {
		t.Errorf("the reader commits: %v", err)
	}
	forged, err := reader.takeOver(deaf{reader.s}, name, cid)
	if err != nil {
		t.Fatal(err)
	}
	if w, err := fs.Newest(ctx, a.config(a.s)); err != nil || w.Device != a.s.Device() || w.Sequence >= forged.Sequence {
		t.Errorf("the reader's commit: %+v, %v", w, err)
	}
	// The guest takes over, in time.
	if _, err := guest.takeOver(guest.s, name, cid); err != nil {
		t.Fatal(err)
	}
	if w, err := fs.Newest(ctx, a.config(a.s)); err != nil || w.Device != guest.s.Device() {
		t.Errorf("the guest's commit: %+v, %v", w, err)
	}
	guest.write("guest", "in time")
	// And goes on when its time is over: its clock says so, or does not.
	late := guest.config(guest.s)
	late.Now = func() time.Time { return end.Add(time.Minute) }
	tree, err := fs.Open(ctx, late)
	if err != nil {
		t.Fatal(err)
	}
	if st := tree.Status(); !st.ReadOnly || !strings.Contains(st.Because, "until") || len(st.Alerts) > 0 {
		t.Errorf("after its end the guest's drive is %+v", st)
	}
	tree.Abort()
	name, cid = guest.newest()
	late.Identity = deaf{guest.s}
	if forged, err = fs.Rewrap(ctx, late, fs.Rewrapped{Name: name, Commit: cid, Open: guest.s.OpenWrapped}); err != nil {
		t.Fatal(err)
	}
	if w, err := fs.Newest(ctx, a.config(a.s)); err != nil || w.Sequence >= forged.Sequence || w.Device != guest.s.Device() {
		t.Errorf("after the guest's end: %+v, %v", w, err)
	}
	// Approved anew with all rights, the document follows; revoked, nothing is left of it.
	if _, err := auth.Revoke(ctx, a.keystore(), thiefPass, guest.s.Device()); err != nil {
		t.Fatal(err)
	}
	if list, err := a.s.Devices(ctx); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
}
