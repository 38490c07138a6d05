package fleet

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The names of the programs, as `make egress` builds them.
const (
	ipfsName    = "ipfs"
	serviceName = "ipfs-cluster-service"
	ctlName     = "ipfs-cluster-ctl"

	minKubo = 43 // 0.43: what the settings are for
)

// Binaries are the programs that a node runs.
type Binaries struct {
	IPFS           string // Kubo
	ClusterService string
	ClusterCtl     string // for people; may be empty
}

// FindBinaries looks for the programs in dirs, then in the lib/ipfscloud next to this
// program's directory, beside it, and in PATH. One that does not fit is passed over: the
// user may have an ipfs of his own.
func FindBinaries(dirs ...string) (Binaries, error) {
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			bin := filepath.Dir(self)
			dirs = append(dirs, filepath.Join(bin, "..", "lib", "ipfscloud"), bin)
		}
	}
	var b Binaries
	for _, w := range []struct {
		name  string
		fit   func(string) error
		found *string
	}{{ipfsName, fitIPFS, &b.IPFS}, {serviceName, fitService, &b.ClusterService}} {
		path, err := find(w.name, dirs, w.fit)
		if err != nil {
			return Binaries{}, err
		}
		*w.found = path
	}
	// The control program is a comfort: without it all works.
	b.ClusterCtl, _ = find(ctlName, dirs, func(string) error { return nil })
	return b, nil
}

func find(name string, dirs []string, fit func(string) error) (string, error) {
	var unfit error
	for _, d := range dirs {
		path, err := exec.LookPath(filepath.Join(d, name))
		if err != nil {
			continue
		}
		if err := fit(path); err != nil {
			unfit = errors.Join(unfit, err)
			continue
		}
		return filepath.Abs(path)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", errors.Join(fmt.Errorf("%w: %s is in no directory of programs: `make egress` builds it", ErrBinaries, name), unfit)
	}
	if err := fit(path); err != nil {
		return "", errors.Join(unfit, err)
	}
	return path, nil
}

func (b *Binaries) check() error {
	if b.IPFS == "" || b.ClusterService == "" {
		return fmt.Errorf("%w: not named", ErrBinaries)
	}
	if err := fitIPFS(b.IPFS); err != nil {
		return err
	}
	return fitService(b.ClusterService)
}

// fitIPFS wants a Kubo that says which version it is.
func fitIPFS(path string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBinaries, path, err)
	}
	if info.Path != "github.com/ipfs/kubo/cmd/ipfs" {
		return fmt.Errorf("%w: %s is not Kubo but %s", ErrBinaries, path, info.Path)
	}
	var major, minor int
	if n, _ := fmt.Sscanf(info.Main.Version, "v%d.%d.", &major, &minor); n != 2 || major == 0 && minor < minKubo {
		return fmt.Errorf("%w: %s is Kubo %s, not 0.%d or later as built by `make egress`",
			ErrBinaries, path, info.Main.Version, minKubo)
	}
	return nil
}

// fitService wants the service that this project builds: in others, calls to a Kubo over
// a unix socket never time out.
func fitService(path string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBinaries, path, err)
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/tv42/httpunix" && d.Replace != nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %s was not built by `make egress`", ErrBinaries, path)
}
