package fleet

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

const (
	stateFile       = "fleet.json"
	credentialsFile = "credentials.json"
	lockFile        = "lock"
	stateFormat     = 1
	apiUser         = "ipfscloud"
)

// state is fleet.json.
type state struct {
	Format   int           `json:"format"`
	Cluster  string        `json:"cluster"` // the cluster's name: its topic
	Created  time.Time     `json:"created"`
	Place    place         `json:"place"`
	TLS      bool          `json:"tls"`
	TrustAll bool          `json:"trust_all"`
	Trusted  []string      `json:"trusted,omitempty"` // peers beyond our own nodes
	Group    string        `json:"group"`
	Timing   Timing        `json:"timing"`
	Nodes    []nodeState   `json:"nodes"`
	Remote   []RemotePeer  `json:"remote,omitempty"`
	Running  *runningState `json:"running,omitempty"`
}

type nodeState struct {
	Name    string `json:"name"`
	Peer    string `json:"peer"` // id of the cluster peer
	IPFS    string `json:"ipfs"` // id of its Kubo
	Ports   Ports  `json:"ports"`
	Storage uint64 `json:"storage"`
}

// RemotePeer is a node elsewhere that ours are told of. Addresses are multiaddresses
// without the id.
type RemotePeer struct {
	Peer      string   `json:"peer"`
	Cluster   []string `json:"cluster"`
	IPFS      string   `json:"ipfs"`
	IPFSAddrs []string `json:"ipfs_addrs"`
}

type runningState struct {
	PID    int       `json:"pid"`
	Since  time.Time `json:"since"`
	Socket string    `json:"socket"`
}

type credentials struct {
	Secret   string `json:"secret"` // of the cluster: who knows it is in
	Username string `json:"username"`
	Password string `json:"password"`
}

func newCredentials(secret string) (credentials, error) {
	b := make([]byte, 64)
	if _, err := rand.Read(b); err != nil {
		return credentials{}, err
	}
	if secret == "" {
		secret = hex.EncodeToString(b[:32])
	}
	return credentials{Secret: secret, Username: apiUser, Password: hex.EncodeToString(b[32:48])}, nil
}

// readOrMakeCredentials makes the credentials of a fleet, if there are none yet.
func readOrMakeCredentials(dir, secret string) (*credentials, error) {
	path := filepath.Join(dir, credentialsFile)
	var c credentials
	err := readJSON(path, &c)
	if err == nil && (secret == "" || secret == c.Secret) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &c, err
	}
	if c, err = newCredentials(secret); err != nil {
		return nil, err
	}
	return &c, writeJSON(path, &c)
}

// ChangePassword gives the nodes of a fleet on this machine a new password for their API, which
// they ask for from their next start on, and returns the user name and the password. ErrBusy
// while they run; ErrNone.
func ChangePassword(dir string) (user, password string, err error) {
	_, c, err := readState(dir)
	if err != nil {
		return "", "", err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	fresh, err := newCredentials(c.Secret)
	if err != nil {
		return "", "", err
	}
	fresh.Username = c.Username
	return fresh.Username, fresh.Password, writeJSON(filepath.Join(dir, credentialsFile), &fresh)
}

func readState(dir string) (*state, *credentials, error) {
	var s state
	var c credentials
	err := readJSON(filepath.Join(dir, stateFile), &s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s: %w", dir, ErrNone)
	} else if err != nil {
		return nil, nil, err
	}
	if s.Format != stateFormat {
		return nil, nil, fmt.Errorf("%w: %s has format %d, this program knows %d", ErrConfig, dir, s.Format, stateFormat)
	}
	if err := readJSON(filepath.Join(dir, credentialsFile), &c); err != nil {
		return nil, nil, err
	}
	return &s, &c, nil
}

func readJSON(path string, v any) error {
	b, err := safefile.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return safefile.Replace(path, append(b, '\n'))
}

// lockDir makes the caller the one supervisor of dir until the file is closed, or its
// process ends.
func lockDir(dir string) (*os.File, error) {
	f, err := safefile.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	lk := unix.Flock_t{Type: unix.F_WRLCK}
	if err := fcntl(f, unix.F_OFD_SETLK, &lk); errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, errors.Join(fmt.Errorf("%s: %w", dir, ErrBusy), f.Close())
	} else if err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), f.Close())
	}
	return f, nil
}

// running reports whether a supervisor holds dir. It asks without ever holding the lock
// itself, which would be in the way of one who wants it.
func running(dir string) (bool, error) {
	f, err := safefile.Open(filepath.Join(dir, lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	lk := unix.Flock_t{Type: unix.F_WRLCK}
	err = os.NewSyscallError("fcntl", fcntl(f, unix.F_OFD_GETLK, &lk))
	return lk.Type != unix.F_UNLCK, errors.Join(err, f.Close())
}

func fcntl(f *os.File, cmd int, lk *unix.Flock_t) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var sys error
	if err := conn.Control(func(fd uintptr) { sys = unix.FcntlFlock(fd, cmd, lk) }); err != nil {
		return err
	}
	return sys
}
