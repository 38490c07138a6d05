package cluster

import (
	"fmt"
	"strings"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
)

// What of the REST API's answers we read. Everything is a string that may hold anything:
// a peer with an address, or an ID, of a kind that our libraries do not know is a peer.

type wireVersion struct {
	Version string `json:"version"`
}

type wirePin struct {
	CID         string            `json:"cid"`
	Name        string            `json:"name"`
	Allocations []string          `json:"allocations"`
	Min         int               `json:"replication_factor_min"`
	Max         int               `json:"replication_factor_max"`
	ExpireAt    time.Time         `json:"expire_at"`
	Metadata    map[string]string `json:"metadata"`
	Timestamp   time.Time         `json:"timestamp"`
}

// everywhere says that each peer is allocated.
func (p *wirePin) everywhere() bool { return p.Min == -1 && p.Max == -1 }

func (p *wirePin) expires() time.Time {
	if p.ExpireAt.Unix() <= 0 { // the API's zero is one of two
		return time.Time{}
	}
	return p.ExpireAt
}

func (p *wirePin) found() Found {
	return Found{
		CID: p.CID, Name: p.Name, Metadata: p.Metadata, Created: p.Timestamp, Expires: p.expires(),
		Allocations: p.Allocations,
	}
}

type wireStatus struct {
	CID         string               `json:"cid"`
	Name        string               `json:"name"`
	Allocations []string             `json:"allocations"`
	Created     time.Time            `json:"created"`
	Metadata    map[string]string    `json:"metadata"`
	Peers       map[string]wireState `json:"peer_map"`
}

type wireState struct {
	Name     string    `json:"peername"`
	Status   string    `json:"status"`
	Time     time.Time `json:"timestamp"`
	Error    string    `json:"error"`
	Attempts int       `json:"attempt_count"`
	IPFS     string    `json:"ipfs_peer_id"`
}

type wirePeer struct {
	ID      string   `json:"id"`
	Name    string   `json:"peername"`
	Version string   `json:"version"`
	Error   string   `json:"error"`
	Sees    []string `json:"cluster_peers"`
	IPFS    struct {
		ID        string   `json:"id"`
		Addresses []string `json:"addresses"`
		Error     string   `json:"error"`
	} `json:"ipfs"`
}

type wireMetric struct {
	Name       string `json:"name"`
	Peer       string `json:"peer"`
	Value      string `json:"value"`
	Expire     int64  `json:"expire"`
	Valid      bool   `json:"valid"`
	ReceivedAt int64  `json:"received_at"`
}

type wireAlert struct {
	wireMetric
	TriggeredAt time.Time `json:"triggered_at"`
}

type wireGraph struct {
	Links map[string][]string `json:"cluster_links"`
}

// The statuses that peers report, as IPFS Cluster writes them.
type status = api.TrackerStatus

const (
	statusPinned               = api.TrackerStatusPinned
	statusPinning              = api.TrackerStatusPinning
	statusPinQueued            = api.TrackerStatusPinQueued
	statusPinError             = api.TrackerStatusPinError
	statusUnpinned             = api.TrackerStatusUnpinned
	statusUnexpectedlyUnpinned = api.TrackerStatusUnexpectedlyUnpinned
	statusClusterError         = api.TrackerStatusClusterError
	statusRemote               = api.TrackerStatusRemote
)

func statusFrom(s string) status { return api.TrackerStatusFromString(s) }

// options is what a pin is asked for with.
type options struct {
	name     string
	metadata map[string]string
	min, max int
	prefer   []string // IDs of peers
	update   string   // a CID
	origins  []string
	expires  time.Time
}

// maxQuery is how long the options of a pin may be: the REST API takes 4 KiB of header
// and some, and the credentials are part of that.
const maxQuery = 5 << 10

// maxOrigins is how many origins IPFS Cluster dials.
const maxOrigins = 10

// query is the options as IPFS Cluster itself writes them. What cannot be an origin or a
// peer's ID is left out.
func (o *options) query() (string, error) {
	po := api.PinOptions{
		ReplicationFactorMin: o.min, ReplicationFactorMax: o.max,
		Name: o.name, Metadata: o.metadata, ExpireAt: o.expires,
		UserAllocations: api.StringsToPeers(o.prefer),
	}
	if o.update != "" {
		from, err := api.DecodeCid(o.update)
		if err != nil {
			return "", err
		}
		po.PinUpdate = from
	}
	for _, s := range o.origins {
		if !strings.Contains(s, "/p2p/") {
			continue
		}
		if m, err := api.NewMultiaddr(s); err == nil && len(po.Origins) < maxOrigins {
			po.Origins = append(po.Origins, m)
		}
	}
	for {
		q, err := po.ToQuery()
		if err != nil || len(q) <= maxQuery {
			return q, err
		}
		if len(po.Origins) == 0 {
			return "", fmt.Errorf("%w: name and metadata of a pin are %d bytes long", ErrConfig, len(q))
		}
		po.Origins = po.Origins[:len(po.Origins)-1]
	}
}
