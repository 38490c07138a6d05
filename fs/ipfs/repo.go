package ipfs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	flatfs "github.com/ipfs/go-ds-flatfs"
	lockfile "github.com/ipfs/go-fs-lock"
	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/core/coreiface/options"
	"github.com/ipfs/kubo/repo"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/ipfs/kubo/repo/fsrepo/migrations"
	"github.com/ipfs/kubo/repo/fsrepo/migrations/common"
	mg16 "github.com/ipfs/kubo/repo/fsrepo/migrations/fs-repo-16-to-17/migration"
	mg17 "github.com/ipfs/kubo/repo/fsrepo/migrations/fs-repo-17-to-18/migration"
	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// lockDir keeps other stores of ours off a directory, in this process too, where Kubo's
// own lock would hand out the same repo twice. The kernel drops it with the process. The
// returned file is the directory.
func lockDir(dir, what string) (*os.File, error) {
	f, err := safefile.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	var sys error
	err = conn.Control(func(fd uintptr) { sys = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB) })
	if err == nil && errors.Is(sys, unix.EWOULDBLOCK) {
		err = fmt.Errorf("the %s %s is in use by another daemon: %w", what, dir, fs.ErrBusy)
	} else if err == nil {
		err = os.NewSyscallError("flock", sys)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// settings are those of a node's settings that its user chooses.
type settings struct {
	apiAddr string   // multiaddr of the RPC; "" for none
	network *Network // nil: offline
}

// openRepo opens the repo in dir; it is made on first use and brought to the version and
// the settings we need. lock is dir, locked.
func openRepo(dir string, set settings, lock *os.File) (repo.Repo, error) {
	if err := registerDatastores(); err != nil {
		return nil, err
	}
	made, err := repoMade(dir)
	if err != nil {
		return nil, err
	}
	if !made {
		if err := makeRepo(dir, set); err != nil {
			return nil, fmt.Errorf("make the IPFS repo %s: %w", dir, err)
		}
		if err := syncFS(lock); err != nil {
			return nil, err
		}
	}
	if err := upgradeRepo(dir, lock); err != nil {
		return nil, err
	}
	if err := settle(dir, set); err != nil {
		return nil, fmt.Errorf("settings of the IPFS repo %s: %w", dir, err)
	}
	if err := mendShards(dir); err != nil {
		return nil, err
	}
	r, err := fsrepo.Open(dir)
	if errors.As(err, new(lockfile.LockedError)) {
		return nil, busyRepo(dir)
	} else if err != nil {
		return nil, fmt.Errorf("open the IPFS repo %s: %w", dir, err)
	}
	if !made {
		if err := syncFS(lock); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return r, nil
}

func busyRepo(dir string) error {
	return fmt.Errorf("the IPFS repo %s is in use by another IPFS node: %w", dir, fs.ErrBusy)
}

// repoMade reports whether dir holds a whole repo. What a process left that died while it
// made one is removed: it holds no block yet.
func repoMade(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, blocksDir))
	if err == nil {
		return true, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	if v, err := migrations.RepoVersion(dir); err == nil && v > 0 && fsrepo.IsInitialized(dir) {
		if _, err := os.Stat(filepath.Join(dir, "datastore_spec")); err == nil {
			return true, nil
		}
	}
	for _, name := range []string{"config", "datastore_spec", "version"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// newIdentity draws the key by which other nodes know this one.
func newIdentity() (config.Identity, error) {
	return config.CreateIdentity(io.Discard, []options.KeyGenerateOption{options.Key.Type(options.Ed25519Key)})
}

func makeRepo(dir string, set settings) error {
	id, err := newIdentity()
	if err != nil {
		return err
	}
	conf, err := config.InitWithIdentity(id)
	if err != nil {
		return err
	}
	conf.Datastore.Spec = datastoreSpec()
	harden(conf, set)
	return fsrepo.Init(dir, conf)
}

// settle brings the settings of an older repo, or of one that a person has edited, to
// those we rely on. Kubo's own way to store settings keeps what was in a map, and with it
// the resolvers that an upgrade puts there.
func settle(dir string, set settings) error {
	if locked, err := fsrepo.LockedByOtherProcess(dir); err != nil {
		return err
	} else if locked {
		return busyRepo(dir)
	}
	path, err := config.Filename(dir, "")
	if err != nil {
		return err
	}
	have, err := safefile.ReadFile(path)
	if err != nil {
		return err
	}
	var conf config.Config
	if err := json.Unmarshal(have, &conf); err != nil {
		return err
	}
	if n := set.network; n != nil && len(n.Listen) == 0 && !n.Public {
		// Nobody dials this node, so nobody needs to know it again. A copy of the repo that is in
		// use elsewhere must be another node: peers would send it what this one asks for.
		if conf.Identity, err = newIdentity(); err != nil {
			return err
		}
	}
	harden(&conf, set)
	want, err := config.Marshal(&conf)
	if err != nil || bytes.Equal(bytes.TrimSpace(have), bytes.TrimSpace(want)) {
		return err
	}
	return safefile.Replace(path, want)
}

// harden turns off all that would speak to a network of itself or announce anything, and the caches
// that would hide from a writer that a block on disk is damaged.
func harden(c *config.Config, set settings) {
	c.Addresses = config.Addresses{
		Swarm: []string{}, Announce: []string{}, AppendAnnounce: []string{}, NoAnnounce: []string{},
		API: config.Strings{}, Gateway: config.Strings{},
	}
	if set.apiAddr != "" {
		c.Addresses.API = config.Strings{set.apiAddr}
	}
	c.Bootstrap = []string{}
	c.AutoConf.Enabled = config.False
	c.AutoTLS.Enabled = config.False
	c.Discovery.MDNS.Enabled = false
	c.DNS.Resolvers = map[string]string{}
	c.Ipns.DelegatedPublishers = []string{}
	c.Routing.Type = config.NewOptionalString("none")
	c.Routing.DelegatedRouters = []string{}
	c.Provide.Enabled = config.False
	c.HTTPRetrieval.Enabled = config.False
	c.Bitswap.ServerEnabled = config.False
	c.Swarm.DisableNatPortMap = true
	c.Swarm.RelayClient.Enabled = config.False
	c.Swarm.RelayService.Enabled = config.False
	c.Version.SwarmCheckEnabled = config.False
	if c.Plugins.Plugins == nil {
		c.Plugins.Plugins = make(map[string]config.Plugin)
	}
	c.Plugins.Plugins["telemetry"] = config.Plugin{Disabled: true}
	c.Datastore.BloomFilterSize = 0
	c.Datastore.BlockKeyCacheSize = *config.NewOptionalInteger(0)
	c.Datastore.WriteThrough = config.True
	c.Import.CidVersion = *config.NewOptionalInteger(1)
	c.AutoNAT.ServiceMode = config.AutoNATServiceDisabled
	c.Swarm.EnableHolePunching = config.False
	c.Internal.Bitswap = nil
	set.network.apply(c)
}

// mendShards writes the file again that tells flatfs how it names its directories, if a
// power cut has emptied it: flatfs makes it, without a sync, when a repo is first opened.
func mendShards(dir string) error {
	blocks := filepath.Join(dir, blocksDir)
	if made, err := fileExists(blocks); err != nil || !made {
		return err
	}
	path := filepath.Join(blocks, flatfs.SHARDING_FN)
	have, err := safefile.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(bytes.TrimSpace(have)) > 0 {
		return nil
	}
	spec, err := safefile.ReadFile(filepath.Join(dir, "datastore_spec"))
	if err != nil {
		return err
	}
	if !bytes.Contains(spec, []byte(shardFunc)) {
		return nil // not a repo that we made
	}
	return safefile.Replace(path, []byte(shardFunc+"\n"))
}

// embeddedMigrations are the steps this Kubo can make without a download, by the version
// they begin at.
func embeddedMigrations() map[int]common.Migration {
	return map[int]common.Migration{16: mg16.Migration, 17: mg17.Migration}
}

// upgradeRepo brings the repo in dir to the version of this Kubo.
func upgradeRepo(dir string, lock *os.File) (err error) {
	have, err := migrations.RepoVersion(dir)
	if err != nil {
		return fmt.Errorf("version of the IPFS repo %s: %w", dir, err)
	}
	want := fsrepo.RepoVersion
	if have == want {
		return nil
	}
	if have > want {
		return fmt.Errorf("the IPFS repo %s has version %d, made by a newer program than this, which has version %d: %w",
			dir, have, want, fs.ErrNotSupported)
	}
	steps := embeddedMigrations()
	for v := have; v < want; v++ {
		if steps[v] == nil {
			return fmt.Errorf("the IPFS repo %s has version %d; this program can upgrade from version 16 on: %w",
				dir, have, fs.ErrNotSupported)
		}
	}
	held, err := lockfile.Lock(dir, fsrepo.LockFile)
	if errors.As(err, new(lockfile.LockedError)) {
		return busyRepo(dir)
	} else if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	for v := have; v < want; v++ {
		if err := steps[v].Apply(common.Options{Path: dir}); err != nil {
			return fmt.Errorf("upgrade the IPFS repo %s from version %d: %w", dir, v, err)
		}
	}
	return syncFS(lock)
}
