package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// HomeEnv names the environment variable that puts all state under one directory.
const HomeEnv = "IPFSCLOUD_HOME"

// DriveEnv names the environment variable that chooses one of several drives by name.
const DriveEnv = "IPFSCLOUD_DRIVE"

// Home is where everything of one drive lies.
type Home struct {
	Drive    string // its name; "" of a user's first, or only one
	Config   string // config.toml
	Keystore string
	State    string
	Journal  string
	Staging  string
	Cache    string
	IPFS     string // repo of the embedded node
	Egress   string // nodes of the Egress of this machine, if it runs one
	Run      string // sockets and locks
}

// FindHome returns the directories of this user: all under $IPFSCLOUD_HOME if that is
// set; else what systemd gives a service; else those of the XDG base directories; and for
// root without a home directory those of the service. If $IPFSCLOUD_DRIVE is set, it is
// that drive's.
func FindHome() (Home, error) {
	h, err := firstHome()
	if name := os.Getenv(DriveEnv); name != "" && err == nil {
		return h.named(name)
	}
	return h, err
}

func firstHome() (Home, error) {
	if dir := os.Getenv(HomeEnv); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return Home{}, err
		}
		return HomeAt(abs), nil
	}
	if state := os.Getenv("STATE_DIRECTORY"); state != "" {
		return split(os.Getenv("CONFIGURATION_DIRECTORY"), state, os.Getenv("CACHE_DIRECTORY"), os.Getenv("RUNTIME_DIRECTORY")), nil
	}
	user, err := os.UserHomeDir()
	if err != nil && os.Geteuid() == 0 { // mount(8) at boot, or a service without the above
		return split("/etc/ipfscloud", "/var/lib/ipfscloud", "/var/cache/ipfscloud", "/run/ipfscloud"), nil
	}
	if err != nil {
		return Home{}, fmt.Errorf("no home directory: set %s: %w", HomeEnv, err)
	}
	xdg := func(env, fallback string) string {
		if d := os.Getenv(env); filepath.IsAbs(d) {
			return filepath.Join(d, "ipfscloud")
		}
		return filepath.Join(user, fallback, "ipfscloud")
	}
	h := split(xdg("XDG_CONFIG_HOME", ".config"), xdg("XDG_STATE_HOME", ".local/state"), xdg("XDG_CACHE_HOME", ".cache"), "")
	if d := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		h.Run = filepath.Join(d, "ipfscloud")
	}
	return h, nil
}

// named is the home of another drive of the same user: all its state in one directory,
// while the configuration and the nodes of this machine are shared.
func (h Home) named(name string) (Home, error) {
	if !driveName.MatchString(name) {
		return Home{}, fmt.Errorf("%w: a drive cannot be called %q: small letters, digits and -, at most 32", ErrConfig, name)
	}
	d := HomeAt(filepath.Join(filepath.Dir(h.Keystore), "drives", name))
	d.Drive, d.Config, d.Egress = name, h.Config, h.Egress
	return d, nil
}

var driveName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// HomeAt is the home with all state under one directory.
func HomeAt(dir string) Home {
	h := split(dir, dir, "", filepath.Join(dir, "run"))
	h.State, h.Cache = filepath.Join(dir, "state"), filepath.Join(dir, "cache")
	return h
}

func split(config, state, cache, run string) Home {
	if config == "" {
		config = state
	}
	if cache == "" {
		cache = filepath.Join(state, "cache")
	}
	if run == "" {
		run = filepath.Join(state, "run")
	}
	return Home{
		Config: filepath.Join(config, "config.toml"), Keystore: filepath.Join(state, "keystore"),
		State: filepath.Join(state, "state"), Journal: filepath.Join(state, "journal"),
		Staging: filepath.Join(state, "staging"), Cache: cache, IPFS: filepath.Join(state, "ipfs"),
		Egress: filepath.Join(state, "egress"), Run: run,
	}
}

// runMax is what a socket's address leaves for the path of its directory, in bytes.
const runMax = 107 - len("/.s0123456789/s")

// Make makes the directories, for this user alone.
func (h Home) Make() error {
	if len(h.Run) > runMax {
		return fmt.Errorf("%w: sockets cannot lie in %s, a path of more than %d bytes", ErrConfig, h.Run, runMax)
	}
	for _, d := range []string{h.State, h.Journal, h.Staging, h.Run} {
		if err := safefile.MakePrivate(d); err != nil {
			return fmt.Errorf("making %s: %w", d, err)
		}
	}
	// The cache may be put anywhere (--cache-dir): the mode of a directory that is there stays.
	if err := safefile.MakeDir(h.Cache); err != nil {
		return fmt.Errorf("making %s: %w", h.Cache, err)
	}
	return h.Check()
}

// Check refuses a home whose directories belong to somebody else, or can be changed by them.
// Such a user could lead a daemon of root's to files that he may neither read nor write, by
// symbolic links, and name files in the configuration that he could not read. It changes nothing.
func (h Home) Check() error {
	for _, d := range []string{h.State, h.Keystore, h.Journal, h.Staging, h.Cache, h.IPFS, h.Egress, h.Run} {
		if err := safefile.CheckPrivate(d); err != nil {
			return err
		}
	}
	// Not every reader takes a refusal for a failure: a store of remembered logs that cannot be
	// opened is done without. What has been planted is to be told all the same.
	for _, d := range []string{h.State, h.Keystore, h.Run} {
		if err := safefile.CheckTree(d, 1); err != nil {
			return err
		}
	}
	return nil
}

// The files in Run and State.
func (h Home) agentSocket() string   { return filepath.Join(h.Run, "agent.sock") }
func (h Home) controlSocket() string { return filepath.Join(h.Run, "control.sock") }
func (h Home) vaultFile() string     { return filepath.Join(h.State, "vault") }
func (h Home) lockFile() string      { return filepath.Join(h.State, "lock") }
func (h Home) egressFile() string    { return filepath.Join(h.State, "egress.json") }
func (h Home) snapshotsFile() string { return filepath.Join(h.State, "snapshots.json") }
func (h Home) pinsFile() string      { return filepath.Join(h.State, "pins.json") }

func (h Home) stateFile(name string) string { return filepath.Join(h.State, name) }

// AgentSocket is where the session agent of this home listens.
func (h Home) AgentSocket() string { return h.agentSocket() }

// IPFSSocket is where the embedded node gives out its RPC.
func (h Home) IPFSSocket() string { return filepath.Join(h.Run, "ipfs.sock") }

// LogFile is where a daemon without a terminal writes its log.
func (h Home) LogFile() string { return filepath.Join(h.State, "daemon.log") }

// Destroy removes all of the home but the configuration and the nodes of an Egress: keys,
// journal, and the embedded node with its blocks. fs.ErrBusy while a daemon has the drive.
func (h Home) Destroy() error {
	lock, err := takeLock(h.lockFile())
	if err == nil {
		defer lock.Close()
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var errs []error
	for _, d := range []string{h.Keystore, h.State, h.Journal, h.Staging, h.Cache, h.IPFS, h.Run} {
		errs = append(errs, os.RemoveAll(d))
	}
	return errors.Join(errs...)
}
