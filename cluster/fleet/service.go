package fleet

import (
	"context"
	"path/filepath"
	"time"
)

const clusterDir = "cluster"

// statePath is where a cluster peer keeps the pin set, within its directory. LevelDB syncs
// every write. Pebble, the service's default, keeps the last ones in the process, and the
// service never asks it to write them: a kill loses pins that were acknowledged.
const statePath = "leveldb"

// makePeer makes a cluster peer's identity and settings.
func makePeer(ctx context.Context, service, dir string) error {
	return run(ctx, dir, service, "--config", filepath.Join(dir, clusterDir),
		"init", "--consensus", "crdt", "--datastore", statePath)
}

// peerSettings are the settings of one cluster peer.
type peerSettings struct {
	name        string
	cluster     string
	secret      string
	listen      string // multiaddress
	announce    string // multiaddress
	api         string // multiaddress
	socket      string // of its Kubo
	cert, key   string
	credentials *credentials
	group       string
	trusted     []string // "*" is everybody
	peers       []string // multiaddresses
	timing      *Timing
}

// settlePeer makes a cluster peer one that answers nobody but who has the password,
// serves neither the IPFS proxy nor the pinning service, and gives the copies of a dead
// peer to others.
func settlePeer(dir string, p *peerSettings) error {
	t := p.timing
	return edit(filepath.Join(dir, clusterDir, "service.json"), func(c object) {
		cl := c.at("cluster")
		cl["peername"], cl["secret"] = p.name, p.secret
		cl["listen_multiaddress"] = []string{p.listen}
		cl["announce_multiaddress"] = []string{}
		if p.announce != p.listen {
			cl["announce_multiaddress"] = []string{p.announce}
		}
		cl["leave_on_shutdown"], cl["enable_relay_hop"] = false, false
		cl["peer_addresses"] = p.peers
		cl["disable_repinning"] = false
		// A pin says itself how many copies it wants; one that does not goes everywhere.
		cl["replication_factor_min"], cl["replication_factor_max"] = -1, -1
		cl["mdns_interval"] = "0s"
		cl["monitor_ping_interval"] = t.Ping.String()
		cl["peer_watch_interval"] = (5 * time.Second).String()
		cl["pin_recover_interval"] = t.Recover.String()
		cl["state_sync_interval"] = t.StateSync.String()
		// The defaults are for thousands of peers.
		pub := cl.at("pubsub")
		pub["heartbeat_interval"], pub["flood_publish"] = "1s", true

		c["consensus"] = map[string]any{"crdt": map[string]any{
			"cluster_name": p.cluster, "trusted_peers": p.trusted,
			"batching":             map[string]any{"max_batch_size": 0, "max_batch_age": "0s"},
			"repair_interval":      "1h0m0s",
			"rebroadcast_interval": t.Rebroadcast.String(),
		}}

		rest := c.at("api", "restapi")
		rest["http_listen_multiaddress"] = p.api
		rest["basic_auth_credentials"] = map[string]string{p.credentials.Username: p.credentials.Password}
		rest["cors_allowed_origins"], rest["cors_allowed_methods"] = []string{}, []string{}
		rest["cors_allow_credentials"] = false
		delete(rest, "ssl_cert_file")
		delete(rest, "ssl_key_file")
		if p.cert != "" {
			rest["ssl_cert_file"], rest["ssl_key_file"] = p.cert, p.key
		}
		c["api"] = map[string]any{"restapi": map[string]any(rest)}

		ipfs := c.at("ipfs_connector", "ipfshttp")
		ipfs["node_multiaddress"] = "/unix" + p.socket
		ipfs["connect_swarms_delay"] = t.SwarmConnect.String()
		ipfs["ipfs_request_timeout"] = "1m0s"
		ipfs["pin_timeout"] = t.PinStall.String()

		c.at("monitor", "pubsubmon")["check_interval"] = t.Check.String()
		c["allocator"] = map[string]any{"balanced": map[string]any{
			"allocate_by": []string{"tag:group", "freespace"},
		}}
		ttl := t.MetricTTL.String()
		c["informer"] = map[string]any{
			"disk": map[string]any{"metric_ttl": ttl, "metric_type": "freespace"},
			"tags": map[string]any{"metric_ttl": ttl, "tags": map[string]any{"group": p.group}},
		}
	})
}
