package daemon

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fuse"
	"github.com/cluster-labs/ipfscloud/fs/ipfs"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// ErrConfig: the configuration file cannot be used as it is.
var ErrConfig = errors.New("bad configuration")

// Config is config.toml. A key that is not here is an error. packaging/config.toml says
// what each key means, to people.
type Config struct {
	// Mountpoint is where up and mount put the drive if they are not told.
	Mountpoint string `toml:"mountpoint" json:"mountpoint"`
	// IPFS is the RPC of the user's own node: http://HOST:PORT, https://…, or the path
	// of a unix socket. Empty: the embedded node.
	IPFS string `toml:"ipfs" json:"ipfs"`
	// IPFSAuthFile holds what the node wants as authorization: "bearer:TOKEN" or
	// "basic:USER:PASSWORD".
	IPFSAuthFile string `toml:"ipfs_auth_file" json:"ipfs_auth_file"`
	// Durability is what fsync waits for: "local", "ipfs" or "egress:N".
	Durability string `toml:"durability" json:"durability"`
	// MountOptions are added before those of the command line.
	MountOptions string `toml:"mount_options" json:"mount_options"`
	// CacheMiB bounds the cache of blocks from a node that is not embedded.
	CacheMiB uint64 `toml:"cache_mib" json:"cache_mib"`
	// CacheMinFreeMiB are left free on the disk of that cache.
	CacheMinFreeMiB uint64 `toml:"cache_min_free_mib" json:"cache_min_free_mib"`
	// MemoryMiB is about what the daemon takes of memory, with the embedded node and its own
	// code: inodes, caches and unsealed writes share what is left.
	MemoryMiB int64 `toml:"memory_mib" json:"memory_mib"`
	// Deadline is the longest that a call waits for the store.
	Deadline duration `toml:"deadline" json:"deadline"`

	Egress  EgressConfig  `toml:"egress" json:"egress"`
	Network NetworkConfig `toml:"network" json:"network"`
	Horizon HorizonConfig `toml:"horizon" json:"horizon"`

	// Drives are more drives of this user, by name. Each may set all of the above for
	// itself; what it does not set is as above.
	Drives map[string]toml.Primitive `toml:"drive" json:"-"`
}

// EgressConfig says where copies are kept. Without URL, `ipfscloud egress use` does.
type EgressConfig struct {
	// URL are the REST APIs of peers of one cluster, tried in turn: http://HOST:PORT,
	// https://HOST:PORT or unix:///PATH.
	URL []string `toml:"url" json:"url"`
	// CAFile holds the certificate that https shows, or that of its authority.
	CAFile string `toml:"ca_file" json:"ca_file"`
	// AuthFile holds "basic:USER:PASSWORD" or "bearer:TOKEN".
	AuthFile string `toml:"auth_file" json:"auth_file"`
	// ReplicasMin copies count as held, and ReplicasMax are wanted; 0 is 2 and 3, as far
	// as there are so many peers. -1 for both is one on each peer.
	ReplicasMin int `toml:"replicas_min" json:"replicas_min"`
	ReplicasMax int `toml:"replicas_max" json:"replicas_max"`
	// Peers are names or ids of peers to prefer.
	Peers []string `toml:"peers" json:"peers"`
	// CheckEvery is how often a mounted drive looks there for commits of other machines.
	CheckEvery duration `toml:"check_every" json:"check_every"`
}

// NetworkConfig is for the embedded node, when it has an Egress or is public.
type NetworkConfig struct {
	// Listen are the multiaddrs where peers may connect. Without any the node dials them,
	// and they fetch over its connections.
	Listen []string `toml:"listen" json:"listen"`
	// UploadKiB and DownloadKiB bound what goes to all peers and comes from them, in KiB
	// a second; 0 is no bound.
	UploadKiB   int `toml:"upload_kib" json:"upload_kib"`
	DownloadKiB int `toml:"download_kib" json:"download_kib"`
	// Public lets the node join the public network of IPFS nodes, without announcing blocks
	// of the drive: IPNS names are published and found there.
	Public bool `toml:"public" json:"public"`
	// Bootstrap are the nodes by which it joins; none stands for those that Kubo knows.
	Bootstrap []string `toml:"bootstrap" json:"bootstrap"`
	// DIDPrivate are ranges of addresses that are not public, from which the documents of
	// DIDs are fetched all the same.
	DIDPrivate []string `toml:"did_private" json:"did_private"`
}

// HorizonConfig is for the page.
type HorizonConfig struct {
	Enabled bool `toml:"enabled" json:"enabled"`
	// Listen is a loopback address and a port; port 0 is any that is free.
	Listen string `toml:"listen" json:"listen"`
	// MetricsTokenFile holds the bearer token for /metrics; without it there are no
	// metrics but over the control socket.
	MetricsTokenFile string `toml:"metrics_token_file" json:"metrics_token_file"`
}

type duration struct{ time.Duration }

// UnmarshalText reads "30s".
func (d *duration) UnmarshalText(b []byte) (err error) {
	d.Duration, err = time.ParseDuration(string(b))
	return err
}

// MarshalText writes "30s".
func (d duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// DefaultConfig is the configuration of a home without a file.
func DefaultConfig() Config {
	return Config{
		Durability: string(fs.DurabilityLocal), CacheMiB: 4096, CacheMinFreeMiB: 1024, MemoryMiB: 256, Deadline: duration{30 * time.Second},
		Egress:  EgressConfig{URL: []string{}, Peers: []string{}, CheckEvery: duration{30 * time.Second}},
		Network: NetworkConfig{Listen: []string{}, Bootstrap: []string{}, DIDPrivate: []string{}},
		Horizon: HorizonConfig{Enabled: true, Listen: "127.0.0.1:0"},
	}
}

// LoadConfig reads the configuration file of a home, and what the environment says
// instead; a file that is not there stands for the defaults.
func (h Home) LoadConfig() (Config, error) {
	c := DefaultConfig()
	b, err := safefile.ReadNamed(h.Config, configMax)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return c, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err == nil {
		if c, err = decodeConfig(h.Config, string(b), h.Drive); err != nil {
			return c, err
		}
	}
	if _, err := c.fromEnvironment(os.LookupEnv); err != nil {
		return c, err
	}
	return c, c.check(h.Config)
}

// decodeConfig reads a file over the defaults, as it counts for a drive. What it says for the
// others must be right too.
func decodeConfig(path, text, drive string) (Config, error) {
	first := DefaultConfig()
	meta, err := toml.Decode(text, &first)
	if err != nil {
		return first, fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
	}
	if err := unknown(path, &meta, ""); err != nil {
		return first, err
	}
	if kind := meta.Type("drive"); kind != "" && kind != "Hash" { // "" is the table that [drive.NAME] implies
		return first, fmt.Errorf("%w: %s: drive is no table of drives: want [drive.NAME]", ErrConfig, path)
	}
	chosen := first
	for _, name := range slices.Sorted(maps.Keys(first.Drives)) {
		where := path + ": [drive." + name + "]"
		if !driveName.MatchString(name) {
			return first, fmt.Errorf("%w: %s: a name has small letters, digits and -, at most 32", ErrConfig, where)
		}
		c := DefaultConfig()
		meta, err := toml.Decode(text, &c)
		if err == nil {
			own := c.Drives[name]
			c.Drives = nil
			c.Mountpoint = "" // no two drives share one
			err = meta.PrimitiveDecode(own, &c)
		}
		if err != nil {
			return first, fmt.Errorf("%w: %s: %w", ErrConfig, where, err)
		}
		if c.Drives != nil {
			return first, fmt.Errorf("%w: %s: a drive has no drives", ErrConfig, where)
		}
		if err := unknown(path, &meta, name); err != nil {
			return first, err
		}
		if err := c.check(where); err != nil {
			return first, err
		}
		if name == drive {
			chosen = c
		}
	}
	if drive != "" && !meta.IsDefined("drive", drive) {
		chosen.Mountpoint = ""
	}
	chosen.Drives = nil
	return chosen, nil
}

// unknown tells of keys that there are none, outside of drives or for one of them.
func unknown(path string, meta *toml.MetaData, drive string) error {
	known := DefaultConfig()
	var names []string
	for _, k := range meta.Undecoded() {
		prefix := ""
		if k[0] == "drive" {
			if len(k) < 3 || k[1] != drive {
				continue
			}
			prefix, k = "drive."+drive+".", k[2:]
		} else if drive != "" {
			continue
		}
		name := prefix + k.String()
		if near := nearest(k.String(), known.keys()); near != "" {
			name += " (did you mean " + near + "?)"
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s: unknown key %s", ErrConfig, path, strings.Join(names, ", "))
}

func knownDurability(s string) bool {
	_, err := fs.ParseDurability(s)
	return err == nil
}

func (c *Config) check(path string) error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrConfig, path, fmt.Sprintf(format, a...))
	}
	for _, f := range []struct{ key, file string }{
		{"ipfs_auth_file", c.IPFSAuthFile}, {"egress.ca_file", c.Egress.CAFile}, {"egress.auth_file", c.Egress.AuthFile},
		{"horizon.metrics_token_file", c.Horizon.MetricsTokenFile}, {"mountpoint", c.Mountpoint},
	} {
		if f.file != "" && !filepath.IsAbs(f.file) {
			return bad("%s is %q, but must be an absolute path", f.key, f.file)
		}
	}
	e := &c.Egress
	switch {
	case !knownDurability(c.Durability):
		return bad("durability is %q, but must be local, ipfs or egress:N", c.Durability)
	case c.MemoryMiB < 32:
		return bad("memory_mib is %d, but must be 32 or more", c.MemoryMiB)
	case c.Deadline.Duration < time.Second:
		return bad("deadline is %v, but must be 1s or more", c.Deadline.Duration)
	case e.ReplicasMin < -1 || e.ReplicasMax < -1 || (e.ReplicasMin == -1) != (e.ReplicasMax == -1):
		return bad("egress.replicas_min and replicas_max are %d and %d, but must be 0 or more, or both -1", e.ReplicasMin, e.ReplicasMax)
	case e.ReplicasMax > 0 && e.ReplicasMin > e.ReplicasMax:
		return bad("egress.replicas_min is %d, more than replicas_max, %d", e.ReplicasMin, e.ReplicasMax)
	case c.Network.UploadKiB < 0 || c.Network.DownloadKiB < 0:
		return bad("network.upload_kib and download_kib must be 0 or more")
	}
	if err := (&ipfs.Network{Listen: c.Network.Listen}).Check(); err != nil {
		return bad("network.listen: %v", err)
	}
	if err := (&ipfs.Network{Bootstrap: c.Network.Bootstrap}).Check(); err != nil {
		return bad("network.bootstrap: %v", err)
	}
	if _, err := prefixes(c.Network.DIDPrivate); err != nil {
		return bad("network.did_private: %v", err)
	}
	if host, _, err := net.SplitHostPort(c.Horizon.Listen); err != nil || !net.ParseIP(host).IsLoopback() {
		return bad("horizon.listen is %q, but must be a loopback address and a port, as 127.0.0.1:0", c.Horizon.Listen)
	}
	for _, u := range e.URL {
		if !strings.HasPrefix(u, "http://") && !strings.HasPrefix(u, "https://") && !strings.HasPrefix(u, "unix://") {
			return bad("egress.url has %q, but wants http://HOST:PORT, https://HOST:PORT or unix:///PATH", u)
		}
	}
	if err := fuse.ParseOptions(c.MountOptions, &fuse.Options{}); err != nil {
		return bad("%v", err)
	}
	return nil
}
