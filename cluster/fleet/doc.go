// Package fleet runs Egress nodes: each is a real Kubo daemon and the IPFS Cluster peer
// that tells it what to keep. It makes their identities and settings, starts them,
// watches over them and ends them.
//
// A fleet lives in one directory, of one supervisor at a time:
//
//	fleet.json        what there is: nodes, ports, ids, the supervisor. No secret.
//	credentials.json  the cluster's secret, and the password of its API
//	fleet.sock        where the supervisor is asked and told to stop
//	lock              held by the supervisor
//	tls/              the certificate of the API, if it has one
//	node1/ipfs        the repo of a Kubo; its RPC is on the socket node1/rpc.sock alone
//	node1/cluster     settings and state of the cluster peer
//
// The children die with the supervisor, also when it is killed.
//
// It imports nothing of this project and speaks to the nodes over HTTP alone. It never
// pins, chooses what is kept, or knows what a vault is.
package fleet

import "errors"

var (
	// ErrConfig is a setting that cannot work.
	ErrConfig = errors.New("bad configuration")
	// ErrNone says that a directory holds no fleet.
	ErrNone = errors.New("no fleet here")
	// ErrBusy says that another supervisor runs the fleet.
	ErrBusy = errors.New("the fleet is running already")
	// ErrNotRunning says that no supervisor runs the fleet.
	ErrNotRunning = errors.New("the fleet is not running")
	// ErrBinaries says that a program is missing or is not one that this package can run.
	ErrBinaries = errors.New("a program of the Egress node is missing or unfit")
	// ErrStart says that a node did not come up.
	ErrStart = errors.New("the fleet did not come up")
	// ErrToken is a text that is no token, or a damaged one.
	ErrToken = errors.New("not a token of an Egress fleet")

	errPortsTaken = errors.New("another program took a port")
)
