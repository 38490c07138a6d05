package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/fs"
)

// Aside describes changes that this device acknowledged and that the drive does not have,
// because another device took over. Its fields are an interface.
type Aside struct {
	Name    string    `json:"name"`
	Since   time.Time `json:"since"`
	Because string    `json:"because,omitempty"`
	Changes int       `json:"changes"` // that are in no commit
	// Beside: this device has made commits, too, that the drive does not go on from.
	Beside   bool       `json:"beside"`
	Exported *time.Time `json:"exported,omitempty"`
	Problem  string     `json:"problem,omitempty"` // why it cannot be read
	Dir      string     `json:"directory"`
}

func asideOf(a fs.Aside, journalDir string) Aside {
	out := Aside{Name: a.Name, Since: a.Since, Because: a.Because, Changes: a.Changes, Problem: a.Problem}
	out.Beside = a.Shared < a.Line.Sequence
	if !a.Exported.IsZero() {
		out.Exported = &a.Exported
	}
	if out.Dir = journalDir; a.Name != fs.AsideJournal {
		out.Dir = journalDir + ".aside-" + a.Name
	}
	return out
}

// AsideJournal names the journal of a drive that is mounted and was displaced.
const AsideJournal = fs.AsideJournal

// listAsides is what was set aside, and the journal of this drive if it can be committed no more.
func (s *Service) listAsides() ([]Aside, error) {
	all, err := s.asides()
	out := make([]Aside, 0, len(all))
	for _, a := range all {
		out = append(out, asideOf(a, s.journalDir()))
	}
	return out, err
}

func (s *Service) journalDir() string {
	return filepath.Join(s.p.Home.Journal, s.tree.Status().Vault)
}

func (s *Service) asides() ([]fs.Aside, error) {
	all, err := fs.Asides(s.journalDir(), s.tree.Status().Vault)
	if a, ok := s.tree.JournalAside(); ok {
		all = slices.DeleteFunc(all, func(x fs.Aside) bool { return x.Name == a.Name })
		all = append(all, a)
	}
	return all, err
}

// asideAlert is what the owner must know of what was set aside, or "". It stays until all of
// it is discarded.
func (s *Service) asideAlert() string {
	all, err := s.asides()
	if err != nil {
		return err.Error()
	}
	if len(all) == 0 {
		return ""
	}
	since := all[0].Since
	return fmt.Sprintf("since %s this device has changes that the drive does not have, because another one took its place. "+
		"`ipfscloud aside list` shows them, `ipfscloud aside export NAME DIRECTORY` copies them out, `ipfscloud aside discard NAME` ends this alert",
		since.Local().Format(time.DateTime))
}

func (s *Service) exportAside(ctx context.Context, name, dir string) (*AsideExport, error) {
	v, err := s.tree.OpenAside(ctx, name)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return exportAside(ctx, v, dir)
}

func (s *Service) discardAside(name string, force bool) error {
	if _, ok := s.tree.JournalAside(); ok && name == fs.AsideJournal {
		return fmt.Errorf("the mounted drive still shows these changes; unmount it, mount it again, and discard what is set aside then: %w", fs.ErrBusy)
	}
	if name == fs.AsideJournal && !s.tree.Status().ReadOnly {
		return fmt.Errorf("the journal of this drive is going to be committed: %w", fs.ErrBusy)
	}
	return fs.DiscardAside(fs.Config{StateDir: s.p.Home.State, JournalDir: s.journalDir()}, name, force)
}

// ListAsides asks for what was set aside.
func (c *Client) ListAsides(ctx context.Context) (all []Aside, err error) {
	err = c.call(ctx, "GET", "/aside", &all)
	return all, err
}

// ExportAside has the daemon copy what was set aside into a directory.
func (c *Client) ExportAside(ctx context.Context, name, dir string) (x *AsideExport, err error) {
	err = c.call(ctx, "POST", "/aside/export?name="+url.QueryEscape(name)+"&dir="+url.QueryEscape(dir), &x)
	return x, err
}

// DiscardAside removes what was set aside.
func (c *Client) DiscardAside(ctx context.Context, name string, force bool) error {
	return c.call(ctx, "DELETE", fmt.Sprintf("/aside?name=%s&force=%t", url.QueryEscape(name), force), &struct{}{})
}

// Asides is what the commands on changes that were set aside work on while the drive is not
// mounted.
type Asides struct {
	Home   Home
	Config Config
	// Passphrase opens the keystore if no session is open; only Export needs it.
	Passphrase []byte
	Log        *slog.Logger
}

func (a Asides) vault() (vault, journalDir string, err error) {
	if vault, err = readVault(a.Home.vaultFile()); err == nil && vault == "" {
		err = ErrNoVault
	}
	return vault, filepath.Join(a.Home.Journal, vault), err
}

// List tells what was set aside.
func (a Asides) List() ([]Aside, error) {
	vault, dir, err := a.vault()
	if err != nil {
		return nil, err
	}
	all, err := fs.Asides(dir, vault)
	out := make([]Aside, 0, len(all))
	for _, x := range all {
		out = append(out, asideOf(x, dir))
	}
	return out, err
}

// Export copies what was set aside into a directory; AsideJournal is what the journal has and
// no commit.
func (a Asides) Export(ctx context.Context, name, dir string) (_ *AsideExport, err error) {
	vault, journalDir, err := a.vault()
	if err != nil {
		return nil, err
	}
	id, end, err := a.identity(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	lock, err := takeLock(a.Home.lockFile())
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	store, err := IdentitySearch{Home: a.Home, Config: a.Config, Log: a.Log}.openStore(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	v, err := fs.OpenAside(ctx, fs.Config{Store: store, Identity: id, Vault: vault, StateDir: a.Home.State, JournalDir: journalDir,
		Deadline: a.Config.Deadline.Duration, MemoryLimit: a.Config.MemoryMiB << 20, Log: a.Log}, name)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return exportAside(ctx, v, dir)
}

// Discard removes what was set aside.
func (a Asides) Discard(name string, force bool) error {
	_, dir, err := a.vault()
	if err != nil {
		return err
	}
	lock, err := takeLock(a.Home.lockFile())
	if err != nil {
		return err
	}
	defer lock.Close()
	return fs.DiscardAside(fs.Config{StateDir: a.Home.State, JournalDir: dir}, name, force)
}

// identity is the open session, or else the keys alone: a device that was locked out cannot log
// in, and what it has is its owner's all the same.
func (a Asides) identity(ctx context.Context) (fs.Identity, func(), error) {
	c, err := auth.Dial(ctx, a.Home.AgentSocket())
	if err == nil {
		return c, func() {}, nil
	}
	if !errors.Is(err, auth.ErrNoSession) || a.Passphrase == nil {
		return nil, nil, err
	}
	u, err := auth.Unlock(ctx, a.Home.Keystore, a.Passphrase)
	if err != nil {
		return nil, nil, err
	}
	return keysOnly{u}, func() { _ = u.Close() }, nil
}

// keysOnly is an identity that opens what was sealed to it, and vouches for nothing.
type keysOnly struct{ *auth.Unlocked }

var _ fs.Identity = keysOnly{}

func (keysOnly) Sign(context.Context, []byte) ([]byte, error) { return nil, auth.ErrNoSession }
func (keysOnly) JudgeCommit(context.Context, fs.CommitClaim) (fs.Verdict, error) {
	return fs.Verdict{}, auth.ErrNoSession
}
func (keysOnly) TakeLog(context.Context, []byte) error        { return nil }
func (keysOnly) Notes(context.Context) ([]byte, error)        { return nil, nil }
func (keysOnly) TakeNotes(context.Context, []byte) error      { return nil }
func (keysOnly) MayCommit(context.Context, time.Time) error   { return auth.ErrNoSession }
func (keysOnly) Recipients(context.Context) ([][]byte, error) { return nil, auth.ErrNoSession }
func (keysOnly) Log(context.Context) ([]byte, string, error)  { return nil, "", auth.ErrNoSession }
