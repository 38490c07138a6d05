package fleet

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Info is what other programs need of a fleet, whether it runs or not.
type Info struct {
	Dir       string
	Cluster   string
	Endpoints []Endpoint
	Username  string
	Password  string
	CAFile    string // the certificate that the API shows; empty without TLS
	Running   bool   // a supervisor runs it
	PID       int    // of the supervisor
}

// Endpoint is the REST API of one node.
type Endpoint struct {
	Node, Peer, URL string
	ClusterAddrs    []string
	IPFSAddrs       []string // for the node that wants its data pinned: whom to dial
}

// Load reads what there is in a fleet's directory.
func Load(dir string) (*Info, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s, c, err := readState(dir)
	if err != nil {
		return nil, err
	}
	i := s.info(dir, c)
	i.Running, err = running(dir)
	if !i.Running {
		i.PID = 0
	}
	return i, err
}

func (s *state) info(dir string, c *credentials) *Info {
	i := &Info{Dir: dir, Cluster: s.Cluster, Username: c.Username, Password: c.Password}
	if s.TLS {
		i.CAFile = filepath.Join(dir, tlsDir, "cert.pem")
	}
	if s.Running != nil {
		i.PID = s.Running.PID
	}
	for _, n := range s.Nodes {
		i.Endpoints = append(i.Endpoints, Endpoint{
			Node: n.Name, Peer: n.Peer, URL: s.apiURL(n),
			ClusterAddrs: []string{tcp(s.Place.Announce, n.Ports.Cluster) + "/p2p/" + n.Peer},
			IPFSAddrs:    []string{tcp(s.Place.Announce, n.Ports.Swarm) + "/p2p/" + n.IPFS},
		})
	}
	return i
}

// apiURL is the REST API of a node, as this machine reaches it.
func (s *state) apiURL(n nodeState) string {
	scheme := "http://"
	if s.TLS {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(dialable(s.Place.APIListen), strconv.Itoa(n.Ports.API))
}

// Info tells of the running fleet what Load reads of its directory.
func (f *Fleet) Info() *Info {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.state.info(f.dir, f.credentials)
	i.Running = f.state.Running != nil
	return i
}

// Endpoints are the URLs of the nodes' REST APIs.
func (f *Fleet) Endpoints() []string {
	urls := make([]string, 0, len(f.nodes))
	for _, n := range f.nodes {
		urls = append(urls, n.API())
	}
	return urls
}

// The states of a node.
const (
	StateUp      = "up"      // both processes run and answer
	StateFailing = "failing" // it should run, and does not answer (yet)
	StateStopped = "stopped" // nobody wants it to run
)

// Status is how a fleet is doing now.
type Status struct {
	Dir     string       `json:"dir"`
	Cluster string       `json:"cluster"`
	PID     int          `json:"pid"` // of the supervisor; 0 when the fleet is not running
	Since   time.Time    `json:"since,omitzero"`
	Nodes   []NodeStatus `json:"nodes"`
}

// NodeStatus is how a node is doing now.
type NodeStatus struct {
	Name         string        `json:"name"`
	Peer         string        `json:"peer"`
	IPFS         string        `json:"ipfs"`
	API          string        `json:"api"`
	ClusterAddrs []string      `json:"cluster_addrs"`
	IPFSAddrs    []string      `json:"ipfs_addrs"`
	State        string        `json:"state"`
	Problem      string        `json:"problem,omitempty"`
	Sees         int           `json:"sees"` // peers that answer it, itself included
	Kubo         ProcessStatus `json:"kubo_process"`
	Service      ProcessStatus `json:"peer_process"`
}

// ProcessStatus is how one process of a node is doing now.
type ProcessStatus struct {
	PID      int       `json:"pid"`
	Since    time.Time `json:"since,omitzero"`
	Restarts int       `json:"restarts"`
	LastExit string    `json:"last_exit,omitempty"`
}

const statusTime = 3 * time.Second // for asking one node

// Status asks all nodes, at once.
func (f *Fleet) Status(ctx context.Context) Status {
	f.mu.Lock()
	s := f.state.status(f.dir)
	if r := f.state.Running; r != nil {
		s.PID, s.Since = r.PID, r.Since
	}
	f.mu.Unlock()
	var all sync.WaitGroup
	for i, n := range f.nodes {
		all.Go(func() { n.status(ctx, &s.Nodes[i]) })
	}
	all.Wait()
	return s
}

func (s *state) status(dir string) Status {
	out := Status{Dir: dir, Cluster: s.Cluster}
	for _, e := range s.info(dir, &credentials{}).Endpoints {
		out.Nodes = append(out.Nodes, NodeStatus{
			Name: e.Node, Peer: e.Peer, API: e.URL, State: StateStopped,
			ClusterAddrs: e.ClusterAddrs, IPFSAddrs: e.IPFSAddrs,
		})
	}
	for i, n := range s.Nodes {
		out.Nodes[i].IPFS = n.IPFS
	}
	return out
}

func (n *Node) status(ctx context.Context, s *NodeStatus) {
	kubo, service := n.kubo.view(), n.service.view()
	s.Kubo, s.Service = kubo.status(), service.status()
	if !kubo.wanted && !service.wanted {
		s.State = StateStopped
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	s.State = StateFailing
	err := n.answers(ctx)
	if err == nil {
		var ids []peerID
		if ids, err = n.remote.peers(ctx); err == nil {
			s.State = StateUp
		}
		for _, id := range ids {
			if id.Error == "" {
				s.Sees++
			}
		}
	}
	if err != nil {
		s.Problem = err.Error()
	}
}

func (v *childView) status() ProcessStatus {
	s := ProcessStatus{PID: v.pid, Restarts: v.restarts, LastExit: v.lastExit}
	if v.pid != 0 {
		s.Since = v.since
	}
	return s
}
