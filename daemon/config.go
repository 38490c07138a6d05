package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fuse"
)

// ErrConfig: the configuration file cannot be used as it is.
var ErrConfig = errors.New("bad configuration")

// Config is config.toml. A key that is not here is an error.
type Config struct {
	// IPFS is the RPC of the user's own node: http://HOST:PORT, https://…, or the path
	// of a unix socket. Empty: the embedded node.
	IPFS string `toml:"ipfs"`
	// IPFSAuthFile holds what the node wants as authorization: "bearer:TOKEN" or
	// "basic:USER:PASSWORD".
	IPFSAuthFile string `toml:"ipfs_auth_file"`
	// Durability is what fsync waits for: "local" or "ipfs".
	Durability string `toml:"durability"`
	// MountOptions are added before those of the command line.
	MountOptions string `toml:"mount_options"`
	// CacheMiB bounds the cache of blocks from a node that is not embedded.
	CacheMiB uint64 `toml:"cache_mib"`
	// MemoryMiB bounds the memory for caches and unsealed writes.
	MemoryMiB int64 `toml:"memory_mib"`
	// Deadline is the longest that a call waits for the store.
	Deadline duration `toml:"deadline"`
}

type duration struct{ time.Duration }

// UnmarshalText reads "30s".
func (d *duration) UnmarshalText(b []byte) (err error) {
	d.Duration, err = time.ParseDuration(string(b))
	return err
}

// LoadConfig reads a configuration file; one that is not there stands for the defaults.
func LoadConfig(path string) (Config, error) {
	c := Config{Durability: string(fs.DurabilityLocal), CacheMiB: 4096, MemoryMiB: 256, Deadline: duration{30 * time.Second}}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	meta, err := toml.Decode(string(b), &c)
	if err != nil {
		return c, fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
	}
	if extra := meta.Undecoded(); len(extra) > 0 {
		names := make([]string, len(extra))
		for i, k := range extra {
			names[i] = k.String()
		}
		return c, fmt.Errorf("%w: %s: unknown key %s", ErrConfig, path, strings.Join(names, ", "))
	}
	return c, c.check(path)
}

func knownDurability(s string) bool {
	_, err := fs.ParseDurability(s)
	return err == nil
}

func (c *Config) check(path string) error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrConfig, path, fmt.Sprintf(format, a...))
	}
	switch {
	case !knownDurability(c.Durability):
		return bad("durability is %q, but must be local, ipfs or egress:N", c.Durability)
	case c.IPFSAuthFile != "" && !filepath.IsAbs(c.IPFSAuthFile):
		return bad("ipfs_auth_file is %q, but must be an absolute path", c.IPFSAuthFile)
	case c.MemoryMiB < 32:
		return bad("memory_mib is %d, but must be 32 or more", c.MemoryMiB)
	case c.Deadline.Duration < time.Second:
		return bad("deadline is %v, but must be 1s or more", c.Deadline.Duration)
	}
	if err := fuse.ParseOptions(c.MountOptions, &fuse.Options{}); err != nil {
		return bad("%v", err)
	}
	return nil
}
