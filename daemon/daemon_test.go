package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/daemon/horizon"
	"github.com/cluster-labs/ipfscloud/fs"
)

func TestConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	c, err := Home{Config: path}.LoadConfig()
	if err != nil || c.Durability != "local" || c.MemoryMiB != 256 || c.CacheMiB != 4096 || c.Deadline.Duration != 30*time.Second || c.IPFS != "" {
		t.Errorf("without a file: %+v, %v", c, err)
	}
	load := func(text string) (Config, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Home{Config: path}.LoadConfig()
	}
	c, err = load("ipfs = \"/run/ipfs.sock\"\nipfs_auth_file = \"/secret\"\ndurability = \"ipfs\"\n" +
		"mount_options = \"noatime,umask=077\"\ncache_mib = 1\nmemory_mib = 64\ndeadline = \"5s\"\n")
	want := DefaultConfig()
	want.IPFS, want.IPFSAuthFile, want.Durability, want.MountOptions = "/run/ipfs.sock", "/secret", "ipfs", "noatime,umask=077"
	want.CacheMiB, want.MemoryMiB, want.Deadline = 1, 64, duration{5 * time.Second}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("all keys: %+v, %v", c, err)
	}
	for text, words := range map[string]string{
		"ipfz = \"x\"":             "unknown key ipfz",
		"[table]\nkey = 1":         "unknown key table",
		"ipfs = 3":                 "ipfs",
		"= =":                      "config.toml",
		"durability = \"egress\"":  "egress:N",
		"memory_mib = 31":          "32 or more",
		"deadline = \"0s\"":        "1s or more",
		"mount_options = \"suid\"": "suid",
		"ipfs_auth_file = \"rel\"": "absolute",
	} {
		if _, err := load(text); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestHomes(t *testing.T) {
	for _, env := range []string{HomeEnv, "STATE_DIRECTORY", "CONFIGURATION_DIRECTORY", "CACHE_DIRECTORY", "RUNTIME_DIRECTORY",
		"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(env, "")
	}
	t.Setenv("HOME", "/home/u")
	find := func() Home {
		t.Helper()
		h, err := FindHome()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	state := "/home/u/.local/state/ipfscloud/"
	want := Home{Config: "/home/u/.config/ipfscloud/config.toml", Keystore: state + "keystore", State: state + "state",
		Journal: state + "journal", Staging: state + "staging", Cache: "/home/u/.cache/ipfscloud", IPFS: state + "ipfs",
		Egress: state + "egress", Run: state + "run"}
	if h := find(); h != want {
		t.Errorf("of a user: %+v", h)
	}
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/1")
	t.Setenv("XDG_STATE_HOME", "/s")
	if h := find(); h.Run != "/run/user/1/ipfscloud" || h.Journal != "/s/ipfscloud/journal" {
		t.Errorf("of a user with XDG directories: %+v", h)
	}
	t.Setenv("HOME", "")
	if os.Geteuid() == 0 {
		if h := find(); h.Config != "/etc/ipfscloud/config.toml" || h.Keystore != "/var/lib/ipfscloud/keystore" ||
			h.Cache != "/var/cache/ipfscloud" || h.Run != "/run/ipfscloud" {
			t.Errorf("of root at boot: %+v", h)
		}
	}
	t.Setenv("STATE_DIRECTORY", "/var/lib/x")
	t.Setenv("CONFIGURATION_DIRECTORY", "/etc/x")
	t.Setenv("RUNTIME_DIRECTORY", "/run/x")
	if h := find(); h.Config != "/etc/x/config.toml" || h.State != "/var/lib/x/state" || h.Cache != "/var/lib/x/cache" || h.Run != "/run/x" {
		t.Errorf("of a service: %+v", h)
	}
	t.Setenv(HomeEnv, "/all")
	want = Home{Config: "/all/config.toml", Keystore: "/all/keystore", State: "/all/state", Journal: "/all/journal",
		Staging: "/all/staging", Cache: "/all/cache", IPFS: "/all/ipfs", Egress: "/all/egress", Run: "/all/run"}
	if h := find(); h != want || h != HomeAt("/all") {
		t.Errorf("with %s: %+v", HomeEnv, h)
	}
}

func TestHomeIsPrivate(t *testing.T) {
	h := HomeAt(filepath.Join(t.TempDir(), "h"))
	defer syscall.Umask(syscall.Umask(0))
	if err := h.Make(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(h.State, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := h.Make(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{h.State, h.Journal, h.Staging, h.Cache, h.Run} {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, st, err)
		}
	}
	if err := HomeAt("/" + strings.Repeat("x", 100)).Make(); !errors.Is(err, ErrConfig) {
		t.Errorf("a path too long for sockets: %v", err)
	}
}

func TestLockAndDestroy(t *testing.T) {
	h := HomeAt(t.TempDir())
	if err := h.Make(); err != nil {
		t.Fatal(err)
	}
	l, err := takeLock(h.lockFile())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := takeLock(h.lockFile()); !errors.Is(err, ErrBusy) {
		t.Errorf("a second lock: %v", err)
	}
	if err := h.Destroy(); !errors.Is(err, ErrBusy) {
		t.Errorf("destroying a home in use: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := AwaitEnd(ctx, h); !errors.Is(err, context.Canceled) {
		t.Errorf("awaiting who does not end: %v", err)
	}
	l.Close()
	if err := AwaitEnd(t.Context(), h); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(h.Config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Destroy(), h.Destroy()); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{h.State, h.Journal, h.Run} {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
	if _, err := os.Stat(h.Config); err != nil {
		t.Error("the configuration is gone: ", err)
	}
}

// Meanings cross the control socket, and texts do.
func TestErrorsCrossTheSocket(t *testing.T) {
	for _, k := range kinds {
		w := httptest.NewRecorder()
		reply(w, nil, fmt.Errorf("doing it: %w", k.err))
		err := decode(w.Result(), nil)
		if !errors.Is(err, k.err) || err.Error() != "doing it: "+k.err.Error() {
			t.Errorf("%s arrives as %v", k.name, err)
		}
	}
	w := httptest.NewRecorder()
	reply(w, nil, errors.New("odd"))
	if err := decode(w.Result(), nil); err == nil || err.Error() != "odd" || errors.Is(err, fs.ErrBusy) {
		t.Errorf("an error without a kind arrives as %v", err)
	}
	w = httptest.NewRecorder()
	reply(w, Status{DID: "did:x"}, nil)
	var s Status
	if err := decode(w.Result(), &s); err != nil || s.DID != "did:x" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestSignalsAreTwoEvents(t *testing.T) {
	signals := make(chan os.Signal)
	e := watchSignals(t.Context(), signals)
	if e.asked.Err() != nil {
		t.Fatal("asked without a signal")
	}
	signals <- syscall.SIGTERM
	<-e.asked.Done()
	if e.hurried.Err() != nil {
		t.Fatal("hurried after one signal")
	}
	signals <- syscall.SIGINT
	<-e.hurried.Done()
	e.close()

	ctx, cancel := context.WithCancel(t.Context())
	e = watchSignals(ctx, nil)
	cancel()
	<-e.asked.Done()
	if e.hurried.Err() != nil {
		t.Error("the end of the context is no reason to hurry")
	}
	e.close()
}

func TestWithin(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	s := Status{Mountpoint: filepath.Join(dir, "mnt")}
	for path, want := range map[string]string{"mnt": ".", "mnt/a/b": "a/b", "link/mnt": ".", "mnt/../mnt/x": "x"} {
		if got, err := s.Within(filepath.Join(dir, path)); err != nil || got != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, path := range []string{"", "mnt2", "mnt/..", "mntx/a"} {
		if got, err := s.Within(filepath.Join(dir, path)); !errors.Is(err, fs.ErrNotFound) {
			t.Errorf("%q is within: %q, %v", path, got, err)
		}
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"http://user:secret@host:5001": "http://…@host:5001", "http://host": "http://host", "/run/ipfs.sock": "/run/ipfs.sock",
		"http://u:se@cret@host": "http://…@host",
	} {
		if got := redact(in); got != want {
			t.Errorf("%s is shown as %s", in, got)
		}
	}
}

// Whatever the drive alarms about, the page says what to do.
func TestEachAlertSaysWhatToDo(t *testing.T) {
	for _, cause := range []error{nil, fs.ErrRollback, fs.ErrFork, fs.ErrIntegrity, fs.ErrOtherWriter, errors.New("else")} {
		a := explain("text", cause)
		if a.Text != "text" || a.Action == "" || (a.Severity == horizon.Critical) == errors.Is(cause, fs.ErrOtherWriter) {
			t.Errorf("%v: %+v", cause, a)
		}
	}
	if a := explain("x", fmt.Errorf("%w: %w", fs.ErrRollback, fs.ErrIntegrity)); !strings.Contains(a.Action, "rolled it back") {
		t.Errorf("a rollback is called something else: %+v", a)
	}
}

func TestForesee(t *testing.T) {
	now := time.Now()
	peers := []horizon.Peer{{Name: "up", Up: true, LastSeen: now.Add(-time.Hour)}, {Name: "new"}, {Name: "blinks", LastSeen: now.Add(-time.Minute)}}
	if out := foresee(now, &horizon.State{Peers: peers, Store: horizon.Store{Free: 2 << 30}}); len(out) > 0 {
		t.Errorf("alerts for nothing: %+v", out)
	}
	peers[2].LastSeen = now.Add(-time.Hour)
	out := foresee(now, &horizon.State{Peers: peers, Store: horizon.Store{Free: 500e6}})
	if len(out) != 2 || !strings.Contains(out[0].Text, "blinks") || !out[0].Since.Equal(peers[2].LastSeen) || !strings.Contains(out[1].Text, "500 MB") {
		t.Errorf("%+v", out)
	}
	for _, a := range out {
		if a.Severity != horizon.Warning || a.Action == "" {
			t.Errorf("%+v", a)
		}
	}
	if out := foresee(now, &horizon.State{Store: horizon.Store{Free: 1, Full: true}}); len(out) > 0 {
		t.Errorf("a full disk is said twice: %+v", out)
	}
}
