package fs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// Each piece of local state that can be missing, empty or cut, after the process was killed
// and after it had closed: the vault does not open, and the error says what is missing and
// that acknowledged changes may be. When that is accepted, the vault opens, is writable, and an alert
// says it again; the next time there is nothing to say.
func TestLocalStateMissing(t *testing.T) {
	only := func(pattern string) func(*testing.T, *vault) string {
		return func(t *testing.T, v *vault) string {
			names, err := filepath.Glob(filepath.Join(v.cfg.JournalDir, pattern))
			if err != nil || len(names) != 1 {
				t.Fatal(names, err)
			}
			return names[0]
		}
	}
	heads := func(_ *testing.T, v *vault) string { return filepath.Join(v.cfg.StateDir, "heads.json") }
	journal := func(_ *testing.T, v *vault) string { return v.cfg.JournalDir }
	remove := func(name string) error { return os.RemoveAll(name) }
	empty := func(name string) error { return os.Truncate(name, 0) }
	cut := func(n int64) func(string) error { return func(name string) error { return os.Truncate(name, n) } }
	write := func(text string) func(string) error {
		return func(name string) error { return os.WriteFile(name, []byte(text), 0o600) }
	}
	for _, x := range []struct {
		name  string
		what  func(*testing.T, *vault) string
		spoil func(string) error
		told  string // in the error
		known bool   // that there was state is known from elsewhere
		keeps bool   // what was not committed is there all the same
	}{
		{"heads.json", heads, remove, "heads.json", true, true},
		{"heads.json, and nothing else tells that it was there", heads, remove, "heads.json", false, true},
		{"empty heads.json", heads, empty, "heads.json", false, true},
		{"cut heads.json", heads, cut(40), "heads.json", false, true},
		{"heads.json that says nothing", heads, write("{}\n"), "heads.json", true, true},
		{"journal", journal, remove, "journal", false, false},
		{"empty journal", journal, func(name string) error { return errors.Join(os.RemoveAll(name), os.Mkdir(name, 0o700)) }, "journal", false, false},
		{"the only segment", only("*.seg"), remove, "segment", false, false},
		{"the only segment, empty", only("*.seg"), empty, "segment", false, false},
		{"the only segment, cut", only("*.seg"), cut(4096 + 30), ".seg", false, false},
		{"tail", only("tail"), remove, "tail", false, true},
		{"empty tail", only("tail"), empty, "tail", false, true},
		{"staged blob", only("blobs/*"), remove, "staged blob", false, false},
		{"staged blob, empty", only("blobs/*"), empty, "staged blob", false, false},
	} {
		for _, closed := range []bool{false, true} {
			if closed && (strings.Contains(x.name, "staged") || strings.Contains(x.name, "cut")) {
				continue // what is committed needs no staged blob, and no end of a segment
			}
			name := x.name + ", killed"
			if closed {
				name = x.name + ", closed"
			}
			t.Run(name, func(t *testing.T) {
				v := newVault(t, nil)
				create := func(name string, size int) {
					t.Helper()
					a, err := v.tree.Mknod(ctx, fs.RootIno, name, fs.ModeRegular|0o600, 0, fs.Owner{})
					if err == nil && size > 0 {
						_, err = v.tree.Write(ctx, a.Ino, 0, make([]byte, size))
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				create("committed", 0)
				v.commit()
				create("acknowledged", 4*crypt.PackageSize)
				if err := v.tree.Sync(ctx, fs.DurabilityLocal); err != nil {
					t.Fatal(err)
				}
				if closed {
					if err := v.tree.Close(ctx); err != nil {
						t.Fatal(err)
					}
				} else {
					v.tree.Abort()
				}
				if err := x.spoil(x.what(t, v)); err != nil {
					t.Fatal(err)
				}
				v.cfg.Known = x.known
				tree, err := fs.Open(ctx, v.cfg)
				if err == nil {
					tree.Abort()
				}
				if !errors.Is(err, fs.ErrStateMissing) || !strings.Contains(err.Error(), x.told) {
					t.Fatalf("the drive opens without a word of %q: %v", x.told, err)
				}
				t.Log(err)
				v.cfg.AcceptMissing = true
				v.open()
				st := v.tree.Status()
				if st.ReadOnly || len(st.Alerts) == 0 || !strings.Contains(strings.Join(st.Alerts, "\n"), x.told) {
					t.Errorf("going on, it says %q (read-only: %v)", st.Alerts, st.ReadOnly)
				}
				if _, err := v.tree.Lookup(ctx, fs.RootIno, "committed"); err != nil {
					t.Error(err)
				}
				if _, err := v.tree.Lookup(ctx, fs.RootIno, "acknowledged"); (x.keeps || closed) && err != nil {
					t.Error("more is lost than had to be:", err)
				}
				create("later", 100)
				v.cfg.AcceptMissing = false
				v.cfg.Known = true
				v.kill()
				if st := v.tree.Status(); len(st.Alerts) > 0 {
					t.Errorf("it is told again: %q", st.Alerts)
				}
				if _, err := v.tree.Lookup(ctx, fs.RootIno, "later"); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A device that is new, or whose first start was interrupted, has lost nothing.
func TestFreshIsNotLost(t *testing.T) {
	for name, interrupt := range map[string]func(v *vault) error{
		"restored": func(v *vault) error {
			return errors.Join(os.RemoveAll(v.cfg.StateDir), os.RemoveAll(v.cfg.JournalDir))
		},
		"killed before the state was written": func(v *vault) error {
			// The journal's directory is made first, and nothing is written to it.
			segs, err := filepath.Glob(filepath.Join(v.cfg.JournalDir, "*.seg"))
			if len(segs) > 0 {
				err = errors.Join(err, errors.New("it has records"))
			}
			return errors.Join(err, os.RemoveAll(v.cfg.StateDir))
		},
		"killed before the journal was made": func(v *vault) error {
			return os.RemoveAll(filepath.Join(v.cfg.JournalDir, "blobs"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			v.tree.Abort()
			if err := interrupt(v); err != nil {
				t.Fatal(err)
			}
			v.open()
			if st := v.tree.Status(); len(st.Alerts) > 0 || st.ReadOnly {
				t.Fatalf("%+v", st)
			}
		})
	}
}

// A journal that was being set aside or removed when the process died is not a lost one.
func TestEndingOfAJournalIsNotALoss(t *testing.T) {
	for _, how := range []string{"aside", "dropped"} {
		for _, done := range []bool{false, true} {
			v := newVault(t, nil)
			if _, err := v.tree.Mkdir(ctx, fs.RootIno, "a", 0o700, fs.Owner{}); err != nil {
				t.Fatal(err)
			}
			v.commit()
			v.tree.Abort()
			name := filepath.Join(v.cfg.StateDir, "heads.json")
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			s := strings.Replace(string(b), "{", `{"journal_ending":"`+how+`",`, 1)
			if err := os.WriteFile(name, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
			if done {
				if err := os.RemoveAll(v.cfg.JournalDir); err != nil {
					t.Fatal(err)
				}
			}
			v.open()
			if _, err := v.tree.Lookup(ctx, fs.RootIno, "a"); err != nil {
				t.Error(err)
			}
			if _, err := v.tree.Mkdir(ctx, fs.RootIno, "b", 0o700, fs.Owner{}); err != nil {
				t.Error(err)
			}
			v.kill()
			if _, err := v.tree.Lookup(ctx, fs.RootIno, "b"); err != nil {
				t.Error(err)
			}
		}
	}
}
