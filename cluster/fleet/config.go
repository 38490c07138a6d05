package fleet

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"
)

// Config says what a fleet is to be. Of a fleet that exists, the zero value of a field
// keeps what is there.
type Config struct {
	Dir      string
	Peers    int // nodes in Dir; more than there are adds some
	Binaries Binaries
	Log      *slog.Logger // nil is silence
	// Name is what new nodes are called; several get numbers. By default "node".
	Name string

	// Listen is the address for the nodes' traffic among each other, 127.0.0.1 by
	// default. Anything else makes a real node: fixed ports, patient timing.
	Listen string
	// Announce is the address or DNS name at which others reach Listen; needed if that is
	// an unspecified one.
	Announce string
	// APIListen is the address of the cluster's REST API, 127.0.0.1 by default. Any that
	// is not of this machine alone turns TLS on.
	APIListen string
	TLS       bool
	// Ports are those of the first node; of a real node 4001, 9096 and 9094 by default,
	// else any.
	Ports Ports
	// TrustAll makes each peer that knows the secret a full member, whose word on the pin
	// set counts. Else only the fleet's own nodes, and those named with Trust, are; others
	// may hold copies.
	TrustAll bool
	// Group is the failure domain of these nodes: copies are spread over groups first.
	Group string
	// Storage is how many bytes a node offers; by default its share of 80 % of what is free.
	Storage uint64
	// Timing is Local for loopback, Wide else.
	Timing *Timing
	// StartTimeout bounds how long Up waits for all nodes; two minutes by default, ten for
	// a real node.
	StartTimeout time.Duration
}

// Ports are the TCP ports of a node.
type Ports struct {
	Swarm   int `json:"swarm"`   // Kubo to Kubo
	Cluster int `json:"cluster"` // cluster peer to cluster peer
	API     int `json:"api"`     // the REST API
}

func (p *Ports) list() []*int { return []*int{&p.Swarm, &p.Cluster, &p.API} }

// Timing says how soon things are noticed and done again.
type Timing struct {
	Ping         time.Duration `json:"ping"`          // a peer silent for twice this is dead
	Check        time.Duration `json:"check"`         // how often that is looked at
	MetricTTL    time.Duration `json:"metric_ttl"`    // free space and group, told twice in this time
	Recover      time.Duration `json:"recover"`       // what should be pinned and is not is tried again
	StateSync    time.Duration `json:"state_sync"`    // the pin set is compared with what is pinned
	Rebroadcast  time.Duration `json:"rebroadcast"`   // the pin set's heads are told again
	PinStall     time.Duration `json:"pin_stall"`     // a pin without progress gives up
	SwarmConnect time.Duration `json:"swarm_connect"` // Kubos are connected this long after the start
}

// Local is for a fleet on one machine: a dead peer is noticed within about five seconds.
func Local() Timing {
	return Timing{
		Ping: 2 * time.Second, Check: time.Second, MetricTTL: 4 * time.Second,
		Recover: 10 * time.Second, StateSync: 30 * time.Second, Rebroadcast: 3 * time.Second,
		PinStall: 20 * time.Second, SwarmConnect: time.Second,
	}
}

// Wide is for machines of their own: a peer is dead after a minute of silence, so that
// the restart of a service moves no data.
func Wide() Timing {
	return Timing{
		Ping: 30 * time.Second, Check: 15 * time.Second, MetricTTL: time.Minute,
		Recover: 5 * time.Minute, StateSync: 5 * time.Minute, Rebroadcast: time.Minute,
		PinStall: 2 * time.Minute, SwarmConnect: 5 * time.Second,
	}
}

func (t *Timing) check() error {
	for _, d := range []time.Duration{t.Ping, t.Check, t.MetricTTL, t.Recover, t.StateSync,
		t.Rebroadcast, t.PinStall, t.SwarmConnect} {
		if d <= 0 {
			return fmt.Errorf("%w: a timing of %v", ErrConfig, d)
		}
	}
	return nil
}

// place is where a fleet's nodes listen and are found.
type place struct {
	Listen    string `json:"listen"`
	Announce  string `json:"announce"`
	APIListen string `json:"api_listen"`
}

func (p *place) loopback() bool { return loopback(p.Listen) }

func loopback(addr string) bool {
	a, err := netip.ParseAddr(addr)
	return err == nil && a.IsLoopback()
}

// settle fills in what is not said, and refuses what cannot work.
func (p *place) settle() error {
	if p.Listen == "" {
		p.Listen = "127.0.0.1"
	}
	if p.APIListen == "" {
		p.APIListen = "127.0.0.1"
	}
	if _, err := netip.ParseAddr(p.APIListen); err != nil {
		return fmt.Errorf("%w: the API's address %q: %w", ErrConfig, p.APIListen, err)
	}
	a, err := netip.ParseAddr(p.Listen)
	if err != nil {
		return fmt.Errorf("%w: the address %q to listen on: %w", ErrConfig, p.Listen, err)
	}
	if p.Announce == "" && a.IsUnspecified() {
		return fmt.Errorf("%w: %s is no address that others can reach: say which is", ErrConfig, p.Listen)
	}
	if p.Announce == "" {
		p.Announce = p.Listen
	}
	if b, err := netip.ParseAddr(p.Announce); err == nil && b.IsUnspecified() {
		return fmt.Errorf("%w: %s is no address that others can reach", ErrConfig, p.Announce)
	} else if err != nil && !isDNSName(p.Announce) {
		return fmt.Errorf("%w: %q is neither an address nor a DNS name", ErrConfig, p.Announce)
	}
	return nil
}

// isDNSName is strict enough that the name fits into a multiaddress and a certificate.
func isDNSName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) || len(label) > 63 {
			return false
		}
	}
	return true
}

func isLabel(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return s != "" && s[0] != '-' && s[len(s)-1] != '-'
}

// checkName is for what becomes a directory, a peer's name or a group.
func checkName(s string) error {
	if !isLabel(s) || len(s) > 32 {
		return fmt.Errorf("%w: the name %q: letters, digits and dashes, at most 32", ErrConfig, s)
	}
	return nil
}

// tcp is the multiaddress of a port at a host.
func tcp(host string, port int) string {
	kind := "dns"
	if a, err := netip.ParseAddr(host); err == nil && a.Is4() {
		kind = "ip4"
	} else if err == nil {
		kind = "ip6"
	}
	return fmt.Sprintf("/%s/%s/tcp/%d", kind, host, port)
}
