package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// Node is one node of a running fleet.
type Node struct {
	state   nodeState
	dir     string
	socket  string
	at      place
	remote  client // the REST API
	kubo    *child
	service *child
	logs    []*logFile
}

func newNode(f *Fleet, n nodeState) (*Node, error) {
	node := &Node{state: n, dir: filepath.Join(f.dir, n.Name), socket: f.socketOf(n.Name), at: f.state.Place}
	node.remote = f.client(n)
	var err error
	open := func(name string) *logFile {
		l, e := openLog(filepath.Join(node.dir, name+".log"), logLimit)
		err = errors.Join(err, e)
		node.logs = append(node.logs, l)
		return l
	}
	log := f.log.With(slog.String("node", n.Name))
	node.kubo = newChild(repoDir, f.spawner, f.hurry, log, node.kuboCommand(f.binaries.IPFS, open(repoDir)))
	node.service = newChild(clusterDir, f.spawner, f.hurry, log, node.serviceCommand(f.binaries.ClusterService, f.state.Timing.PinStall, open(clusterDir)))
	if err != nil {
		return nil, errors.Join(err, node.closeLogs())
	}
	return node, nil
}

func (n *Node) kuboCommand(program string, out *logFile) func() (*exec.Cmd, error) {
	return func() (*exec.Cmd, error) {
		// A killed daemon leaves its socket, and the next one could not listen.
		if err := os.Remove(n.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		return n.command(program, out, "daemon", "--enable-gc", "--migrate"), nil
	}
}

// stallEnv tells our part of the service when to end an update of a pin; httpunix reads it.
const stallEnv = "IPFSCLOUD_PIN_STALL"

func (n *Node) serviceCommand(program string, stall time.Duration, out *logFile) func() (*exec.Cmd, error) {
	return func() (*exec.Cmd, error) {
		cmd := n.command(program, out, "--config", filepath.Join(n.dir, clusterDir), "daemon")
		cmd.Env = append(cmd.Env, stallEnv+"="+stall.String())
		return cmd, nil
	}
}

func (n *Node) command(program string, out *logFile, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = n.dir, environment(n.dir)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// Name is the node's name within its fleet, which is its directory too.
func (n *Node) Name() string { return n.state.Name }

// Peer is the id of the cluster peer.
func (n *Node) Peer() string { return n.state.Peer }

// IPFS is the id of the Kubo.
func (n *Node) IPFS() string { return n.state.IPFS }

// Dir is where the node keeps everything.
func (n *Node) Dir() string { return n.dir }

// RPC is the socket of the Kubo's RPC, which is for this user alone.
func (n *Node) RPC() string { return n.socket }

// API is the URL of the cluster's REST API at this node.
func (n *Node) API() string { return n.remote.base }

// ClusterAddrs are the multiaddresses of the cluster peer, with its id.
func (n *Node) ClusterAddrs() []string {
	return []string{tcp(n.at.Announce, n.state.Ports.Cluster) + "/p2p/" + n.state.Peer}
}

// IPFSAddrs are the multiaddresses of the Kubo, with its id.
func (n *Node) IPFSAddrs() []string {
	return []string{tcp(n.at.Announce, n.state.Ports.Swarm) + "/p2p/" + n.state.IPFS}
}

// PIDs are the processes of the Kubo and of the cluster peer; 0 is one that is not running.
func (n *Node) PIDs() (ipfs, peer int) { return n.kubo.view().pid, n.service.view().pid }

// Start starts what is not running and returns when the node answers.
func (n *Node) Start(ctx context.Context) error {
	if err := n.kubo.do(ctx, orderRun); err != nil {
		return err
	}
	if err := poll(ctx, n.kuboAnswers); err != nil {
		return fmt.Errorf("%w: Kubo of %s: %w%s", ErrStart, n.Name(), err, n.lastLines(repoDir))
	}
	if err := n.service.do(ctx, orderRun); err != nil {
		return err
	}
	if err := poll(ctx, n.answers); err != nil {
		return fmt.Errorf("%w: cluster peer of %s: %w%s", ErrStart, n.Name(), err, n.lastLines(clusterDir))
	}
	return nil
}

// Stop ends the node cleanly; it stays down until Start.
func (n *Node) Stop(ctx context.Context) error { return n.order(ctx, orderStop) }

// Halt kills the node, as a power cut would; it stays down until Start.
func (n *Node) Halt(ctx context.Context) error { return n.order(ctx, orderHalt) }

// Kill kills both processes of the node; the supervisor starts them again.
func (n *Node) Kill(ctx context.Context) error { return n.order(ctx, orderCrash) }

func (n *Node) order(ctx context.Context, kind orderKind) error {
	return errors.Join(n.service.do(ctx, kind), n.kubo.do(ctx, kind))
}

// Wipe loses all blocks and pins of the node, as a broken disk would. The identities, and
// what the cluster peer knows, stay. If the node was running, it runs again with an empty
// repo.
func (n *Node) Wipe(ctx context.Context) error {
	return n.without(ctx, n.kubo, filepath.Join(n.dir, repoDir, blocksPath), n.kuboAnswers)
}

// WipeState loses what the cluster peer knows of the pin set; it learns it again from the
// others.
func (n *Node) WipeState(ctx context.Context) error {
	return n.without(ctx, n.service, filepath.Join(n.dir, clusterDir, statePath), n.answers)
}

func (n *Node) without(ctx context.Context, c *child, path string, answers func(context.Context) error) error {
	running := c.view().wanted
	if err := c.do(ctx, orderStop); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil || !running {
		return err
	}
	if err := c.do(ctx, orderRun); err != nil {
		return err
	}
	return poll(ctx, answers)
}

// kuboAnswers asks the Kubo who it is.
func (n *Node) kuboAnswers(ctx context.Context) error {
	var id struct{ ID string }
	kubo := unixClient(n.socket)
	defer kubo.http.CloseIdleConnections()
	if err := kubo.post(ctx, "/api/v0/id", &id); err != nil {
		return err
	}
	if id.ID != n.state.IPFS {
		return fmt.Errorf("%w: another Kubo answers: %s", ErrStart, id.ID)
	}
	return nil
}

// answers asks the cluster peer who it is, and whether it reaches its Kubo.
func (n *Node) answers(ctx context.Context) error {
	var id peerID
	if err := n.remote.get(ctx, "/id", &id); err != nil {
		return err
	}
	if id.ID != n.state.Peer || id.IPFS.ID != n.state.IPFS || id.Error != "" || id.IPFS.Error != "" {
		return fmt.Errorf("%w: %s with Kubo %s %s%s", ErrStart, id.ID, id.IPFS.ID, id.Error, id.IPFS.Error)
	}
	return nil
}

// sees asks whether the cluster peer sees all these peers, and knows of each what it
// needs to give it pins.
func (n *Node) sees(ctx context.Context, want []string) error {
	seen := make(map[string]bool)
	ids, err := n.remote.peers(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		seen[id.ID] = id.Error == "" && id.IPFS.Error == ""
	}
	for _, name := range []string{"freespace", "tag:group"} {
		known, err := n.remote.metric(ctx, name)
		if err != nil {
			return err
		}
		for id, ok := range seen {
			seen[id] = ok && known[id]
		}
	}
	missing := 0
	for _, id := range want {
		if !seen[id] {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("%w: %s does not see %d of %d peers yet", ErrStart, n.Name(), missing, len(want))
	}
	return nil
}

// crashes is how often a child of the node ended by itself, or could not be started.
func (n *Node) crashes() int { return n.kubo.view().restarts + n.service.view().restarts }

func (n *Node) closeLogs() error {
	var err error
	for _, l := range n.logs {
		if l != nil {
			err = errors.Join(err, l.close())
		}
	}
	return err
}

// lastLines is the end of a child's log, for an error that a person reads.
func (n *Node) lastLines(name string) string {
	const show = 600
	b, err := safefile.ReadFile(filepath.Join(n.dir, name+".log"))
	if err != nil || len(b) == 0 {
		return ""
	}
	return "\n" + string(b[max(0, len(b)-show):])
}

// poll asks until the answer is good.
func poll(ctx context.Context, ask func(context.Context) error) error {
	for wait := 20 * time.Millisecond; ; wait = min(wait*3/2, 500*time.Millisecond) {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}
