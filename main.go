// Ipfscloud mounts a person's cloud storage as a drive: a tree in IPFS, encrypted on this
// machine, of which the owner logs in with a DID.
package main

import (
	"os"

	"github.com/cluster-labs/ipfscloud/daemon/cli"
)

func main() { os.Exit(cli.Run(os.Args)) }
