package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

const (
	repoDir    = "ipfs"
	blocksPath = "pebbleds"
	makeTime   = time.Minute // for making one identity or repo
)

// environment is all that a child gets: no variable of the caller may change its settings.
func environment(dir string) []string {
	return []string{
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"HOME=" + dir,
		"IPFS_PATH=" + filepath.Join(dir, repoDir),
		"IPFS_TELEMETRY=off",
		"DO_NOT_TRACK=1",
	}
}

// run runs a program of a node to its end.
func run(ctx context.Context, dir, program string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, makeTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = environment(dir)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(program), args[0], errors.Join(ctx.Err(), err), bytes.TrimSpace(out))
	}
	return nil
}

// makeRepo makes a Kubo's repo and identity.
//
// Blocks lie in Pebble: its Sync, which Kubo's pinner calls before it says that something
// is pinned, reaches the disk, and so what a peer reports as pinned survives a power cut.
func makeRepo(ctx context.Context, ipfs, dir string) error {
	return run(ctx, dir, ipfs, "init", "--empty-repo", "--algorithm=ed25519", "--profile=pebbleds")
}

// object is a part of a JSON document of which we set some members and keep the others.
type object map[string]any

// at returns the object at a path, made where it is missing.
func (o object) at(path ...string) object {
	for _, name := range path {
		next, ok := o[name].(map[string]any)
		if !ok {
			next = make(map[string]any)
			o[name] = next
		}
		o = next
	}
	return o
}

// edit changes a JSON document in a file.
func edit(path string, change func(object)) error {
	b, err := safefile.ReadFile(path)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var doc map[string]any
	if err := d.Decode(&doc); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	change(doc)
	return writeJSON(path, doc)
}

// kuboSettings are the settings of one node's Kubo that differ from node to node.
type kuboSettings struct {
	socket   string
	listen   string // multiaddress
	announce string // multiaddress
	storage  uint64
	peers    []kuboPeer
}

type kuboPeer struct {
	ID    string
	Addrs []string
}

// settleRepo makes a Kubo a private one: its RPC is a socket in our directory, it has no
// gateway, looks nobody up and tells nobody anything, and knows the peers it is given.
func settleRepo(dir string, k *kuboSettings) error {
	off := map[string]any{"Enabled": false}
	none := []any{}
	return edit(filepath.Join(dir, repoDir, "config"), func(c object) {
		announce := none
		if k.announce != k.listen {
			announce = []any{k.announce}
		}
		c["Addresses"] = map[string]any{
			"API": []any{"/unix" + k.socket}, "Gateway": none, "Swarm": []any{k.listen},
			"Announce": announce, "AppendAnnounce": none, "NoAnnounce": none,
		}
		c["Bootstrap"] = none
		c["AutoConf"], c["AutoTLS"], c["HTTPRetrieval"] = off, off, off
		c["AutoNAT"] = map[string]any{"ServiceMode": "disabled"}
		c["DNS"] = map[string]any{"Resolvers": map[string]any{}}
		c["Discovery"] = map[string]any{"MDNS": off}
		c["Routing"] = map[string]any{"Type": "none", "DelegatedRouters": none}
		c["Provide"] = off
		c.at("Ipns")["DelegatedPublishers"] = none
		c.at("Version")["SwarmCheckEnabled"] = false
		c.at("Plugins", "Plugins")["telemetry"] = map[string]any{"Disabled": true}
		swarm := c.at("Swarm")
		swarm["DisableNatPortMap"], swarm["EnableHolePunching"] = true, false
		swarm["RelayClient"], swarm["RelayService"] = off, off
		// Nobody can be looked up, so blocks are found by asking all who are connected.
		c.at("Internal", "Bitswap")["BroadcastControl"] = map[string]any{"Enable": false}
		c.at("Internal")["ShutdownTimeout"] = "15s"
		store := c.at("Datastore")
		store["StorageMax"] = fmt.Sprintf("%dB", k.storage)
		store["StorageGCWatermark"], store["GCPeriod"] = 90, "1h"
		peers := make([]any, 0, len(k.peers))
		for _, p := range k.peers {
			peers = append(peers, p)
		}
		c.at("Peering")["Peers"] = peers
	})
}
